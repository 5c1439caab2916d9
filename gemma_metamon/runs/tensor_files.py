"""Safetensors files of checkpoints: what is read is of a known type and finite, and fits what it is to become."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gemma_metamon.errors import DataError
from gemma_metamon.strict_json import on_one_line, shown

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What a checkpoint can hold, by safetensors' names."""
_TWISTER_WORDS = 624
_BACKBONE_TYPES = {torch.float32, torch.bfloat16, torch.float16}  # which of them, depends on the device


class Header(NamedTuple):
    """What a file says of one of its tensors; the type by safetensors' name."""

    type_name: str
    shape: list[int]


def read_headers(path: Path) -> dict[str, Header]:
    """Of all tensors, by name, without their numbers. Raises DataError where the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 no mapping
            return {key: Header(part.get_dtype(), part.get_shape()) for key, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Raises DataError where the file is damaged or a number in it is not finite."""
    try:
        with safe_open(path, "pt") as file:
            types = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 no mapping
            for key, type_name in types.items():
                if type_name not in TYPES:
                    raise ValueError(f"{shown(key)} is of type {type_name}")
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in types}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise damaged(path, error) from error
    require_finite(tensors, str(path))
    return tensors


def damaged(path: Path, reason: object) -> DataError:
    """The error to raise for a file that holds something else than was written."""
    return DataError(f"{path} is damaged ({on_one_line(reason)}); use another checkpoint of the run")


def require_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raises DataError naming the first tensor that holds NaN or an infinity."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            wrong = int((~tensor.isfinite()).sum())
            raise DataError(
                f"{source}: {wrong} of the {tensor.numel()} numbers of {on_one_line(key)} are not finite: its training "
                "has diverged, or it is damaged; use an earlier checkpoint"
            )


def fits_type(saved: Tensor, wanted: Tensor) -> bool:
    """Whether one may be copied into the other without becoming something else."""
    return saved.dtype == wanted.dtype or {saved.dtype, wanted.dtype} <= _BACKBONE_TYPES


def unfit_moments(state: Mapping[int, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer) -> str | None:
    """What AdamW could not go on with: it would fail at its next step only."""
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in state.items():
        if index >= len(shapes):
            return f"it has moments of parameter {index} of {len(shapes)}"
        if not moments.keys() >= {"step", "exp_avg", "exp_avg_sq"}:
            return f"parameter {index} has moments {', '.join(moments)}"
        for name, value in moments.items():
            if not value.is_floating_point() or value.shape != (() if name == "step" else shapes[index]):
                return f"{name} of parameter {index} is {value.dtype} of shape {[*value.shape]}"
    return None


def unfit_memory(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """What a filter could not go on with. Another size is for the caller to judge: it is no damage."""
    for name, value in saved.items():
        own = wanted[name]
        if value.dtype != own.dtype or value.ndim != own.ndim:
            return f"the filter's {name} is {value.dtype} of shape {[*value.shape]}"
        if not own.is_floating_point() and bool((value < 0).any()):
            return f"the filter's {name} is {int(value.min())}"
    return None


def unfit_random_states(random_states: Mapping[str, Tensor]) -> str | None:
    """Why random numbers cannot go on from these: the processor's, and those of other processes and devices."""
    if "cpu" not in random_states:
        return "it has no random state"
    for name, state in random_states.items():
        try:
            if name.startswith("cpu"):  # of a GPU, only there it shows
                torch.Generator().set_state(state)
            elif name.startswith(("python", "numpy")):
                if complaint := _unfit_twister(state):
                    return f"the random state {on_one_line(name)} {complaint}"
            elif state.dtype != torch.uint8:
                return f"the random state {on_one_line(name)} is {state.dtype}"
        except (RuntimeError, TypeError) as error:
            return f"the random state {on_one_line(name)}: {error}"
    return None


def unfit_meter(counts: Tensor | None, values: Collection[Tensor]) -> str | None:
    """Why no means can be taken of these: bits of float64, the counts being timesteps, updates and seconds."""
    if any(value.dtype != torch.int64 or value.ndim != 1 for value in (*values, *([] if counts is None else [counts]))):
        return "what it measured is of another type or shape"
    if counts is None or len(counts) != 3 or not ((known := counts.view(torch.float64)) >= 0).all():
        return "it does not say of how many timesteps it measured"
    return None if known.isfinite().all() else "it measured for ever"


def _unfit_twister(state: Tensor) -> str | None:
    """A Mersenne twister's 624 words of 32 bits, its place among them, whether a number is left over, and which."""
    if state.dtype != torch.float64 or state.shape != (_TWISTER_WORDS + 3,):
        return f"is {state.dtype} of shape {[*state.shape]}"
    words, place = state[:_TWISTER_WORDS], float(state[_TWISTER_WORDS])
    whole = bool((words == words.floor()).all()) and place == int(place)
    if not whole or not ((words >= 0) & (words < 2**32)).all() or not 0 <= place <= _TWISTER_WORDS:
        return "holds no words of 32 bits"
    return None
