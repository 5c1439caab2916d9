"""The number that a trial is judged by, read from what its run has written down."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from gemma_metamon.errors import DataError
from gemma_metamon.results.schema import PairRow, TrainingEvaluation, counts_of
from gemma_metamon.sweeps.objective import WIN_RATE, known_metrics, read_values


def evaluation(epoch: int, battle_format: str, wins: int) -> str:
    counts = counts_of(wins=wins, losses=4 - wins, ties=0, turns=0, choices=0, refused=0)
    pair = PairRow(player="run@1", opponent="RandomPlayer", **vars(counts))
    row = TrainingEvaluation(epoch=epoch, format=battle_format, seconds=1.0, pairs=[pair])
    return json.dumps(asdict(row)) + "\n"


def test_values_are_finite_in_order_and_whole_lines(tmp_path: Path) -> None:
    assert read_values(tmp_path, "score") == {}
    lines = [
        '{"update": 20, "score": 2.0}',
        '{"update": 10, "score": 1}',
        '{"update": 30, "score": NaN}',
        '{"update": 4',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert list(read_values(tmp_path, "score").items()) == [(10, 1.0), (20, 2.0)]
    assert known_metrics(tmp_path) == ["score"]
    (tmp_path / "metrics.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match="line 1"):
        read_values(tmp_path, "score")


def test_the_win_rate_is_the_mean_over_an_epochs_formats(tmp_path: Path) -> None:
    assert read_values(tmp_path, WIN_RATE) == {}
    lines = evaluation(1, "gen1ou", 1) + evaluation(1, "gen9ou", 3) + evaluation(2, "gen1ou", 4)
    (tmp_path / "evaluations.jsonl").write_text(lines)
    assert read_values(tmp_path, WIN_RATE) == {1: 0.5, 2: 1.0}
    assert known_metrics(tmp_path) == [WIN_RATE]
