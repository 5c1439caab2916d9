"""The random generators of a process as tensors of a checkpoint: Python's, NumPy's, torch's and the GPU's."""

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor

from gemma_metamon.runs.resuming import random_state_name


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Of this process, by kind: cpu, python, numpy and, where it trains on one, cuda."""
    _, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)
    _, keys, place, has_gauss, cached = legacy
    states = {
        "cpu": torch.get_rng_state(),
        "python": _packed(words, gauss is not None, gauss or 0.0),
        "numpy": _packed([*map(int, keys), place], bool(has_gauss), cached),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states: Mapping[str, Tensor], process: int, device: torch.device) -> None:
    """Go on with what `random_states` gave in that process. A kind that an older version did not save is left alone."""
    torch.set_rng_state(states[random_state_name("cpu", process)])
    if (state := states.get(random_state_name("python", process))) is not None:
        words, gauss = _unpacked(state)
        random.setstate((3, tuple(words), gauss))
    if (state := states.get(random_state_name("numpy", process))) is not None:
        (*keys, place), gauss = _unpacked(state)
        legacy: Any = ("MT19937", np.array(keys, np.uint32), place, int(gauss is not None), gauss or 0.0)
        np.random.set_state(legacy)
    cuda = random_state_name("cuda", process)
    if device.type == "cuda" and cuda in states:
        torch.cuda.set_rng_state(states[cuda], device)


def seed_by_name(name: str) -> None:
    """Seed all generators of this process: the same name, the same numbers; another, others."""
    set_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))


def _packed(words: Any, has_gauss: bool, gauss: float) -> Tensor:
    """Words of 32 bits, and the second of a pair of normal numbers, which is kept for the next call: (n + 2,)."""
    return torch.tensor([*words, float(has_gauss), gauss], dtype=torch.float64)


def _unpacked(state: Tensor) -> tuple[list[int], float | None]:
    *words, has_gauss, gauss = state.tolist()
    return [int(word) for word in words], gauss if has_gauss else None
