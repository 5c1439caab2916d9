"""Training in several processes: how many there are, and work that one of them does for all."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor

from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.nets.batch import Batch, countable_actions

Result = TypeVar("Result")

WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""The environment variables in which launchers say how many processes they started."""
_FSDP, _DEEPSPEED = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"
LONGEST_WAIT = timedelta(days=1)
"""How long a process waits for the others: one alone judges battles, measures on held-out ones and writes checkpoints,
for which torch's own 10 minutes (NCCL) or 30 (gloo) are too few. One that dies is found by the launcher, at once."""
TORCHRUN = "torchrun --nproc_per_node N -m gemma_metamon train ..."


def n_asked_for() -> int:
    """How many processes a launcher says that it started; 1 without one."""
    return max(int(os.environ.get(name) or 1) for name in WORLD_SIZES)


def asked_for_shards() -> bool:
    """Whether accelerate's configuration asks for FSDP, see `sharding`.

    Raises:
        ConfigError: it asks for another way to divide an agent.
    """
    file = "scripts/accelerate/fsdp.yaml"
    if _is_set(_DEEPSPEED):
        raise ConfigError(
            "accelerate was configured for DeepSpeed, which takes over optimizer and saving, and would leave no "
            f"checkpoint that plays; divide the agent with FSDP, as {file} does"
        )
    if not _is_set(_FSDP):
        return False
    if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        raise ConfigError(
            f"accelerate was configured for FSDP {version}, which makes one tensor of a layer's numbers, of frozen and "
            f"of trained ones; set fsdp_version: 2, as {file} does"
        )
    if _is_set("FSDP_OFFLOAD_PARAMS"):
        raise ConfigError(
            "accelerate was configured with fsdp_offload_params, but shards stay on the device that trains; set it to "
            f"false, as {file} does"
        )
    return True


def take_sharding(state: PartialState) -> bool:
    """Whether this training is to have shards. A single process has nothing to divide.

    The question is taken out of the environment: accelerate would answer it by dividing the whole agent itself, and
    transformers by loading pretrained weights in one process alone. Raises as `asked_for_shards`.
    """
    asked = asked_for_shards()
    os.environ.pop(_FSDP, None)
    return asked and state.num_processes > 1


def join() -> PartialState:
    """Connects this process to the others that a launcher has started, if it has, and waits for them.

    Raises:
        ConfigError: fewer processes would train than were asked for, so that batches would be too small.
    """
    launched_alone = os.environ.get("ACCELERATE_MIXED_PRECISION") and not any(os.environ.get(n) for n in WORLD_SIZES)
    if launched_alone and os.environ.get("MASTER_ADDR"):
        # which is how accelerate's launcher without --multi_gpu begins a program that is to train in several
        raise ConfigError(
            "accelerate launch was asked for several processes and started one, as it does on a CPU; "
            f"start them with `{TORCHRUN}`"
        )
    # without it accelerate looks for GPUs, and where there are none leaves every process to itself
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=LONGEST_WAIT)
    asked = n_asked_for()
    if state.num_processes != asked:
        raise ConfigError(
            f"{asked} processes were asked for, and {state.num_processes} would train (on {state.device.type}); "
            f"start them with `{TORCHRUN}`"
        )
    return state


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true")


def describe(state: PartialState, batch_size: int, grad_accum: int, *, sharded: bool = False) -> str:
    """A line that says how many processes train, on what, and how many battles an update has.

    Args:
        state: of the processes.
        batch_size: battles in a batch of one process.
        grad_accum: batches of an update.
        sharded: whether Gemma's layers are in shards.
    """
    n = state.num_processes
    return (
        f"training in {n} process{'es' if n > 1 else ''} on {state.device.type}: {batch_size} battles x {grad_accum} "
        f"batches x {n} processes = {batch_size * grad_accum * n} battles an update"
        + (f"; each holds 1/{n} of Gemma's layers (FSDP), and none keeps texts that it has read" if sharded else "")
    )


def open_accelerator(mixed_precision: str, grad_accum: int) -> Accelerator:
    """What trains in this process.

    Args:
        mixed_precision: "no" or "bf16".
        grad_accum: batches of an update.
    """
    # Accelerate keeps a process's first precision, and refuses another; a process may train twice
    AcceleratorState._reset_state()
    return Accelerator(
        gradient_accumulation_steps=grad_accum,
        mixed_precision=mixed_precision,
        # il.gin trains no critic, so some parameters get no gradient
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def weight_of(batch: Batch, accelerator: Accelerator) -> Tensor | float:
    """How much the losses of a batch count beside those of the other processes' batches, 1 on average.

    A loss is the mean over the batch's own actions. By these weights the mean over the processes, which gradients and
    logged losses are, is the mean over the actions of all, as one process with all of the battles would have it.
    """
    if accelerator.num_processes == 1:
        return 1.0
    counted = countable_actions(batch).sum().float()
    mean: Tensor = accelerator.reduce(counted, "mean")
    return counted / mean.clamp(min=1e-6)


def on_main_process(state: PartialState | Accelerator, work: Callable[[], Result]) -> Result:
    """What `work` returns, which the main process alone runs. A GemmaMetamonError of it is raised in every process."""
    outcome: list[Any] = [None]
    if state.is_main_process:
        try:
            outcome = [work()]
        except GemmaMetamonError as error:
            outcome = [error]
    (result,) = broadcast_object_list(outcome)
    if isinstance(result, GemmaMetamonError):
        raise result
    return cast("Result", result)
