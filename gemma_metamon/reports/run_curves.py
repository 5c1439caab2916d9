"""Charts of a training run, from the numbers in its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gemma_metamon.errors import DataError
from gemma_metamon.reports.charts import Curve, curves
from gemma_metamon.results.json_lines import read_json_lines, read_rows
from gemma_metamon.results.schema import PairRow, TrainingEvaluation
from gemma_metamon.strict_json import shown, shown_path

LOSSES = {"loss/actor": "actor", "loss/critic": "critics", "loss/total": "total"}
"""The total last, and dashed: where the critics are not trained it lies on the actor's."""


def run_charts(run_dir: Path) -> list[tuple[Figure, str]]:
    """What there is to draw of metrics.jsonl and evaluations.jsonl, each with what it shows.

    Raises DataError for a line that holds something else; it names the line and the field.
    """
    metrics = _read_metrics(run_dir / "metrics.jsonl")
    figures = []
    losses = [line for name, label in LOSSES.items() if (line := _over_updates(metrics, name, label)).x]
    if losses:
        figures.append((curves("Losses", "update", "loss", losses), "Losses over the updates of the run"))
    agreement = _over_updates(metrics, "held_out/agreement", "agreement")
    if agreement.x:
        figure = curves("Agreement with held-out recorded actions", "update", "actions (%)", [agreement], percent=True)
        figures.append((figure, "Share of held-out recorded actions that the agent agrees with, over updates"))
    evaluations = run_dir / "evaluations.jsonl"
    played = read_rows(TrainingEvaluation, evaluations) if evaluations.is_file() else []
    for battle_format, lines in _win_rates(played).items():
        figure = curves(f"Battles won in {battle_format}", "epoch", "battles won (%)", lines, percent=True)
        figures.append((figure, f"Battles won in {battle_format} over epochs, with bands of 95 % intervals"))
    return figures


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines, of which the numbers that are drawn are numbers."""
    metrics = read_json_lines(path)
    for number, line in enumerate(metrics, start=1):
        for name in ("update", *LOSSES, "held_out/agreement"):
            value = line.get(name, None if name == "update" else 0.0)
            if type(value) not in ((int,) if name == "update" else (int, float)):
                raise DataError(f"line {number} of {shown_path(path)}: {name} is {shown(value)}; expected a number")
    return metrics


def _over_updates(metrics: Sequence[dict[str, Any]], name: str, label: str) -> Curve:
    # a run that was resumed has written some updates twice: the later line holds
    points = {line["update"]: line[name] for line in metrics if name in line}
    return Curve(label, sorted(points), [points[update] for update in sorted(points)], dashed=name == "loss/total")


def _win_rates(evaluations: Sequence[TrainingEvaluation]) -> dict[str, list[Curve]]:
    """For each format a curve for each opponent."""
    points: dict[tuple[str, str], dict[int, PairRow]] = {}
    for evaluation in evaluations:
        for pair in evaluation.pairs:
            if pair.battles:
                points.setdefault((evaluation.format, pair.opponent), {})[evaluation.epoch] = pair
    lines: dict[str, list[Curve]] = {}
    for (battle_format, opponent), pairs in points.items():
        epochs = sorted(pairs)
        rates = [pairs[epoch].wins / pairs[epoch].battles for epoch in epochs]
        bands = [pairs[epoch].interval_95 for epoch in epochs]
        lines.setdefault(battle_format, []).append(Curve(opponent, epochs, rates, bands))
    return lines
