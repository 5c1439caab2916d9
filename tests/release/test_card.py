"""gemma_metamon/release/card.py: a card tells what the run knows, and what others named stays text in it."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from support.registries import run_files

from gemma_metamon.errors import MissingFileError
from gemma_metamon.release.card import TERMS, find_results, write_card
from gemma_metamon.release.contents import Contents, Facts
from gemma_metamon.results import schema
from gemma_metamon.results.schema import ContestantRow, EvaluationResults, PairRow, TrainingEvaluation, counts_of

UPDATES = (800, 1200, 1600)
HOSTILE = "<script>alert(1)</script> | [x](javascript:alert(1)) ```\n---\nlicense: mit"


def contents(folder: Path, *, base: str | None = "google/gemma-3-270m", label: str = "first@3") -> Contents:
    facts = Facts(
        kind="agent",
        label=label,
        base=base,
        progress={"epoch": 3, "updates": 1200},
        learnt={"formats": ["gen1ou", HOSTILE], "seed": 0},
        config="x.y = 1\n```\n# Not a heading",
    )
    return Contents(facts=facts, run_dir=folder, epoch=3, files=run_files(folder))


def pair(player: str, opponent: str) -> PairRow:
    counts = vars(counts_of(wins=60, losses=40, ties=0, turns=4000, choices=900, refused=0))
    return PairRow(player=player, opponent=opponent, **counts)


def write_results(folder: Path, player: str = "first@3", opponent: str = "DuelTrainer") -> Path:
    counts = vars(counts_of(wins=60, losses=40, ties=0, turns=4000, choices=900, refused=0))
    rows = [ContestantRow(name=name, kind="scripted", rating=None, **counts) for name in (player, opponent)]
    folder.mkdir(exist_ok=True)
    results = EvaluationResults(
        format="gen1ou",
        seed=0,
        seconds=1.0,
        battles_per_pair=100,
        unfinished=None,
        contestants=rows,
        pairs=[pair(player, opponent)],
    )
    schema.write(folder / "results.json", results)
    return folder


def test_a_card_tells_licence_base_data_and_results_with_their_intervals(tmp_path: Path) -> None:
    made = contents(tmp_path / "run")
    line = TrainingEvaluation(epoch=3, format="gen9ou", seconds=1.0, pairs=[pair("first@3", "RandomPlayer")])
    other = TrainingEvaluation(epoch=2, format="gen2ou", seconds=1.0, pairs=[pair("first@2", "RandomPlayer")])
    text = "".join(json.dumps(asdict(each)) + "\n" for each in (other, line))
    (tmp_path / "run" / "evaluations.jsonl").write_text(text)
    lines = [{"update": 1200, "loss/total": 1.0}, *({"update": at, "held_out/agreement": at / 2000} for at in UPDATES)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = find_results(made, [write_results(tmp_path / "league")])
    card = write_card("best", made, results)
    data = ModelCard(card).data
    assert (data.license, data.license_link, data.base_model) == ("gemma", TERMS, "google/gemma-3-270m")
    assert [each.metric_value for each in data.eval_results] == [0.6, 0.6]
    assert "Gemma Terms of Use" in card
    # Wilson's interval of 60 of 100
    assert "| gen1ou | DuelTrainer | 100 | 60.0% | 50.2% to 69.1% | 0 |" in card
    assert "| gen9ou | RandomPlayer | 100 |" in card
    assert "gen2ou" not in card
    assert "| updates | 1200 |" in card
    assert "## On held-out decisions\n\n| measure | value |\n| --- | --- |\n| agreement | 0.6 |\n\n" in card
    assert "A policy that plays" in card  # nobody said that it learnt by critics


def test_random_weights_are_not_said_to_be_gemmas(tmp_path: Path) -> None:
    made = contents(tmp_path, base=None)
    card = write_card("tiny", made, find_results(made))
    assert ModelCard(card).data.license is None
    assert "hold nothing of Google's Gemma" in card
    assert "None were registered with it." in card


def test_what_others_named_is_text_in_a_card(tmp_path: Path) -> None:
    made = contents(tmp_path / "run", label=HOSTILE, base=HOSTILE)
    results = [*find_results(made, [write_results(tmp_path / "league", HOSTILE, f"{HOSTILE} too")])]
    card = write_card("best", made, results)
    assert "<script" not in card.split("\n---\n", 1)[1].split("## Configuration")[0]
    data = ModelCard(card).data
    assert data.license == "gemma"  # what stands in a name ends no front matter
    body = card.split("## Configuration")[1]
    assert body.count("````") == 2  # the block is opened and closed once, by a fence that it does not hold


def test_results_of_somebody_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="holds no battles of first@3; it holds those of second@1"):
        find_results(contents(tmp_path / "run"), [write_results(tmp_path / "league", "second@1")])
