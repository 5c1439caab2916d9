"""What a sweep leaves beside its runs: results.json, the best as a .gin file, a table, a picture."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.sweeps.space import Dimension, short_names
from gemma_metamon.sweeps.study import TrialRow

RESULTS: Final = "results.json"
BEST: Final = "best.gin"
PICTURE: Final = "parallel.png"


@dataclass(frozen=True, kw_only=True)
class SweepResults:
    """results.json of a sweep.

    Attributes:
        metric: that trials were judged by.
        direction: "max" or "min".
        trials: all that have ended, in order.
        best: the number of the best complete one, None where there is none.
    """

    metric: str
    direction: str
    trials: list[TrialRow]
    best: int | None


def collect(rows: Sequence[TrialRow], metric: str, direction: str) -> SweepResults:
    """With the best of the complete trials; of equals the first."""
    complete = [row for row in rows if row.state == "complete" and row.value is not None]
    sign = 1 if direction == "max" else -1
    best = max(complete, key=lambda row: sign * (row.value or 0.0), default=None)
    return SweepResults(
        metric=metric, direction=direction, trials=list(rows), best=None if best is None else best.number
    )


def trial_name(number: int) -> str:
    """Of its run."""
    return f"trial_{number:04}"


def write(folder: Path, results: SweepResults, dimensions: tuple[Dimension, ...], command: Sequence[str]) -> None:
    """results.json and, where a trial is complete, best.gin and the picture. Each whole or not at all.

    Args:
        folder: of the sweep.
        results: so far.
        dimensions: what was tried.
        command: the best trial's arguments of train; what stands in best.gin already is left out of them.
    """
    with written_whole(folder / RESULTS) as staged:
        staged.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    if results.best is None:
        return
    row = next(row for row in results.trials if row.number == results.best)
    config = (folder / trial_name(row.number) / "config.gin").read_text(encoding="utf-8")
    with written_whole(folder / BEST) as staged:
        staged.write_text(
            f"# The best of {len(results.trials)} trials: {trial_name(row.number)}, {results.metric} {row.value:.6g}.\n"
            f"# gemma-metamon {shlex.join(_without_gin(command, folder / BEST))}\n{config}",
            encoding="utf-8",
        )
    _draw(folder / PICTURE, results, dimensions)


def _without_gin(command: Sequence[str], best: Path) -> list[str]:
    """The arguments with best.gin in the place of the model's and the training's config and of the overrides."""
    kept: list[str] = []
    skips = False
    for argument in command:
        flag, equals, _ = argument.partition("=")
        if skips:
            skips = False
        elif flag in ("--model_gin_config", "--train_gin_config", "--gin_override", "--run_name", "--save_dir"):
            skips = not equals
        else:
            kept.append(argument)
    return [kept[0], "--model_gin_config", str(best), "--run_name", "NAME", "--save_dir", "DIR", *kept[1:]]


def as_table(results: SweepResults, dimensions: tuple[Dimension, ...]) -> str:
    """The trials, best first; those without a value at the end, with their reasons."""
    names = short_names(dimensions)
    sign = -1 if results.direction == "max" else 1
    rows = sorted(results.trials, key=lambda row: (row.value is None, sign * (row.value or 0.0), row.number))
    cells = [["trial", "state", results.metric, "seconds", *names.values()]]
    cells += [
        [
            f"{row.number}{' *' if row.number == results.best else ''}",
            row.state,
            "" if row.value is None else f"{row.value:.5g}",
            f"{row.seconds:.0f}",
            *(_short(row.values.get(name, "")) for name in names),
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    reasons = [f"trial {row.number}: {row.reason}" for row in rows if row.reason]
    return "\n".join(lines + reasons)


def _short(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def _draw(path: Path, results: SweepResults, dimensions: tuple[Dimension, ...]) -> None:
    from gemma_metamon.reports.charts import Axis, parallel_coordinates, save_png

    names = short_names(dimensions)
    varied = [dimension for dimension in dimensions if not dimension.is_fixed]
    rows = [row for row in results.trials if row.value is not None and len(row.values) == len(varied)]
    axes = [
        Axis(label=names[dimension.name], values=_on_axis(dimension, rows), log=dimension.is_log)
        for dimension in varied
    ]
    judged = Axis(label=results.metric, values=[row.value or 0.0 for row in rows], log=False)
    best = next((place for place, row in enumerate(rows) if row.number == results.best), None)
    save_png(parallel_coordinates([*axes, judged], best=best, title=f"{len(rows)} trials"), path)


def _on_axis(dimension: Dimension, rows: Sequence[TrialRow]) -> list[str] | list[float]:
    """Numbers where all are; choices among names stay texts."""
    written = [row.values[dimension.name] for row in rows]
    try:
        return [float(value) for value in written]
    except ValueError:
        return written
