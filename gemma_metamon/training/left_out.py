"""The record of updates that were left out because their loss or gradient was NaN or infinite: RUN/not_finite.jsonl."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gemma_metamon.atomic_files import append_whole

MAX_LEFT_OUT: Final = 10
"""With so many updates in a row left out, training stops."""


def record_left_out(
    path: Path, update: int, losses: Sequence[float], grad_norm: float, describe: Callable[[int], dict[str, Any]]
) -> None:
    """Writes down what an update that was left out held: of the batches with a loss that is not finite, or of all.

    Args:
        path: a JSON lines file, to which a line is added.
        update: its number, from 1.
        losses: one for each of its batches.
        grad_norm: of all of them.
        describe: says what the batch of this number, from 0, holds.
    """
    guilty = [number for number, loss in enumerate(losses) if not math.isfinite(loss)] or range(len(losses))
    line = {
        "update": update,
        "grad_norm": str(grad_norm),  # JSON has no NaN
        "batches": [{"loss": str(losses[number]), **describe(number)} for number in guilty],
    }
    append_whole(path, json.dumps(line) + "\n")


def count_left_out(path: Path, updates: int) -> tuple[int, int]:
    """How many of a run's first updates were left out, and how many of its last ones in a row.

    Args:
        path: the record of it; without one nothing was left out.
        updates: that the run has made, those that were left out among them.
    """
    if not path.is_file():
        return 0, 0
    numbers = {json.loads(line)["update"] for line in path.read_text(encoding="utf-8").splitlines()}
    in_a_row = next(n for n in range(updates + 1) if updates - n not in numbers)
    return sum(number <= updates for number in numbers), in_a_row
