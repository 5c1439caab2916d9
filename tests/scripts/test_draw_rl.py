"""scripts/draw_rl.py: charts from made-up results, and what is not there is left out."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import draw_rl
import pytest
from draw_rl import by_forks, by_opponent, compared, of_seeds, read_rows
from matplotlib.figure import Figure

from gemma_metamon.errors import DataError
from gemma_metamon.intervals import wilson_interval
from gemma_metamon.reports.charts import Estimate, Panel, curves

ROWS = [
    {"contender": "target", "opponent": "imitation", "wins": [6, 7], "share": 0.65, "battles": 20}
    | {"wilson": [0.43, 0.82], "of_seeds": [0.02, 1.0]},
    {"contender": "critic", "opponent": "imitation", "wins": [9], "share": 0.9, "battles": 10}
    | {"wilson": [0.6, 0.98], "of_seeds": None},
    {"contender": "target", "opponent": "DuelTrainer", "wins": [2, 1], "share": 0.15, "battles": 20}
    | {"wilson": [0.05, 0.36], "of_seeds": [0.0, 0.8]},
]  # fmt: skip

PARTS = [
    {"player": f"LookaheadTrainer(forks={forks}, turns=2)", "opponent": "DuelTrainer", "wins": wins, "battles": battles}
    for forks, wins, battles in ((32, 20, 40), (8, 25, 100), (32, 40, 80))
]

Run = Callable[..., list[str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The script with these arguments; the names of what it wrote, which are PNG files."""

    def run_script(*arguments: Any) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["draw_rl.py", *map(str, arguments), "--out", str(tmp_path / "docs")])
        draw_rl.main()
        written = [Path(line) for line in capsys.readouterr().out.splitlines()]
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
        return [path.name for path in written]

    return run_script


def write_run(folder: Path, lines: list[dict[str, float]]) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def metrics(*aucs: float) -> list[dict[str, float]]:
    return [{"update": 10 * i, "held_out/value_auc_1_2": auc, "policy_entropy": 1.0} for i, auc in enumerate(aucs)]


def test_what_is_there_is_drawn_and_the_rest_is_left_out(run: Run, tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    assert run("--bench", bench, "--improve", tmp_path / "improved", "--search", tmp_path / "search") == []
    write_run(bench / "runs" / "target-1", metrics(0.5, 0.7))
    assert run("--bench", bench) == ["bench_curves.png"]
    (bench / "table.json").write_text(json.dumps(ROWS), encoding="utf-8")
    assert run("--bench", bench, "--contenders", "critic") == ["bench_table.png"]
    search = tmp_path / "search"
    search.mkdir()
    (search / "parts.jsonl").write_text("".join(f"{json.dumps(part)}\n" for part in PARTS), encoding="utf-8")
    assert run("--bench", bench, "--search", search) == ["bench_table.png", "bench_curves.png", "search_forks.png"]


def test_a_bar_has_the_interval_that_counts_the_seeds_where_there_are_several(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(json.dumps(ROWS), encoding="utf-8")
    assert by_opponent(read_rows(tmp_path / "table.json")) == {
        "against imitation": {"target": Estimate(0.65, 0.02, 1.0), "critic": Estimate(0.9, 0.6, 0.98)},
        "against DuelTrainer": {"target": Estimate(0.15, 0.0, 0.8)},
    }


def test_a_curve_is_the_mean_of_the_seeds_where_all_of_them_have_a_number() -> None:
    curve = of_seeds("held_out/value_auc_1_2", "target", [metrics(0.5, 0.7, 0.8), metrics(0.6, 0.9)])
    assert (curve.label, curve.x) == ("target", [0, 10])
    assert curve.y == pytest.approx([0.55, 0.8])
    assert curve.bands == [(0.5, 0.6), (0.7, 0.9)]


def test_a_contender_has_one_colour_in_all_panels_and_one_place_in_the_legend() -> None:
    imitation = [{"update": 0, "policy_entropy": 1.5}, {"update": 10, "policy_entropy": 1.0}]
    runs = {"imitation": [imitation], "target": [metrics(0.5, 0.7), metrics(0.6, 0.8)]}
    panels = compared(runs, ["held_out/value_auc_1_2", "filter_share", "policy_entropy"])  # nobody has the second
    assert [panel.title for panel in panels] == ["AUC of the result half-way, by the critics", "Entropy of the policy"]
    figure: Figure = curves(*panels)
    first, second = figure.axes
    colours = {line.get_label(): line.get_color() for line in second.get_lines()}
    assert [line.get_color() for line in first.get_lines()] == [colours["target"]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["target", "imitation"]


def test_three_panels_leave_no_empty_axes() -> None:
    panels = [Panel(title="t", x_label="x", y_label="y", lines=[draw_rl.Curve("a", [0, 1], [0, 1])])] * 3
    assert [axes.get_visible() for axes in curves(*panels).axes] == [True, True, True, False]


def test_the_parts_of_a_searcher_are_one_point_and_its_forks_are_in_order() -> None:
    (line,) = by_forks(PARTS).lines
    assert line.label == "LookaheadTrainer(forks, turns=2) against DuelTrainer"
    assert (line.x, line.y) == ([8, 32], [0.25, 0.5])
    assert line.bands == [wilson_interval(25, 100), wilson_interval(60, 120)]
    with pytest.raises(DataError, match="part 1 is of no searcher"):
        by_forks([{"player": "DuelTrainer", "opponent": "DuelTrainer", "wins": 1, "battles": 2}])


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"contender": "a", "opponent": "b", "share": 1}]', "["])
def test_what_is_no_table_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"table\.json"):
        read_rows(tmp_path / "table.json")
