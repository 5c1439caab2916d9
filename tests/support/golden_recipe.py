"""Numbers that goldens need not hold, because both sides can make them: drawn from names.

Used by scripts/build_training_goldens.py, in upstream's process, and by the tests. NumPy's RandomState gives the same
numbers in every version of it.
"""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

WARM_BATCHES = 60
"""Batches that an ISAdvantageFilter has seen before an agent's loss is computed."""
FILTER_BATCHES = 40


def normal(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    """Standard normal numbers times scale, the same for the same name and shape."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy((scale * values).astype(np.float32))


def flags(name: str, *shape: int, share: float) -> Tensor:
    """True in that share of places."""
    values = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    return torch.from_numpy(values < share)


def weights(golden: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The small agent's golden weights, with others where it has other discounts or bins.

    Args:
        golden: of amago-3.1.1/agent/multitask_seed0/params.npz; the maximized critics are copies of the critics.
        wanted: the state_dict to fill.
    """
    found = {}
    for key, own in wanted.items():
        source = key.replace("maximized_critics.", "critics.")
        value = golden[source]
        if value.shape != own.shape:
            # PopArt has a row for each discount, and the last one acts
            value = value[-1:] if key.startswith("popart.") else normal(source, *own.shape, scale=0.2)
        found[key] = value.to(own.dtype)
    return found


def end_in_mid_battle(obs: Mapping[str, Tensor]) -> None:
    """Lets the golden batch's first battle go on after its window: what was chosen in the last state is known then."""
    obs["missing_action_mask"][0, -1] = False


def gumbel_noise(call: int, *shape: int) -> Tensor:
    """Of the call of that number (from 0) in one update."""
    uniform = np.random.RandomState(zlib.crc32(f"gumbel {call}".encode())).random_sample(shape)
    return torch.from_numpy(-np.log(-np.log(np.clip(uniform, 1e-6, 1 - 1e-6)))).float()


def filter_batch(number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Advantages (6, 9, 2, 1), recorded and real positions (6, 9, 1) True, and log ratios (6, 9, 2, 1)."""
    real = torch.arange(9)[None, :, None] < torch.from_numpy(
        np.random.RandomState(number).randint(2, 10, size=(6, 1, 1))
    )
    recorded = real & flags(f"recorded {number}", 6, 9, 1, share=0.8)
    by_battle = normal(f"battle {number}", 6, 1, 1, 1, scale=30.0)
    adv = by_battle + normal(f"advantage {number}", 6, 9, 2, 1, scale=60.0)
    return adv, recorded, real, normal(f"ratio {number}", 6, 9, 2, 1, scale=2.0)


def warm_advantages(number: int, n_gammas: int) -> Tensor:
    """(4, 5, G, 1), of which all positions are real and recorded."""
    return normal(f"warm {number}", 4, 5, n_gammas, 1, scale=20.0)


def hlgauss_returns() -> Tensor:
    """(90, 1): inside the bins, on and between their positions, at the ends, and a little beyond."""
    inside = normal("returns", 60, 1, scale=400.0)
    ends = torch.linspace(-1120.0, 1120.0, 29)[:, None]
    return torch.cat((inside, ends, torch.zeros(1, 1)))
