"""Texts that begin alike, as one row of subwords in which each common beginning stands once.

Gemma is causal: what it makes of a subword depends on the subwords before it alone. So texts are sorted, and of each
only what differs from the text before it is read, its own part; the turns of a battle share a third of their subwords
so. Nothing is padded but inside attention, which sees text by text: the queries of a text's own part, and the keys and
values of the whole text.

    texts        row           keys of a text
    bos A B C    bos A B C     0 1 2 3
    bos A D      D             0 1 4
"""

import itertools
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.nets.chunking import Texts

ATTENTION: Final = "gemma_metamon_packed"
"""The name under which transformers finds `attend`."""


class PackedTexts(NamedTuple):
    """n texts of at most T subwords, whose own parts are at most Q long, packed into a row of U subwords.

    Attributes:
        subwords: (U,) ids.
        depths: (U,), the place of each subword in its text, from 0.
        text_rows: (n, T), where each subword of a text stands in the row; anything behind a text's end.
        slots: (n, T), as in `Texts`.
        own_rows: (n, Q), where each subword of a text's own part stands in the row; anything behind its end.
        own_depths: (n, Q), their places in the text.
        own_places: (U,), where each subword of the row stands in `own_rows`, flattened.
    """

    subwords: Tensor
    depths: Tensor
    text_rows: Tensor
    slots: Tensor
    own_rows: Tensor
    own_depths: Tensor
    own_places: Tensor


def plan_chunks(texts: Texts, chunk_subwords: int) -> list[slice]:
    """Cut sorted texts into runs of at least one whose rows hold at most `chunk_subwords` each.

    Args:
        texts: N of them.
        chunk_subwords: the most that a row may hold, unless a single text is longer.
    """
    starts, row = [], 0
    for text, (length, shared) in enumerate(zip(texts.lengths.tolist(), texts.shared().tolist(), strict=True)):
        row += length - shared
        if text == 0 or row > chunk_subwords:
            starts.append(text)
            row = length
    return [slice(*ends) for ends in itertools.pairwise([*starts, len(texts)])]


def pack(texts: Texts) -> PackedTexts:
    """Pack texts, best sorted: what a text shares with any but the one before it is read again."""
    n, T = texts.subwords.shape
    position = torch.arange(T, device=texts.subwords.device)  # (T,)
    shared = texts.shared()[:, None]  # (n, 1)
    is_own = (position >= shared) & (position < texts.lengths[:, None])  # (n, T)
    row = is_own.flatten().cumsum(0).view(n, T) - 1
    # rows grow from text to text: the highest so far is of the last text that brought a subword of its own there
    text_rows = torch.where(is_own, row, 0).cummax(0).values
    own = is_own.sum(1, keepdim=True)  # (n, 1)
    place = torch.arange(int(own.max()), device=position.device)  # (Q,)
    first = own.cumsum(0) - own  # (n, 1)
    return PackedTexts(
        subwords=texts.subwords[is_own],
        depths=position.expand(n, T)[is_own],
        text_rows=text_rows,
        slots=texts.slots,
        own_rows=(first + place).clamp(max=int(own.sum()) - 1),
        own_depths=shared + place,
        own_places=(place < own).flatten().nonzero().flatten(),
    )


def read_packed(backbone: nn.Module, packed: PackedTexts) -> tuple[Tensor, Tensor]:
    """Gemma's states (n, T, hidden_size) of packed texts, anything behind a text's end, and their slots (n, T)."""
    config: Any = backbone.config
    key_depths = torch.arange(packed.text_rows.shape[1], device=packed.subwords.device)  # (T,)
    distance = packed.own_depths[..., None] - key_depths  # (n, Q, T)
    full = distance >= 0
    masks = {"full_attention": full, "sliding_attention": full & (distance < config.sliding_window)}
    states = backbone(
        input_ids=packed.subwords[None],
        position_ids=packed.depths[None],
        attention_mask=masks,
        use_cache=False,
        packed=packed,
    ).last_hidden_state[0]  # (U, hidden_size)
    return _rows(states, packed.text_rows), packed.slots


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    *,
    packed: PackedTexts | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention in the form that transformers wants; without `packed`, transformers' own.

    Shapes: query (1, H, U, D), key and value (1, K, U, D), attention_mask (n, Q, T), True where a query sees a key
    -> (1, U, H, D). H heads, K of keys and values, D head width.
    """
    if packed is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return out, None
    n, Q = packed.own_rows.shape
    H, K, D = query.shape[1], key.shape[1], query.shape[3]
    queries = _rows(query[0].transpose(0, 1).flatten(1), packed.own_rows).view(n, Q, K, H // K, D)
    keys, values = (
        _rows(states[0].transpose(0, 1).flatten(1), packed.text_rows).view(n, -1, K, D).transpose(1, 2)  # (n, K, T, D)
        for states in (key, value)
    )
    # heads that share keys and values become more queries of the same head: nothing is copied for them
    queries = queries.permute(0, 2, 3, 1, 4).reshape(n, K, -1, D)  # (n, K, H / K * Q, D)
    mask = attention_mask[:, None].expand(n, H // K, -1, -1).reshape(n, 1, -1, attention_mask.shape[-1])
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout, scale=scaling)
    out = out.view(n, K, H // K, Q, D).permute(0, 3, 1, 2, 4).reshape(n * Q, H * D)
    return _rows(out, packed.own_places[None]).view(1, -1, H, D), None


def use_packed_attention(backbone: nn.Module) -> None:
    """Let a Gemma attend by `attend`, so that `read_packed` may read with it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    config: Any = backbone.config
    config._attn_implementation = ATTENTION


def _rows(states: Tensor, rows: Tensor) -> Tensor:
    """States (U, D) at rows (n, T) -> (n, T, D). Not by indexing, whose gradient is several times slower."""
    return states.index_select(0, rows.flatten()).view(*rows.shape, -1)
