"""How many subwords go through Gemma at a time, and how many keep their activations. Numbers only, no tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import torch

ACTIVATION_BYTES: Final = 24
"""Kept for backward per subword and layer, divided by hidden + MLP + heads x head width, at most.

Gemma 3 270M with LoRA: 5.7 numbers of four bytes in float32 on a CPU; in bfloat16 up to twice as many numbers, because
the adapters' inputs stay float32.
"""
CPU_KEPT_BYTES: Final = 2 * 1024**3
CPU_CHUNK_WIDTHS: Final = 2**20
"""Subwords x widths of a chunk on a CPU: with it a layer's activations are a few MiB, about the size of its cache."""


@dataclass(frozen=True)
class MemoryPlan:
    """How many subwords are read at a time, and how many of them may keep their activations until the backward pass."""

    chunk_subwords: int
    kept_subwords: float
    """Infinite where nothing is recomputed."""
    keeps_part: bool
    """Whether some chunks are kept where not all can be; on a CPU that saves a few percent and costs the memory."""

    @classmethod
    def choose(cls, config: Any, device: torch.device, chunk_subwords: int | None, *, recomputes: bool) -> "MemoryPlan":
        """The plan for one forward pass; `GemmaTstepEncoder` documents the sizes.

        Args:
            config: the backbone's Gemma3TextConfig.
            device: where it runs.
            chunk_subwords: what the user wants, None for a size by device.
            recomputes: whether chunks may be recomputed.
        """
        widths = config.hidden_size + config.intermediate_size + config.num_attention_heads * config.head_dim
        subword_bytes = ACTIVATION_BYTES * widths * config.num_hidden_layers
        if device.type == "cuda":
            memory = torch.cuda.get_device_properties(device).total_memory
            kept, chunk = memory // 4 // subword_bytes, memory // 8 // subword_bytes
        else:
            kept, chunk = CPU_KEPT_BYTES // subword_bytes, min(CPU_CHUNK_WIDTHS // widths, 4096)
        return cls(
            chunk_subwords=max(chunk, 512) if chunk_subwords is None else chunk_subwords,
            kept_subwords=math.inf if not recomputes else kept if chunk_subwords is None else 0,
            keeps_part=device.type == "cuda",
        )

    def count_kept(self, sizes: Sequence[int]) -> int:
        """How many of the first chunks, of that many subwords each, may keep their activations."""
        kept = sum(total <= self.kept_subwords for total in accumulate(sizes))
        return kept if self.keeps_part or kept == len(sizes) else 0
