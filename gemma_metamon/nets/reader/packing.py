"""Texts that begin alike, as one row of subwords in which each common beginning stands once.

Gemma is causal: what it makes of a subword depends on the subwords before it alone. So texts are sorted, and of each
only what differs from the text before it is read, its own part; the turns of a battle share a third of their subwords
so. Nothing is padded but inside attention, which sees text by text: the queries of a text's own part, and the keys and
values of the whole text.

    texts        row           keys of a text
    bos A B C    bos A B C     0 1 2 3
    bos A D      D             0 1 4

Branches may follow each text: of these, each sees the text and itself, as if the others were not there.
"""

import itertools
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.nets.reader.action_scores import Branches
from gemma_metamon.nets.reader.subword_lookup import Texts

ATTENTION: Final = "gemma_metamon_packed"
"""The name under which transformers finds `attend`."""


class PackedTexts(NamedTuple):
    """n texts of at most T subwords, whose own parts are at most Q long, packed into a row of U subwords.

    Where branches follow, T is the longest text and then the branches' cue and the branches themselves.

    Attributes:
        subwords: (U,) ids.
        depths: (U,), the place of each subword in its text, from 0.
        text_rows: (n, T), where each subword of a text stands in the row; anything where there is none.
        key_depths: (n, T), their places in the text.
        places: (n, the longest text), as in `Texts`.
        own_rows: (n, Q), where each subword of a text's own part stands in the row; one of its own behind its end.
        own_index: (U,), where each subword of the row stands in `own_rows`, flattened.
        key_branches: (n, T), the branch that each belongs to, from 1; 0 for the text, -1 where there is no subword.
            None where nothing branches.
        row_branches: (U,), the same of the row.
        branches: that follow the texts.
    """

    subwords: Tensor
    depths: Tensor
    text_rows: Tensor
    key_depths: Tensor
    places: Tensor
    own_rows: Tensor
    own_index: Tensor
    key_branches: Tensor | None = None
    row_branches: Tensor | None = None
    branches: Branches | None = None


def plan_chunks(texts: Texts, chunk_subwords: int, behind: Tensor | None = None) -> list[slice]:
    """Cut sorted texts into runs of at least one whose rows hold at most `chunk_subwords` each.

    Args:
        texts: N of them.
        chunk_subwords: the most that a row may hold, unless a single text is longer.
        behind: (N,), how many subwords follow each text.
    """
    starts, row = [], 0
    extra = [0] * len(texts) if behind is None else behind.tolist()
    for text, (length, shared) in enumerate(zip(texts.lengths.tolist(), texts.shared().tolist(), strict=True)):
        row += length - shared + extra[text]
        if text == 0 or row > chunk_subwords:
            starts.append(text)
            row = length + extra[text]
    return [slice(*ends) for ends in itertools.pairwise([*starts, len(texts)])]


def pack(texts: Texts, branches: Branches | None = None) -> PackedTexts:
    """Pack texts, best sorted: what a text shares with any but the one before it is read again.

    Args:
        texts: n of them.
        branches: what follows each; it is always read.
    """
    n, T = texts.subwords.shape
    place = torch.arange(T, device=texts.subwords.device)  # (T,)
    shared = texts.shared()[:, None]  # (n, 1)
    is_own = (place >= shared) & (place < texts.lengths[:, None])  # (n, T)
    if branches is None:
        return _pack(texts.subwords, place.expand(n, T), is_own, texts.places)
    c, (_, A, S) = len(branches.cue), branches.subwords.shape
    step, along = torch.arange(c, device=place.device), torch.arange(S, device=place.device)
    exists = along < branches.lengths[..., None]  # (n, A, S)
    branch = torch.arange(1, A + 1, device=place.device)[:, None].expand(A, S)
    depths = torch.cat([step, (c + along).repeat(A)])  # (c + A * S,)
    in_text = torch.where(place < texts.lengths[:, None], 0, -1)  # (n, T)
    in_branch = torch.where(exists, branch, -1).flatten(1)
    packed = _pack(
        torch.cat([texts.subwords, branches.cue.expand(n, c), branches.subwords.flatten(1)], dim=1),
        torch.cat([place.expand(n, T), texts.lengths[:, None] + depths], dim=1),
        torch.cat([is_own, is_own.new_ones(n, c), exists.flatten(1)], dim=1),
        texts.places,
        torch.cat([in_text, in_text.new_zeros(n, c), in_branch], dim=1),
    )
    return packed._replace(branches=branches)


def _pack(
    subwords: Tensor, depths: Tensor, is_own: Tensor, places: Tensor, branches: Tensor | None = None
) -> PackedTexts:
    """Of subwords (n, T) those that are a text's own, one after the other."""
    row = is_own.flatten().cumsum(0).view(is_own.shape) - 1
    own = is_own.sum(1, keepdim=True)  # (n, 1)
    place = torch.arange(int(own.max()), device=row.device)  # (Q,)
    first = own.cumsum(0) - own  # (n, 1)
    return PackedTexts(
        subwords=subwords[is_own],
        depths=depths[is_own],
        # rows grow from text to text: the highest so far is of the last text that brought a subword of its own there
        text_rows=torch.where(is_own, row, 0).cummax(0).values,
        key_depths=depths,
        places=places,
        # behind its end the last one again, which sees something: where nothing is seen attention is not finite
        own_rows=(first + torch.minimum(place, own - 1)).clamp(min=0),
        own_index=(place < own).flatten().nonzero().flatten(),
        key_branches=branches,
        row_branches=None if branches is None else branches[is_own],
    )


def read_packed(backbone: nn.Module, packed: PackedTexts) -> tuple[Tensor, Tensor]:
    """Gemma's states (n, T, hidden_size) of packed texts, anything where there is no subword, and their places."""
    config: Any = backbone.config
    distance = packed.depths[packed.own_rows][..., None] - packed.key_depths[:, None]  # (n, Q, T)
    full = distance >= 0
    if packed.key_branches is not None and packed.row_branches is not None:
        own_branches = packed.row_branches[packed.own_rows][..., None]  # (n, Q, 1)
        full &= (packed.key_branches[:, None] == 0) | (packed.key_branches[:, None] == own_branches)
    masks = {"full_attention": full, "sliding_attention": full & (distance < config.sliding_window)}
    states = backbone(
        input_ids=packed.subwords[None],
        position_ids=packed.depths[None],
        attention_mask=masks,
        use_cache=False,
        packed=packed,
    ).last_hidden_state[0]  # (U, hidden_size)
    return _rows(states, packed.text_rows), packed.places


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

    Args:
        module: the attention layer; only transformers' own attention looks at it.
        query: of the row's subwords.
        key: of the row's subwords.
        value: of the row's subwords.
        attention_mask: of the kind of this layer, as `read_packed` makes it.
        packed: what the row holds.
        dropout: of the attention weights.
        scaling: of the products of queries and keys; None is 1 / sqrt(D).
        others: what transformers gives besides, for its own attention.

    Returns:
        The states, and None in place of the attention weights.
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
    return _rows(out, packed.own_index[None]).view(1, -1, H, D), None


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
