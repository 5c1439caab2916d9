"""When a training is saved between epochs, what is saved of all its processes, and how it goes on from that."""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from gemma_metamon.atomic_files import sync
from gemma_metamon.errors import ConfigError
from gemma_metamon.runs import resuming
from gemma_metamon.runs.checkpoints import Checkpoint, write_checkpoint
from gemma_metamon.runs.identity import CheckpointMeta
from gemma_metamon.runs.keeping import Keeping, keep
from gemma_metamon.runs.shards import make_whole
from gemma_metamon.strict_json import shown
from gemma_metamon.training.meter import Meter
from gemma_metamon.training.random_states import random_states, restore_random_states, seed_by_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SaveEvery:
    """How often a training is saved besides after each epoch; with neither, not at all.

    Attributes:
        updates: whenever the run has made a multiple of so many.
        minutes: when so many have passed since it was saved last, by a clock that nobody sets.
    """

    updates: int | None = None
    minutes: float | None = None

    @classmethod
    def read(cls, text: str) -> "SaveEvery":
        """Of "500", updates, or "30m", minutes. Raises ConfigError for another text."""
        number = text.removesuffix("m")
        try:
            value = float(number) if text.endswith("m") else int(number)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ConfigError(f"--save_every {shown(text)} is neither updates, as in 500, nor minutes, as in 30m")
        return cls(minutes=value) if text.endswith("m") else cls(updates=int(value))


class Saver:
    """Decides for all processes together when to save and when to end, and writes what they are to go on from.

    Args:
        run_dir: of the run.
        accelerator: that the training uses.
        every: how often.
        metrics: a file whose lines are to be on the disk before the checkpoint that they led to.
        keeping: which checkpoints stay; None keeps them all.
        end_asked: the number of the signal that asks this process to end, 0 where none has come.
        in_use: epochs whose checkpoints must not be removed now.
    """

    def __init__(
        self,
        run_dir: Path,
        accelerator: Accelerator,
        every: SaveEvery,
        *,
        metrics: Path,
        keeping: Keeping | None = None,
        end_asked: Callable[[], int] = lambda: 0,
        in_use: Callable[[], Collection[int]] = tuple,
    ) -> None:
        self._run_dir = run_dir
        self._accelerator = accelerator
        self._every = every
        self._keeping = keeping or Keeping()
        self._metrics = metrics
        self._end_asked = end_asked
        self._in_use = in_use
        self._saved_at = time.monotonic()

    def asked(self, updates: int) -> tuple[bool, int]:
        """Whether it is time to save, and the number of a signal that asks to end. The same in all processes.

        Args:
            updates: that the run has made.
        """
        every, minutes = self._every.updates, self._every.minutes
        due = every is not None and updates % every == 0
        if minutes is not None and self._accelerator.is_main_process:
            due = time.monotonic() - self._saved_at >= 60 * minutes
        asked = [int(due), self._end_asked()]
        if self._accelerator.num_processes > 1:
            here = torch.tensor([asked], device=self._accelerator.device)
            asked = self._accelerator.gather(here).amax(0).tolist()
        return bool(asked[0]), asked[1]

    def save(
        self,
        meta: CheckpointMeta,
        agent: Any,
        optimizer: torch.optim.Optimizer,
        meter: Meter | None,
        on_checkpoint: Callable[[Checkpoint], None] | None,
    ) -> None:
        """Writes a checkpoint, and removes what need not stay beside it. All processes call it, after the same update.

        Args:
            meta: how far training is.
            agent: without the wrapper of distributed training.
            optimizer: without Accelerate's wrapper.
            meter: with what was measured since the last line of metrics; None after an epoch, when nothing was.
            on_checkpoint: called in the main process, which alone writes, with the checkpoint.
        """
        own = (random_states(self._accelerator.device), {} if meter is None else meter.state())
        every = [own] if self._accelerator.num_processes == 1 else gather_object([own])
        is_main = self._accelerator.is_main_process
        weights = make_whole(agent.state_dict(), keep=is_main)
        moments = make_whole(resuming.moments_of(optimizer), keep=is_main)
        self._accelerator.wait_for_everyone()
        self._saved_at = time.monotonic()
        if not is_main:
            return
        states = {
            resuming.random_state_name(kind, process): state
            for process, (random, _) in enumerate(every)
            for kind, state in random.items()
        }
        meters = {process: measured for process, (_, measured) in enumerate(every) if measured}
        training = resuming.training_state(moments, agent, resuming.TrainingState(states, meters))
        sync(self._metrics)
        checkpoint = write_checkpoint(self._run_dir, meta, weights, training)
        logger.info("saved %s", checkpoint.folder)
        if on_checkpoint is not None:
            on_checkpoint(checkpoint)
        keep(self._run_dir, self._keeping, self._in_use())


def go_on_from(
    checkpoint: Checkpoint,
    meta: CheckpointMeta,
    agent: Any,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    seed: int,
) -> Mapping[str, Tensor]:
    """Restores the optimizer, the filter's memory and this process's random generators.

    Where another number of processes saved them, the generators are seeded anew, by a name of their own.

    Args:
        checkpoint: of the run.
        meta: its description.
        agent: without the wrapper of distributed training.
        optimizer: without Accelerate's wrapper.
        accelerator: that the training uses.
        seed: of the run.

    Returns:
        For `Meter.restore`, empty where nothing is.
    """
    state = resuming.load_training_state(checkpoint, optimizer, agent)
    saved_by, processes = resuming.processes_of(checkpoint), accelerator.num_processes
    process = accelerator.process_index
    if saved_by == processes:
        restore_random_states(state.random, process, accelerator.device)
        return state.meters.get(process, {})
    name = f"seed {seed}, update {meta.updates}, process {process} of {processes}"
    seed_by_name(name)
    if accelerator.is_main_process:
        logger.warning(
            "%s was saved by %s, and %s on: the battles go on with window %d, random numbers are seeded anew by %r; "
            "--batch_size_per_gpu and --grad_accum count for each process, so choose them to keep an update as it was",
            checkpoint.folder,
            "1 process" if saved_by == 1 else f"{saved_by} processes",
            "1 goes" if processes == 1 else f"{processes} go",
            meta.draws,
            name,
        )
    return {}
