"""What a checkpoint holds for going on with its training: optimizer moments, random states, what a filter remembers.

One that was saved between two epochs holds what was measured since the last line of metrics, too.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from gemma_metamon.errors import CheckpointMismatchError, DataError, MissingFileError
from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint, checksum, list_all
from gemma_metamon.runs.loading import made_with, other_shapes
from gemma_metamon.runs.shards import divide_as
from gemma_metamon.runs.tensor_files import (
    damaged,
    read_headers,
    read_tensors,
    unfit_memory,
    unfit_meter,
    unfit_moments,
    unfit_random_states,
)

logger = logging.getLogger(__name__)

METER_COUNTS: Final = "counts"
"""The name of what a meter counts, beside those of what it measures."""
_METER = re.compile(r"meter/(?P<process>\d{1,9})/(?P<name>.+)")
_MOMENT = re.compile(r"optimizer/(?P<index>\d{1,9})/(?P<name>\w+)")


class TrainingState(NamedTuple):
    """What a checkpoint holds beside the optimizer's moments and the filter's memory.

    Attributes:
        random: random states by `random_state_name`.
        meters: of each process what it had measured since the last line of metrics, by name, for `Meter.restore`;
            empty of an epoch's checkpoint.
    """

    random: dict[str, Tensor]
    meters: dict[int, dict[str, Tensor]]


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers of each parameter, by the names of the file."""
    return {
        f"optimizer/{index}/{name}": torch.as_tensor(value)
        for index, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }


def training_state(moments: Mapping[str, Tensor], agent: Any, own: TrainingState) -> dict[str, Tensor]:
    """All that `load_training_state` restores, by the names of the file; `moments` are those of `moments_of`, whole."""
    training = {f"random/{name}": state for name, state in own.random.items()}
    for process, meter in own.meters.items():
        training |= {f"meter/{process}/{name}": values for name, values in meter.items()}
    return training | dict(moments) | {f"filter/{name}": value for name, value in agent.filter_memory().items()}


def require_resumable(checkpoint: Checkpoint) -> None:
    """Raises MissingFileError for a checkpoint that brings no optimizer state: an imported one, or an older 0."""
    if not (checkpoint.folder / TRAINING).is_file():
        raise MissingFileError(
            f"{checkpoint.folder} cannot be resumed: it has no {TRAINING} (an imported one brings no optimizer state); "
            f"{_begin_another(checkpoint)}"
        )


def processes_of(checkpoint: Checkpoint) -> int:
    """How many processes saved it. Raises MissingFileError, DataError where it does not hold that."""
    require_resumable(checkpoint)
    return sum(key.startswith("random/cpu") for key in read_headers(checkpoint.folder / TRAINING))


def require_as_written(checkpoint: Checkpoint) -> None:
    """Reads the tensors' files and raises DataError where one holds other bytes than were written, or cannot be read.

    Nothing is said of a checkpoint that an earlier version wrote, without checksums, nor of a file that is not there.
    """
    checksums = checkpoint.read_meta().checksums
    for name in (WEIGHTS, TRAINING):
        path = checkpoint.folder / name
        if name not in checksums or not path.is_file():
            continue
        try:
            found = checksum(path)
        except OSError as error:
            raise damaged(path, error) from error
        if found != checksums[name]:
            raise damaged(path, f"its bytes are not those that were written: their SHA-256 begins {found[:8]}")


def find_newest_whole(run_dir: Path, known: Checkpoint | None = None) -> Checkpoint | None:
    """The newest checkpoint of a run that can be gone on from, None where there is none at all.

    One whose files are cut off, hold other bytes than were written or cannot be read is passed over, with a warning: a
    disk may lose what it has confirmed.

    Args:
        run_dir: of the run.
        known: one that was found whole a moment ago, whose bytes are not read again.

    Raises:
        MissingFileError: the newest one brings nothing to resume from.
        DataError: there are some, and none is whole.
    """
    there = list_all(run_dir)
    for checkpoint in reversed(there):
        try:
            checkpoint.read_meta()
            read_headers(checkpoint.folder / WEIGHTS)
            processes_of(checkpoint)
            if checkpoint != known:
                require_as_written(checkpoint)
        except DataError as error:
            logger.warning("%s is passed over: %s", checkpoint.folder, error)
        else:
            return checkpoint
    if there:
        raise DataError(f"none of the checkpoints of {run_dir} is whole; begin another run: --run_name another")
    return None


def require_same_training(checkpoint: Checkpoint, agent: Any) -> None:
    """Raises CheckpointMismatchError where the run's configuration is now that of another training than it was.

    Another kind of agent, other sizes, or other parts that learn (a stage with another training config) have no use
    for the optimizer's moments: such a training is a run of its own.

    Args:
        checkpoint: one that can be resumed.
        agent: that of the configuration; it may be on the meta device.
    """
    parts = {key.partition(".")[0] for key in agent.state_dict()}
    learning = [[*parameter.shape] for parameter in agent.trainable_parameters()]
    saved_parts = {key.partition(".")[0] for key in read_headers(checkpoint.folder / WEIGHTS)}
    moments = {
        int(match["index"]): header.shape
        for key, header in read_headers(checkpoint.folder / TRAINING).items()
        if (match := _MOMENT.fullmatch(key)) and match["name"] == "exp_avg"
    }
    # what fits in most places, and in some not, is damaged: whoever restores it says where
    fitting = sum(index < len(learning) and learning[index] == shape for index, shape in moments.items())
    other = other_shapes(agent, checkpoint)
    if saved_parts != parts or 2 * fitting < len(moments) or max(moments, default=-1) >= len(learning):
        difference = "other parts learn there"
    elif other:
        difference = f"{len(other)} of another shape there ({', '.join(other[:3])})"
    else:
        return
    raise CheckpointMismatchError(
        f"{checkpoint.folder} was saved by another training than this run's configs describe: {difference}; go on with "
        f"the configs it was trained with ({made_with(checkpoint)}; config.gin beside its checkpoints has all values), "
        f"or {_begin_another(checkpoint)}"
    )


def random_state_name(kind: str, process: int) -> str:
    """Under which the random state of a process is saved; `kind` is one of `random_states` of training."""
    return kind if process == 0 else f"{kind}_of_process_{process}"


def _begin_another(checkpoint: Checkpoint) -> str:
    return f"begin another run with its weights: --run_name another, and --init_from {checkpoint}"


def load_training_state(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer, agent: Any) -> TrainingState:
    """Restores the optimizer's moments and what the filter remembers; returns the rest.

    A filter of which the checkpoint knows nothing (the run had another, or of another size) begins without memory.

    Raises DataError for what cannot be restored.
    """
    require_resumable(checkpoint)
    path = checkpoint.folder / TRAINING
    tensors = read_tensors(path)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if match := _MOMENT.fullmatch(key):
            state.setdefault(int(match["index"]), {})[match["name"]] = value
    random_states = {key.removeprefix("random/"): value for key, value in tensors.items() if key.startswith("random/")}
    memory = {name: tensors[key] for name in agent.filter_memory() if (key := f"filter/{name}") in tensors}
    meters: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if match := _METER.fullmatch(key):
            meters.setdefault(int(match["process"]), {})[match["name"]] = value
    complaint = unfit_moments(state, optimizer) or unfit_random_states(random_states)
    for meter in meters.values():
        complaint = complaint or unfit_meter(meter.get(METER_COUNTS), meter.values())
    if complaint := complaint or unfit_memory(memory, agent.filter_memory()):
        raise damaged(path, complaint)
    if any(name not in memory or memory[name].shape != own.shape for name, own in agent.filter_memory().items()):
        logger.warning("%s has no memory that fits this run's filter, which begins without one", path)
    else:
        for name, own in agent.filter_memory().items():
            own.copy_(memory[name])
    _divide(state, optimizer)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return TrainingState(random_states, meters)


def _divide(state: Mapping[int, dict[str, Tensor]], optimizer: torch.optim.Optimizer) -> None:
    """Puts moments in shards where their parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in state.items():
        for name in moments.keys() - {"step"}:
            moments[name] = divide_as(moments[name], parameters[index])
