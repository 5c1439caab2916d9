"""Charts of a training run, from the numbers in its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gemma_metamon.reports.charts import Curve, curves
from gemma_metamon.reports.json_lines import read_json_lines

LOSSES = {"loss/actor": "actor", "loss/critic": "critics", "loss/total": "total"}
"""The total last, and dashed: where the critics are not trained it lies on the actor's."""


def run_charts(run_dir: Path) -> list[tuple[Figure, str]]:
    """What there is to draw of metrics.jsonl and evaluations.jsonl, each with what it shows.

    Raises DataError for a line that is not JSON.
    """
    metrics = read_json_lines(run_dir / "metrics.jsonl")
    figures = []
    losses = [line for name, label in LOSSES.items() if (line := _over_updates(metrics, name, label)).x]
    if losses:
        figures.append((curves("Losses", "update", "loss", losses), "Losses over the updates of the run"))
    agreement = _over_updates(metrics, "held_out/agreement", "agreement")
    if agreement.x:
        figure = curves("Agreement with held-out recorded actions", "update", "actions (%)", [agreement], percent=True)
        figures.append((figure, "Share of held-out recorded actions that the agent agrees with, over updates"))
    evaluations = run_dir / "evaluations.jsonl"
    for battle_format, lines in _win_rates(read_json_lines(evaluations) if evaluations.is_file() else []).items():
        figure = curves(f"Battles won in {battle_format}", "epoch", "battles won (%)", lines, percent=True)
        figures.append((figure, f"Battles won in {battle_format} over epochs, with bands of 95 % intervals"))
    return figures


def _over_updates(metrics: Sequence[dict[str, Any]], name: str, label: str) -> Curve:
    # a run that was resumed has written some updates twice: the later line holds
    points = {line["update"]: line[name] for line in metrics if name in line}
    return Curve(label, sorted(points), [points[update] for update in sorted(points)], dashed=name == "loss/total")


def _win_rates(evaluations: Sequence[dict[str, Any]]) -> dict[str, list[Curve]]:
    """For each format a curve for each opponent."""
    points: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for evaluation in evaluations:
        for pair in evaluation["pairs"]:
            if pair["battles"]:
                points.setdefault((evaluation["format"], pair["opponent"]), {})[evaluation["epoch"]] = pair
    lines: dict[str, list[Curve]] = {}
    for (battle_format, opponent), pairs in points.items():
        epochs = sorted(pairs)
        rates = [pairs[epoch]["win_rate"] for epoch in epochs]
        bands = [tuple(pairs[epoch]["interval_95"]) for epoch in epochs]
        lines.setdefault(battle_format, []).append(Curve(opponent, epochs, rates, bands))
    return lines
