"""Actors: AMAGO's numbers, and the rules of clipping and masking."""

import pytest
import torch
from amago_goldens import Golden, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.actors import Actor, Discrete, MetamonMaskedActor, MetamonMaskedResidualActor, avoidable_actions

GOLDEN_ACTORS = {"actor_masked": MetamonMaskedActor, "actor_masked_residual": MetamonMaskedResidualActor}


@pytest.mark.parametrize("name", GOLDEN_ACTORS)
def test_distribution_and_gradient_match_amago(name: str) -> None:
    golden = Golden(name)
    not_ours = {"amago", "cls", "seed", "clip_prob_low", "clip_prob_high"}
    actor = GOLDEN_ACTORS[name](**{key: value for key, value in golden.config.items() if key not in not_ours})
    actor.load_state_dict(golden.group("params"))
    state = golden["inputs/state"].requires_grad_()
    indices = golden["inputs/action_idx"].long()
    policy = actor(state, {"illegal_actions": golden["inputs/illegal_actions"]})  # (3, 6, 7, 13)
    one_hot = policy.normalized()
    ours = {
        "probs": policy.probs,
        "logits": policy.logits,
        "entropy": policy.entropy(),
        "log_prob": policy.log_prob(indices),
        "onehot_probs": one_hot.probs,
        "onehot_logits": one_hot.logits,
        "onehot_log_prob": one_hot.log_prob(indices),
        "onehot_entropy": one_hot.entropy(),
    }
    for key, value in ours.items():
        if f"outputs/{key}" in golden:
            assert relative_error(value, golden[f"outputs/{key}"]) < 2e-6, key
    policy.log_prob(indices).sum().backward()
    assert relative_error(state.grad, golden["outputs/grad_state_of_sum_log_prob"]) < 2e-5


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=13))
def test_no_action_is_certain_or_impossible(outputs: list[float]) -> None:
    policy = Discrete(len(outputs))(torch.tensor(outputs))
    assert policy.probs.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert policy.probs.min() >= 0.0009
    assert policy.probs.max() <= 0.9991
    assert policy.logits.isfinite().all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=13))
def test_something_is_always_left_to_do(illegal: list[bool]) -> None:
    row = torch.tensor(illegal)
    assert not avoidable_actions(row).all()
    assert torch.equal(avoidable_actions(row), row) or row.all()


def test_softened_actions_match_amago() -> None:
    one_hot, padded = torch.eye(13)[4], torch.ones(13)
    softened = Discrete(13).clip(one_hot)
    torch.testing.assert_close(softened[[4, 0]], torch.tensor([0.988024, 0.000998]), rtol=0, atol=1e-6)
    torch.testing.assert_close(Discrete(13).clip(padded), torch.full((13,), 1 / 13))


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
