"""Charts of a training run, from the numbers in its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gemma_metamon.reports.charts import Curve, curves
from gemma_metamon.reports.json_lines import read_json_lines

LOSSES = {"loss/total": "total", "loss/actor": "actor", "loss/critic": "critics"}


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
    if evaluations.is_file():
        win_rates = _win_rates(read_json_lines(evaluations))
        if win_rates:
            figure = curves("Battles won after each epoch", "epoch", "battles won (%)", win_rates, percent=True)
            figures.append((figure, "Battles won against each opponent over epochs, with bands of 95 % intervals"))
    return figures


def _over_updates(metrics: Sequence[dict[str, Any]], name: str, label: str) -> Curve:
    # a run that was resumed has written some updates twice: the later line holds
    points = {line["update"]: line[name] for line in metrics if name in line}
    return Curve(label, sorted(points), [points[update] for update in sorted(points)])


def _win_rates(evaluations: Sequence[dict[str, Any]]) -> list[Curve]:
    """A curve for each opponent and format."""
    points: dict[str, dict[int, dict[str, Any]]] = {}
    for evaluation in evaluations:
        for pair in evaluation["pairs"]:
            if pair["battles"]:
                label = f"{evaluation['format']}, {pair['opponent']}"
                points.setdefault(label, {})[evaluation["epoch"]] = pair
    lines = []
    for label, pairs in points.items():
        epochs = sorted(pairs)
        rates = [pairs[epoch]["win_rate"] for epoch in epochs]
        lines.append(Curve(label, epochs, rates, [tuple(pairs[epoch]["interval_95"]) for epoch in epochs]))
    return lines
