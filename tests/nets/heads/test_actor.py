"""Actors: the rules of clipping and masking (that their numbers are AMAGO's: test_amago_goldens)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.heads.actors import Actor, Discrete, MetamonMaskedActor, avoidable_actions


@settings(max_examples=50)
@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=13))
def test_no_action_is_certain_or_impossible(outputs: list[float]) -> None:
    policy = Discrete(len(outputs))(torch.tensor(outputs))
    assert policy.probs.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert policy.probs.min() >= 0.0009
    assert policy.probs.max() <= 0.9991
    assert policy.logits.isfinite().all()


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=13))
def test_something_is_always_left_to_do(illegal: list[bool]) -> None:
    row = torch.tensor(illegal)
    assert not avoidable_actions(row).all()
    assert torch.equal(avoidable_actions(row), row) or row.all()


def test_a_padded_action_is_softened_to_an_even_one() -> None:
    torch.testing.assert_close(Discrete(13).clip(torch.ones(13)), torch.full((13,), 1 / 13))


def test_the_mask_can_be_switched_off() -> None:
    torch.manual_seed(0)
    actor = MetamonMaskedActor(4, 3, True, [0.9], mask_illegal_actions=False)
    state = torch.randn(1, 2, 4)
    illegal = torch.tensor([True, False, True]).expand(1, 2, 3)
    torch.testing.assert_close(actor(state, {"illegal_actions": illegal}).probs, actor(state).probs)


def test_a_masked_actor_without_the_mask_says_where_it_goes() -> None:
    actor = MetamonMaskedActor(4, 3, True, [0.9])
    with pytest.raises(ConfigError, match="pass_obs_keys_to_actor has no 'illegal_actions'"):
        actor(torch.zeros(1, 1, 4), {})


def test_actions_without_a_list_are_refused() -> None:
    with pytest.raises(ConfigError, match="discrete must be True"):
        Actor(4, 3, False, [0.9])
    with pytest.raises(ConfigError, match="continuous_dist_type"):
        Actor(4, 3, True, [0.9], continuous_dist_type=object)
    with pytest.raises(ConfigError, match="clip_prob_low"):
        Discrete(3, clip_prob_low=0.5, clip_prob_high=0.2)
