"""The number that a trial is judged by, as its run writes it down while it trains."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Final

from gemma_metamon.results.json_lines import read_json_lines, read_rows
from gemma_metamon.results.schema import TrainingEvaluation
from gemma_metamon.runs.run_folder import EVALUATIONS, METRICS

WIN_RATE: Final = "win_rate"
"""The mean share of battles won in the evaluations of one epoch, of all formats and opponents (`--eval_gens`)."""


def read_values(run_dir: Path, metric: str) -> dict[int, float]:
    """The finite values so far: update -> value, of win_rate epoch -> value; in order.

    Raises DataError where a line of the file holds something else.
    """
    if metric == WIN_RATE:
        return _win_rates(run_dir / EVALUATIONS)
    path = run_dir / METRICS
    lines = read_json_lines(path) if path.is_file() else []
    values = {line["update"]: line[metric] for line in lines if metric in line and "update" in line}
    return {
        update: float(value)
        for update, value in sorted(values.items())
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _win_rates(path: Path) -> dict[int, float]:
    rates: defaultdict[int, list[float]] = defaultdict(list)
    for evaluation in read_rows(TrainingEvaluation, path) if path.is_file() else []:
        rates[evaluation.epoch] += [pair.win_rate for pair in evaluation.pairs if pair.win_rate is not None]
    return {epoch: sum(found) / len(found) for epoch, found in sorted(rates.items()) if found}


def known_metrics(run_dir: Path) -> list[str]:
    """What a run has written down, for an error about what it has not."""
    path = run_dir / METRICS
    names = {name for line in (read_json_lines(path) if path.is_file() else []) for name in line}
    return sorted(names - {"update"}) + ([WIN_RATE] if (run_dir / EVALUATIONS).is_file() else [])
