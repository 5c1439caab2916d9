"""Word ids to padded subword ids, and texts to chunks that fit in memory. Tensors only, no model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.text.subwords import BOS_ID, PAD_ID, VocabularySubwords

ACTIVATIONS_PER_WIDTH: Final = 12
"""Numbers kept for backward per subword and layer, divided by hidden + MLP + heads x head width (Gemma 3 270M: 12)."""
CPU_KEPT_BYTES: Final = 2 * 1024**3
CPU_CHUNK_WIDTHS: Final = 2**20
"""Subwords x widths of a chunk on a CPU: with it a layer's activations are a few MiB, about the size of its cache."""


class Texts(NamedTuple):
    """N texts as Gemma reads them, T subwords each: bos, the words, padding.

    Attributes:
        subwords: (N, T) ids.
        slots: (N, T), the place of a subword's word in its text, from 1; 0 for bos, -1 for padding.
        lengths: (N,), subwords of each text, bos included.
    """

    subwords: Tensor
    slots: Tensor
    lengths: Tensor

    def sorted_by_length(self) -> tuple["Texts", Tensor]:
        """The same texts, shortest first, and the order (N,) that sorts them."""
        lengths, order = self.lengths.sort()
        return Texts(self.subwords[order], self.slots[order], lengths), order


class SubwordLookup(nn.Module):
    """The table word -> subword ids as buffers beside the model, and the look-up of whole texts in it.

    The buffers are not part of the state_dict: they follow from vocabulary and phrasing, which a checkpoint names.
    """

    first_ids: Tensor
    inner_ids: Tensor
    first_lengths: Tensor
    inner_lengths: Tensor

    def __init__(self, table: VocabularySubwords, *, compact: bool) -> None:
        """Take the rows of one vocabulary.

        Args:
            table: the rows, the last one for unknown words.
            compact: give positions in `table.used_ids`, the rows of a trimmed embedding, in place of Gemma's ids.
        """
        super().__init__()
        longest = max(table.first_ids.shape[1], table.inner_ids.shape[1])
        for name in ("first", "inner"):
            ids = getattr(table, f"{name}_ids")
            rows = torch.from_numpy(table.compact(ids) if compact else ids)
            rows = F.pad(rows, (0, longest - rows.shape[1])).clone()  # (V + 1, S)
            self.register_buffer(f"{name}_ids", rows, persistent=False)
            lengths = torch.from_numpy(getattr(table, f"{name}_lengths")).clone()  # (V + 1,)
            self.register_buffer(f"{name}_lengths", lengths, persistent=False)
        self.used_ids, self.compact = table.used_ids, compact
        self.pad_id = int(table.compact(PAD_ID)) if compact else PAD_ID
        self.bos_id = int(table.compact(BOS_ID)) if compact else BOS_ID

    def forward(self, words: Tensor) -> Texts:
        """Word ids (N, W), -1 the unknown word -> the texts as Gemma reads them.

        N texts (at least one), W words in a text, S subwords of the longest word, T subwords of the longest text.
        """
        words = words.long()  # -1 takes the last row, as Python's indices do
        first, inner = words[:, :1], words[:, 1:]
        ids = torch.cat([self.first_ids[first], self.inner_ids[inner]], dim=1)  # (N, W, S)
        word_lengths = torch.cat([self.first_lengths[first], self.inner_lengths[inner]], dim=1)  # (N, W)
        lengths = word_lengths.sum(1) + 1  # bos
        position = torch.arange(int(lengths.max()), device=ids.device)  # (T,)
        subwords = ids.new_full((len(words), len(position)), self.pad_id)
        subwords[:, 0] = self.bos_id
        # Both masks select row by row from left to right, and equally many in each row: the gaps close without a loop.
        is_subword = torch.arange(ids.shape[2], device=ids.device) < word_lengths[..., None]  # (N, W, S)
        inside = (position >= 1) & (position < lengths[:, None])  # (N, T)
        subwords[inside] = ids[is_subword]
        slots = torch.where(position < lengths[:, None], 0, -1)  # (N, T)
        word_slots = torch.arange(1, words.shape[1] + 1, device=ids.device)  # (W,)
        slots[inside] = word_slots[:, None].expand_as(ids)[is_subword]
        return Texts(subwords, slots, lengths)


def plan_chunks(lengths: Sequence[int], chunk_subwords: int) -> list[slice]:
    """Cut texts, shortest first, into runs of at least one that hold at most `chunk_subwords`, their padding included.

    Args:
        lengths: subwords of each text, ascending.
        chunk_subwords: the most that a chunk may hold, unless a single text is longer.
    """
    chunks, start = [], 0
    for end, longest in enumerate(lengths, start=1):
        if (end - start) * longest > chunk_subwords and end - start > 1:
            chunks.append(slice(start, end - 1))
            start = end - 1
    return [*chunks, slice(start, len(lengths))] if lengths else []


@dataclass(frozen=True)
class MemoryPlan:
    """How many subwords are read at a time, and how many of them may keep their activations until the backward pass."""

    chunk_subwords: int
    kept_subwords: float
    """Infinite where nothing is recomputed."""

    @classmethod
    def choose(
        cls, config: Any, dtype: torch.dtype, device: torch.device, chunk_subwords: int | None, *, recomputes: bool
    ) -> "MemoryPlan":
        """The plan for one forward pass; `GemmaTstepEncoder` documents the sizes.

        Args:
            config: the backbone's Gemma3TextConfig.
            dtype: the backbone's.
            device: where it runs.
            chunk_subwords: what the user wants, None for a size by device.
            recomputes: whether chunks may be recomputed.
        """
        widths = config.hidden_size + config.intermediate_size + config.num_attention_heads * config.head_dim
        subword_bytes = ACTIVATIONS_PER_WIDTH * widths * config.num_hidden_layers * dtype.itemsize
        if device.type == "cuda":
            memory = torch.cuda.get_device_properties(device).total_memory
            kept, chunk = memory // 4 // subword_bytes, memory // 8 // subword_bytes
        else:
            kept, chunk = CPU_KEPT_BYTES // subword_bytes, min(CPU_CHUNK_WIDTHS // widths, 4096)
        return cls(
            chunk_subwords=max(chunk, 512) if chunk_subwords is None else chunk_subwords,
            kept_subwords=math.inf if not recomputes else kept if chunk_subwords is None else 0,
        )

    def count_kept(self, sizes: Sequence[int]) -> int:
        """How many of the first chunks, of that many subwords each, may keep their activations."""
        return sum(total <= self.kept_subwords for total in accumulate(sizes))
