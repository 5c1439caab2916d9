"""Evaluation while training: new checkpoints play in a process of their own, which training does not wait for.

The process is `gemma-metamon evaluate`: training needs no server, and an evaluation that fails does not touch it. It
runs at low priority and in one thread, so as to leave training its processors.
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from gemma_metamon.child_processes import start_command
from gemma_metamon.errors import DataError
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.results.schema import EvaluationReport, TrainingEvaluation
from gemma_metamon.runs.checkpoints import Checkpoint, list_checkpoints
from gemma_metamon.runs.run_folder import EVALUATIONS
from gemma_metamon.strict_json import parse_json_object, read_dataclass

logger = logging.getLogger(__name__)

NICENESS = 10
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What is played after an epoch: so many battles against each opponent in each format, on a device."""

    every: int
    last_epoch: int
    formats: Sequence[str]
    opponents: Sequence[str]
    battles: int
    device: str

    def is_due(self, epoch: int) -> bool:
        """After every so many epochs, and after the last; not of the untrained network."""
        return epoch > 0 and (epoch % self.every == 0 or epoch == self.last_epoch)

    def command(self, run_dir: Path, epoch: int, battle_format: str) -> list[str]:
        """The command line that plays an epoch's checkpoint in a format, and prints an EvaluationReport as JSON."""
        command = [sys.executable, "-m", "gemma_metamon", "evaluate", "--run_dir", str(run_dir), "--ckpt", str(epoch)]
        command += ["--format", battle_format, "--opponents", *self.opponents, "--battles", str(self.battles)]
        return [*command, "--workers", "1", "--device", self.device, "--json"]


def find_missed(run_dir: Path, plan: EvaluationPlan) -> dict[int, tuple[str, ...]]:
    """What was in play or waited when a training was stopped: epoch -> the formats that are left, in order.

    Due epochs whose checkpoint is there, from the newest one on of which something was played: checkpoints play in
    order, and one before it that did not play was passed over.
    """
    path = run_dir / EVALUATIONS
    try:
        played = {(row.epoch, row.format) for row in (read_rows(TrainingEvaluation, path) if path.is_file() else [])}
    except DataError as error:
        logger.warning("what a stop has left unplayed is not known: %s", error)
        return {}
    newest = max((epoch for epoch, _ in played), default=0)
    left = {
        epoch: tuple(one for one in plan.formats if (epoch, one) not in played)
        for epoch in list_checkpoints(run_dir)
        if epoch >= newest and plan.is_due(epoch)
    }
    return {epoch: formats for epoch, formats in left.items() if formats}


class Evaluations:
    """Plays checkpoints one at a time, in the order in which they come. A context manager: its end waits for the last.

    At most one waits while another plays. A newer one takes its place, so that the numbers stay close to the training
    however slow the battles are; the checkpoint that was passed over is named in the log. What an earlier stop has left
    unplayed comes first.

    Args:
        run_dir: the run whose checkpoints these are.
        plan: what to play.
        on_result: called from another thread with what was played.
        missed: of `find_missed`.
    """

    def __init__(
        self,
        run_dir: Path,
        plan: EvaluationPlan,
        on_result: Callable[[TrainingEvaluation], None],
        missed: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._plan = plan
        self._on_result = on_result
        self.done = 0
        self.failed = 0
        self._changed = threading.Condition()
        # guarded by _changed
        self._missed: dict[int, Sequence[str]] = dict(missed or {})
        self._waiting: int | None = None
        self._playing: int | None = None
        self._process: subprocess.Popen[str] | None = None
        self._ending = False
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="evaluations", daemon=True)

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Takes note of a new checkpoint, and returns at once."""
        epoch = checkpoint.epoch
        if not self._plan.is_due(epoch):
            return
        with self._changed:
            if self._waiting is not None:
                logger.info("epoch %d is not evaluated: epoch %d is newer", self._waiting, epoch)
            self._waiting = epoch
            self._changed.notify()

    def in_use(self) -> list[int]:
        """The epochs whose checkpoints are played now or wait for it."""
        with self._changed:
            return self._left()

    def _left(self) -> list[int]:
        return [epoch for epoch in (self._playing, *self._missed, self._waiting) if epoch is not None]

    def __enter__(self) -> "Evaluations":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()
            left = [str(epoch) for epoch in self._left()]
        if kind is not None:
            self._stop()
            return
        if left:
            logger.info("waiting for the evaluation of epoch %s (ctrl-C ends it)", " and ".join(left))
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self._stop()
            raise
        if self.failed:
            logger.warning("%d of %d evaluations failed", self.failed, self.failed + self.done)

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(_STOP_TIMEOUT_S)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._playing = None
                self._changed.wait_for(
                    lambda: self._missed or self._waiting is not None or self._ending or self._stopped
                )
                if self._stopped:
                    return
                formats = self._plan.formats
                if self._missed:
                    epoch = min(self._missed)
                    formats = self._missed.pop(epoch)
                elif self._waiting is not None:
                    epoch, self._waiting = self._waiting, None
                else:
                    return
                self._playing = epoch
            for battle_format in formats:
                self._evaluate(epoch, battle_format)

    def _evaluate(self, epoch: int, battle_format: str) -> None:
        started = time.monotonic()
        with self._changed:
            if self._stopped:
                return
            process = self._process = _start(self._plan.command(self._run_dir, epoch, battle_format), self._plan.device)
        output, complaints = process.communicate()
        with self._changed:
            self._process = None
            if self._stopped:
                return
        try:
            if process.returncode != 0:
                raise ValueError(complaints.strip().rpartition("\n")[2] or f"it ended with {process.returncode}")
            printed = read_dataclass(EvaluationReport, parse_json_object(output))
            played = TrainingEvaluation(epoch=epoch, format=battle_format, seconds=printed.seconds, pairs=printed.pairs)
            self._on_result(played)
        except (ValueError, OSError) as error:
            self.failed += 1
            logger.warning("the evaluation of epoch %d in %s failed: %s", epoch, battle_format, error)
            return
        self.done += 1
        wins = ", ".join(f"{pair.win_rate or 0:.0%} against {pair.opponent}" for pair in played.pairs)
        logger.info("epoch %d wins %s in %s (%.0f s)", epoch, wins, battle_format, time.monotonic() - started)


def _start(command: list[str], device: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""  # or it would take some of the training's memory for nothing
    process = start_command(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # an interrupt in the terminal reaches training alone, which then ends this
    )
    if hasattr(os, "setpriority"):
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    return process
