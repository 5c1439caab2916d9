"""What a checkpoint holds for going on with its training: optimizer moments, random states, what a filter remembers."""

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gemma_metamon.errors import CheckpointMismatchError, MissingFileError
from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint
from gemma_metamon.runs.tensor_files import (
    damaged,
    read_headers,
    read_tensors,
    unfit_memory,
    unfit_moments,
    unfit_random_states,
)

logger = logging.getLogger(__name__)

_MOMENT = re.compile(r"optimizer/(?P<index>\d{1,9})/(?P<name>\w+)")


def training_state(
    optimizer: torch.optim.Optimizer, agent: Any, random_states: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """All that `load_training_state` restores, by the names of the file; random states by their own names."""
    training = {f"random/{name}": state for name, state in random_states.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        training |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    return training | {f"filter/{name}": value for name, value in agent.filter_memory().items()}


def require_resumable(checkpoint: Checkpoint) -> None:
    """Raises MissingFileError for a checkpoint that brings no optimizer state: an imported one, or an older 0."""
    if not (checkpoint.folder / TRAINING).is_file():
        raise MissingFileError(
            f"{checkpoint.folder} cannot be resumed: it has no {TRAINING} (an imported one brings no optimizer state); "
            f"{_begin_another(checkpoint)}"
        )


def require_processes(checkpoint: Checkpoint, processes: int) -> None:
    """Raises CheckpointMismatchError where another number of processes saved the checkpoint than would go on with it.

    Each process draws its own random numbers and goes on with the state that it saved; another number of processes
    would have none, or another share of the battles. Raises DataError where the file is damaged.
    """
    require_resumable(checkpoint)
    saved_by = sum(key.startswith("random/cpu") for key in read_headers(checkpoint.folder / TRAINING))
    if saved_by != processes:
        raise CheckpointMismatchError(
            f"{checkpoint.folder} was saved by {_counted(saved_by)} and {_counted(processes)} would go on with it; "
            f"start as many, or {_begin_another(checkpoint)}"
        )


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
    if saved_parts == parts and (2 * fitting >= len(moments) and max(moments, default=-1) < len(learning)):
        return
    raise CheckpointMismatchError(
        f"{checkpoint.folder} was saved by another training than this run's configs describe: other parts learn there; "
        f"go on with the configs it was trained with (see config.gin beside its checkpoints), or "
        f"{_begin_another(checkpoint)}"
    )


def random_state_name(kind: str, process: int) -> str:
    """Under which the random state of a process is saved; `kind` is cpu or cuda."""
    return kind if process == 0 else f"{kind}_of_process_{process}"


def _begin_another(checkpoint: Checkpoint) -> str:
    return f"begin another run with its weights: --run_name another, and --init_from {checkpoint}"


def _counted(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def load_training_state(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer, agent: Any) -> dict[str, Tensor]:
    """Restores the optimizer's moments and what the filter remembers; returns the random states by name.

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
    complaint = unfit_moments(state, optimizer) or unfit_random_states(random_states)
    if complaint := complaint or unfit_memory(memory, agent.filter_memory()):
        raise damaged(path, complaint)
    if any(name not in memory or memory[name].shape != own.shape for name, own in agent.filter_memory().items()):
        logger.warning("%s has no memory that fits this run's filter, which begins without one", path)
    else:
        for name, own in agent.filter_memory().items():
            own.copy_(memory[name])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return random_states
