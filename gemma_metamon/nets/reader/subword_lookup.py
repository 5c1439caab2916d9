"""Word ids to padded subword ids. Tensors only, no model."""

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.nets.reader.distinct_rows import distinct_rows
from gemma_metamon.text.subwords import BOS_ID, PAD_ID, VocabularySubwords

NO_WORD: Final = -2
"""In place of a word's id, behind the last word of a text that has fewer words than others."""


@dataclass(frozen=True, eq=False)
class Texts:
    """N texts as Gemma reads them, T subwords each: bos, the words, padding. Slices are texts, too.

    Attributes:
        subwords: (N, T) ids.
        places: (N, T), the place of a subword's word in its text, from 1; 0 for bos, -1 for padding.
        lengths: (N,), subwords of each text, bos included.
    """

    subwords: Tensor
    places: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, chosen: slice) -> "Texts":
        """Some of the texts, without the padding that only others need."""
        lengths = self.lengths[chosen]
        longest = int(lengths.max())
        return Texts(self.subwords[chosen, :longest], self.places[chosen, :longest], lengths)

    def sorted_distinct(self) -> tuple["Texts", Tensor]:
        """The different texts among these, those that begin alike side by side, and which each text (N,) is."""
        both = torch.cat([self.subwords, self.places], dim=1)
        distinct, text_of = distinct_rows(both)
        subwords, places = distinct.chunk(2, dim=1)
        return Texts(subwords, places, (places >= 0).sum(1)), text_of

    def shared(self) -> Tensor:
        """How many of its first subwords each text (N,) has in common with the one before it; 0 for the first."""
        same = (self.subwords[1:] == self.subwords[:-1]).cumprod(1).sum(1)
        both = torch.minimum(self.lengths[1:], self.lengths[:-1])
        return F.pad(torch.minimum(same, both), (1, 0))


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
            rows = F.pad(rows, (0, longest - rows.shape[1]))  # (V + 1, S)
            lengths = torch.from_numpy(getattr(table, f"{name}_lengths"))  # (V + 1,)
            # NO_WORD is the last row but one, of no subwords
            self.register_buffer(f"{name}_ids", _with_empty_row(rows), persistent=False)  # (V + 2, S)
            self.register_buffer(f"{name}_lengths", _with_empty_row(lengths), persistent=False)  # (V + 2,)
        self.used_ids, self.compact = table.used_ids, compact
        self.pad_id = int(table.compact(PAD_ID)) if compact else PAD_ID
        self.bos_id = int(table.compact(BOS_ID)) if compact else BOS_ID

    def forward(self, words: Tensor) -> Texts:
        """Word ids (N, W), -1 the unknown word, NO_WORD none -> the texts as Gemma reads them.

        N texts (at least one), W words in a text, S subwords of the longest word, T subwords of the longest text.
        """
        words = words.long()  # negative ids take rows from the end, as Python's indices do
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
        places = torch.where(position < lengths[:, None], 0, -1)  # (N, T)
        word_places = torch.arange(1, words.shape[1] + 1, device=ids.device)  # (W,)
        places[inside] = word_places[:, None].expand_as(ids)[is_subword]
        return Texts(subwords, places, lengths)

    def inner(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Words that go on a text: ids (N, W) -> subwords (N, T), padding behind the last, and lengths (N,)."""
        words = words.long()
        ids, word_lengths = self.inner_ids[words], self.inner_lengths[words]  # (N, W, S), (N, W)
        lengths = word_lengths.sum(1)
        position = torch.arange(int(lengths.max()), device=ids.device)  # (T,)
        subwords = ids.new_full((len(words), len(position)), self.pad_id)
        is_subword = torch.arange(ids.shape[2], device=ids.device) < word_lengths[..., None]  # (N, W, S)
        subwords[position < lengths[:, None]] = ids[is_subword]  # as in `forward`
        return subwords, lengths


def _with_empty_row(rows: Tensor) -> Tensor:
    return torch.cat([rows[:-1], torch.zeros_like(rows[:1]), rows[-1:]])
