"""Packed texts: what they have in common is read once, and nothing else passes from one to another.

A small random Gemma, float32, CPU. The reference is transformers' own forward pass, text by text, without padding.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gemma_metamon.nets.reader.backbone import BackboneOptions, build_backbone
from gemma_metamon.nets.reader.packing import pack, plan_chunks, read_packed, use_packed_attention
from gemma_metamon.nets.reader.subword_lookup import Texts

CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"],
    "initializer_range": 0.2,
}
# few different subwords, so that many texts begin alike
lines = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=12), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    torch.manual_seed(0)
    options = BackboneOptions(pretrained=False, backbone_config=CONFIG, use_lora=False, dtype="float32")
    backbone = build_backbone(options, range(20), trim=True)
    use_packed_attention(backbone)
    return backbone.eval()


def texts_of(lines: list[list[int]]) -> Texts:
    longest = max(map(len, lines))
    lengths = torch.tensor([len(line) for line in lines])
    subwords = torch.tensor([line + [0] * (longest - len(line)) for line in lines])
    slots = torch.arange(longest).expand(len(lines), -1)
    return Texts(subwords, slots.masked_fill(slots >= lengths[:, None], -1), lengths)


def read(backbone: nn.Module, texts: Texts) -> list[Tensor]:
    states, _ = read_packed(backbone, pack(texts))
    return [text[:length] for text, length in zip(states, texts.lengths.tolist(), strict=True)]


@settings(max_examples=12)
@given(lines=st.one_of(lines, lines.map(sorted)))
def test_states_are_those_of_each_text_alone(backbone: nn.Module, lines: list[list[int]]) -> None:
    for line, states in zip(lines, read(backbone, texts_of(lines)), strict=True):
        alone = backbone(input_ids=torch.tensor([line])).last_hidden_state[0]
        torch.testing.assert_close(states, alone, rtol=0, atol=1e-5)


def test_gradients_are_those_of_each_text_alone(backbone: nn.Module) -> None:
    lines = [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 6, 7, 8, 9, 10, 11, 12], [2, 2]]
    weights = [torch.randn(len(line), 32, generator=torch.Generator().manual_seed(1)) for line in lines]
    alone = [backbone(input_ids=torch.tensor([line])).last_hidden_state[0] for line in lines]
    gradients = []
    for states in (alone, read(backbone, texts_of(lines))):
        loss = sum((weight * state).sum() for weight, state in zip(weights, states, strict=True))
        gradients.append(torch.autograd.grad(loss, list(backbone.parameters())))
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_text_gets_no_gradient_from_another(backbone: nn.Module) -> None:
    """Each text is of subwords of its own: what reaches their embeddings tells who was read."""
    states = read(backbone, texts_of([[1, 2, 3], [4, 5, 6, 7], [8, 9]]))
    (gradient,) = torch.autograd.grad(states[1].sum(), [backbone.get_parameter("embed_tokens.weight")])
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [4, 5, 6, 7]


@given(lines=lines)
def test_a_common_beginning_stands_once(lines: list[list[int]]) -> None:
    texts, text_of = texts_of(lines).sorted_distinct()
    packed = pack(texts)
    beginnings = {tuple(line[:end]) for line in lines for end in range(1, len(line) + 1)}
    assert len(packed.subwords) == len(beginnings)
    for line, index in zip(lines, text_of.tolist(), strict=True):
        rows = packed.text_rows[index, : len(line)]
        assert packed.subwords[rows].tolist() == line
        assert packed.depths[rows].tolist() == [*range(len(line))]
        assert packed.places[index].tolist()[: len(line)] == [*range(len(line))]


@given(lines=lines, most=st.integers(1, 60))
def test_chunks_hold_every_text_once_and_no_more_than_allowed(lines: list[list[int]], most: int) -> None:
    texts = texts_of(sorted(lines))
    chunks = plan_chunks(texts, most)
    assert [text for chunk in chunks for text in range(len(texts))[chunk]] == [*range(len(texts))]
    for chunk in chunks:
        row = pack(texts[chunk]).subwords
        assert len(row) <= most or chunk.stop - chunk.start == 1


def test_texts_of_the_same_subwords_but_other_words_stay_two() -> None:
    texts = texts_of([[1, 2], [1, 2]])
    texts.places[1] = torch.tensor([0, 0])
    distinct, text_of = texts.sorted_distinct()
    assert len(distinct) == 2
    assert len(pack(distinct).subwords) == 2
    torch.testing.assert_close(distinct.places[text_of], texts.places)
