"""One trial: a training in a process of its own, whose number is looked at while it trains."""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from gemma_metamon.child_processes import end_with_parent, signals_afterwards
from gemma_metamon.errors import DataError
from gemma_metamon.sweeps.objective import known_metrics, read_values

Main: TypeAlias = Callable[[Sequence[str]], int]
State = Literal["complete", "pruned", "failed", "killed"]

LOOK_EVERY_S: Final = 2.0
STOP_TIMEOUT_S: Final = 30.0
"""A training that is told to end may be writing a checkpoint."""
_ENDED_BY: Final = {
    *(-getattr(signal, name) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)),
    *(128 + number for number in (1, 2, 9, 15)),
}
"""Exit statuses of a training that somebody ended: nothing was wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a trial.

    Attributes:
        state: `failed` is set aside, `killed` may be tried again.
        value: of the metric; None where it is neither complete nor pruned.
        reason: why there is no value; empty where there is one.
    """

    state: State
    value: float | None = None
    reason: str = ""


def run_trial(
    main: Main,
    arguments: Sequence[str],
    run_dir: Path,
    log: Path,
    metric: str,
    *,
    best_of: Callable[[Sequence[float]], float],
    should_stop: Callable[[int, float], bool],
) -> Outcome:
    """`gemma-metamon ARGUMENTS` in a process of its own, which ends with this one.

    Args:
        main: the command line.
        arguments: of a training.
        run_dir: its run's folder.
        log: the file that takes what it prints.
        metric: see `read_values`.
        best_of: makes one number of all values of the run, in order.
        should_stop: asked with each new value and its update or epoch, whether the trial is not worth going on with.
    """
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(main, list(arguments), log))
    seen: dict[int, float] = {}
    pruned = False
    try:
        with signals_afterwards():
            process.start()
        while process.is_alive() and not pruned:
            process.join(LOOK_EVERY_S)
            for step, value in _values_so_far(run_dir, metric).items():
                if step not in seen and not pruned:
                    seen[step] = value
                    pruned = should_stop(step, value) and process.is_alive()
    finally:
        for harder in (process.terminate, process.kill):
            if process.pid is not None and process.is_alive():  # it came before there was a process
                harder()
                process.join(STOP_TIMEOUT_S)
    if pruned:
        return Outcome(state="pruned", value=best_of(list(seen.values())))
    return _judge(process.exitcode or 0, run_dir, log, metric, best_of)


def _judge(status: int, run_dir: Path, log: Path, metric: str, best_of: Callable[[Sequence[float]], float]) -> Outcome:
    """What became of a training that ended by itself, or was ended from outside."""
    if status in _ENDED_BY:
        return Outcome(state="killed", reason=f"its process was ended from outside (status {status})")
    if status:
        return Outcome(state="failed", reason=_last_line(log) or f"it ended with status {status}")
    try:
        values = list(read_values(run_dir, metric).values())
    except DataError as error:
        return Outcome(state="failed", reason=str(error))
    if not values:
        known = ", ".join(known_metrics(run_dir)) or "nothing"
        return Outcome(state="failed", reason=f"the run has no finite {metric}; it has {known}")
    return Outcome(state="complete", value=best_of(values))


def _values_so_far(run_dir: Path, metric: str) -> dict[int, float]:
    try:
        return read_values(run_dir, metric)
    except DataError as error:  # the end of the trial will tell, too
        logging.getLogger(__name__).debug("%s", error)
        return {}


def _train(main: Main, arguments: Sequence[str], log: Path) -> None:
    """In the new process."""
    end_with_parent()
    taken = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for number in (1, 2):
        os.dup2(taken, number)
    sys.exit(main(arguments))


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:500] if lines else ""
