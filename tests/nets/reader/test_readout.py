"""The readout pools texts of any length into tokens of unit scale; padding takes no part in it, a word's place does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.nets.reader.numbers import NumbersEncoder
from gemma_metamon.nets.reader.readout import SummaryReadout


@pytest.fixture(scope="module")
def readout() -> SummaryReadout:
    torch.manual_seed(0)
    return SummaryReadout(640, 6, summary_tokens=21, token_dim=128)


def random_states(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_padding_does_not_change_a_text(readout: SummaryReadout) -> None:
    states = random_states(1, 9, 640)
    slots = torch.tensor([[0, 1, 1, 2, -1, -1, -1, -1, -1]])
    torch.testing.assert_close(readout(states, slots), readout(states[:, :4], slots[:, :4]), rtol=0, atol=1e-5)


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_what_stands_in_the_padding_is_never_read(readout: SummaryReadout, lengths: list[int], seed: int) -> None:
    states = random_states(len(lengths), 7, 640, seed=seed)
    position = torch.arange(7)
    slots = torch.where(position < torch.tensor(lengths)[:, None], position, -1)
    spoiled = states.masked_fill(slots[..., None] < 0, 1e6)
    torch.testing.assert_close(readout(spoiled, slots), readout(states, slots), rtol=0, atol=0)


def test_a_text_of_one_subword_gives_that_subword_to_every_token(readout: SummaryReadout) -> None:
    states = random_states(1, 1, 640)
    normed = readout.state_norm(states[:, 0])  # (1, 640)
    expected = readout.token_norm(torch.einsum("nh,shd->nsd", normed, readout.to_tokens)).flatten(1)
    torch.testing.assert_close(readout(states, torch.tensor([[3]])), expected, rtol=0, atol=1e-5)


def test_each_token_weighs_states_by_its_own_scores() -> None:
    """By hand: two states, two tokens, one of which looks only at the first state and one only at the second."""
    readout = SummaryReadout(2, None, summary_tokens=2, token_dim=2)
    with torch.no_grad():
        readout.to_scores.weight.copy_(torch.tensor([[100.0, 0.0], [0.0, 100.0]]))
        readout.to_tokens.copy_(torch.stack([torch.eye(2), 2 * torch.eye(2)]))
    readout.state_norm, readout.token_norm = torch.nn.Identity(), torch.nn.Identity()
    states = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    out = readout(states, torch.tensor([[0, 1]]))
    torch.testing.assert_close(out, torch.tensor([[1.0, 0.0, 0.0, 2.0]]), rtol=0, atol=1e-6)


def test_a_head_can_choose_states_by_the_place_of_their_word() -> None:
    """By hand: the only score is 100 for slot 2, whatever stands there."""
    readout = SummaryReadout(2, 3, summary_tokens=1, token_dim=2)
    with torch.no_grad():
        readout.to_scores.weight.zero_()
        readout.slot_scores.copy_(torch.tensor([[0.0], [0.0], [100.0], [0.0]]))
        readout.to_tokens.copy_(torch.eye(2)[None])
    readout.state_norm, readout.token_norm = torch.nn.Identity(), torch.nn.Identity()
    states = random_states(1, 5, 2)
    out = readout(states, torch.tensor([[0, 1, 2, 2, 3]]))  # the second word has two subwords
    torch.testing.assert_close(out, states[:, 2:4].mean(1), rtol=0, atol=1e-6)


def test_the_attention_is_what_forward_pools_by(readout: SummaryReadout) -> None:
    states, slots = random_states(2, 5, 640), torch.tensor([[0, 1, 2, 2, 3], [0, 1, -1, -1, -1]])
    attention = readout.attention(states, slots)  # (2, 5, 21)
    assert attention[1, 2:].abs().max() == 0
    torch.testing.assert_close(attention.sum(1), torch.ones(2, 21), rtol=0, atol=1e-6)
    pooled = torch.einsum("nts,nth->nsh", attention, readout.state_norm(states))
    expected = readout.token_norm(torch.einsum("nsh,shd->nsd", pooled, readout.to_tokens)).flatten(1)
    torch.testing.assert_close(readout(states, slots), expected, rtol=0, atol=1e-5)


def test_tokens_have_unit_scale_however_large_the_states_are(readout: SummaryReadout) -> None:
    states = random_states(3, 5, 640) * torch.logspace(-1, 3, 640)
    tokens = readout(states, torch.arange(5).expand(3, 5)).unflatten(1, (21, 128))
    torch.testing.assert_close(tokens.square().mean(-1), torch.ones(3, 21), rtol=0, atol=1e-3)


def test_bfloat16_states_are_read_in_float32(readout: SummaryReadout) -> None:
    assert readout(random_states(1, 3, 640).bfloat16(), torch.tensor([[0, 1, 2]])).dtype == torch.float32


def test_numbers_see_reward_and_action() -> None:
    torch.manual_seed(0)
    numbers = NumbersEncoder(55, 14)
    rl2s = torch.zeros(1, 2, 14)
    rl2s[0, 1, 0] = 100.0
    out = numbers(torch.zeros(1, 2, 55), rl2s)
    assert out.shape == (1, 2, 256)
    assert (out[0, 0] - out[0, 1]).abs().max() > 0.1
    torch.testing.assert_close(out.square().mean(-1), torch.ones(1, 2), rtol=0, atol=1e-2)
