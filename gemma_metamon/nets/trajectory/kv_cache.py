"""What the trajectory transformer remembers of battles being played: keys and values, one row per battle.

A row is a ring of max_seq_len slots. Attention does not care for the order of its keys (positions are in the embeddings
or in the rotation), so a new timestep simply takes the place of the oldest one, and nothing is ever moved.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class CacheSlots(NamedTuple):
    """Where one timestep of n battles is written, and what each may look at.

    Attributes:
        rows: (n,) long, the battles that act.
        slots: (n,) long, the slot that each one's new timestep takes.
        visible: (n, 1, 1, S) bool, True on the slots that hold a timestep, the new one included; S slots are in use.
    """

    rows: Tensor
    slots: Tensor
    visible: Tensor


class KVCache:
    """Keys and values of N battles that advance independently.

    The rule for battles longer than max_seq_len is AMAGO's: a timestep sees itself and the max_seq_len - 1 before it,
    and what is remembered of those is not computed anew.

    Shapes: keys and values (layers, N, heads, max_seq_len, head width).

    Args:
        n_layers: of the transformer.
        n_rows: N.
        n_heads: of each layer.
        max_seq_len: how many timesteps a row holds.
        head_dim: width of a head.
        device: where keys and values are; None is torch's default.
        dtype: their type; None is torch's default.
    """

    def __init__(
        self,
        n_layers: int,
        n_rows: int,
        n_heads: int,
        max_seq_len: int,
        head_dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        shape = (n_layers, n_rows, n_heads, max_seq_len, head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.max_seq_len = max_seq_len
        # on the CPU: slots are counted there, so that a step on a GPU never waits for a number
        self.timesteps_seen = torch.zeros(n_rows, dtype=torch.long, device="cpu")

    def reset(self, rows: Tensor | Sequence[int] | int | None = None) -> None:
        """Forget these battles (all without an argument); the others are untouched."""
        if rows is None:
            self.timesteps_seen.zero_()
        else:
            self.timesteps_seen[torch.as_tensor(rows, dtype=torch.long, device="cpu")] = 0

    def next_slots(self, rows: Tensor) -> CacheSlots:
        """Where the next timestep of `rows` (n,), all different, goes."""
        rows = rows.cpu()
        seen = self.timesteps_seen[rows]
        in_use = min(int(seen.max()) + 1, self.max_seq_len)
        visible = torch.arange(in_use, device="cpu") <= seen[:, None]  # (n, S)
        device = self.keys.device
        return CacheSlots(rows.to(device), (seen % self.max_seq_len).to(device), visible[:, None, None].to(device))

    def write_and_read(self, layer: int, at: CacheSlots, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store one timestep's keys and values (n, heads, 1, width); give back all in use, (n, heads, S, width)."""
        in_use = at.visible.shape[-1]
        self.keys[layer, at.rows, :, at.slots] = keys[:, :, 0].to(self.keys.dtype)
        self.values[layer, at.rows, :, at.slots] = values[:, :, 0].to(self.values.dtype)
        return (
            self.keys[layer, at.rows, :, :in_use].to(keys.dtype),
            self.values[layer, at.rows, :, :in_use].to(values.dtype),
        )

    def advance(self, rows: Tensor) -> None:
        """Count the timestep that has just been written for `rows`."""
        self.timesteps_seen[rows.cpu()] += 1
