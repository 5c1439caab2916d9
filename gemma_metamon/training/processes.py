"""Training in several processes: how many there are, and work that one of them does for all."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from gemma_metamon.errors import ConfigError, GemmaMetamonError

Result = TypeVar("Result")

WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""The environment variables in which launchers say how many processes they started."""
_SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}
LONGEST_WAIT = timedelta(days=1)
"""How long a process waits for the others: one alone judges battles, measures on held-out ones and writes checkpoints,
for which torch's own 10 minutes (NCCL) or 30 (gloo) are too few. One that dies is found by the launcher, at once."""
TORCHRUN = "torchrun --nproc_per_node N -m gemma_metamon train ..."


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
    for variable, name in _SHARDING.items():
        if os.environ.get(variable, "").lower() in ("1", "true"):
            raise ConfigError(
                f"accelerate was configured for {name}, which wants every process to read equally many chunks of "
                "texts, and each reads those of its own battles, once each; train with distributed_type MULTI_GPU, as "
                "scripts/accelerate/many_gpus.yaml does (gemma-3-1b, frozen, takes 2 GB in bfloat16; use_4bit, less)"
            )
    # without it accelerate looks for GPUs, and where there are none leaves every process to itself
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=LONGEST_WAIT)
    asked = max(int(os.environ.get(name) or 1) for name in WORLD_SIZES)
    if state.num_processes != asked:
        raise ConfigError(
            f"{asked} processes were asked for, and {state.num_processes} would train (on {state.device.type}); "
            f"start them with `{TORCHRUN}`"
        )
    return state


def describe(state: PartialState, batch_size: int, grad_accum: int) -> str:
    """A line that says how many processes train, on what, and how many battles an update has.

    Args:
        state: of the processes.
        batch_size: battles in a batch of one process.
        grad_accum: batches of an update.
    """
    n = state.num_processes
    return (
        f"training in {n} process{'es' if n > 1 else ''} on {state.device.type}: {batch_size} battles x {grad_accum} "
        f"batches x {n} processes = {batch_size * grad_accum * n} battles an update"
    )


def on_main_process(state: PartialState, work: Callable[[], Result]) -> Result:
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
