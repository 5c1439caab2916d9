"""Both agents: what they refuse, what trains, the exact value estimate, and that they find the better action."""

import functools
from typing import Any

import pytest
import torch
from support.small_agents import ACTIONS, KINDS, best_actions, build, random_batch
from torch import Tensor

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.amago2 import Agent, MultiTaskAgent
from gemma_metamon.nets.agents.base import ActorCriticAgent
from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.heads.actors import MetamonMaskedActor
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("online_coeff", [0.0, 0.25])
def test_the_better_action_is_found_in_random_data(kind: str, online_coeff: float) -> None:
    agent_type, options = KINDS[kind]
    agent = build(agent_type, online_coeff=online_coeff, use_multigamma=False, tau=0.02, **options)
    optimizer = torch.optim.AdamW(agent.trainable_parameters(), lr=5e-3)
    for update in range(100):
        losses = agent(random_batch(update))
        optimizer.zero_grad()
        (losses.actor_loss + 10 * losses.critic_loss).backward()
        agent.update_targets()
        optimizer.step()
    held_out = random_batch(-1, battles=64)
    chosen = agent.eval().action_probs(held_out).argmax(-1)
    assert (chosen == best_actions(held_out.obs["numbers"])).float().mean() > 0.85


@pytest.mark.parametrize("kind", KINDS)
def test_an_infinite_weight_of_what_does_not_count_leaves_the_gradient_finite(kind: str) -> None:
    agent_type, options = KINDS[kind]
    batch = random_batch(0)
    unknown = torch.ones(*batch.rl2s.shape[:2], 1, dtype=torch.bool)
    unknown[0, 0] = False

    def weigh(adv: Tensor) -> Tensor:
        weights = torch.full_like(adv, torch.inf)
        if len(adv) > 1:
            weights[0, 0] = 1.0
        return weights

    agent = build(agent_type, fbc_filter_func=weigh, **options)
    losses = agent(batch._replace(obs={**batch.obs, "missing_action_mask": unknown}))
    losses.actor_loss.backward()
    assert losses.actor_loss > 0
    gradient = agent.actor.base.out_layer.weight.grad
    assert gradient.isfinite().all()
    assert gradient.any()


class NoActionDraws(Draws):
    """The subset of critics may be drawn, an action may not."""

    def action_samples(self, probs: Tensor, num_samples: int) -> Tensor:
        raise AssertionError("an action was drawn")

    def gumbel_noise(self, logits: Tensor) -> Tensor:
        raise AssertionError("noise was drawn")


@pytest.mark.parametrize("kind", ["agent", "multitask, exact"])
def test_an_exact_mean_over_the_policy_draws_no_action(kind: str) -> None:
    agent_type, options = KINDS[kind]
    agent = build(agent_type, online_coeff=0.25, **options)
    losses = agent(random_batch(0), NoActionDraws())
    losses.actor_loss.backward()
    assert agent.actor.base.out_layer.weight.grad.abs().sum() > 0
    assert agent.critics.net.inp_layer.weight.grad is None
    assert agent.maximized_critics.net.inp_layer.weight.grad is None


def test_many_samples_approach_the_exact_value() -> None:
    samples = {"num_actions_for_value_in_critic_loss": 3000, "num_actions_for_value_in_actor_loss": 3000}
    batch = random_batch(0, battles=2, decisions=3)
    batch = batch._replace(dones=torch.zeros_like(batch.dones))

    def stats(**options: Any) -> dict[str, Tensor]:
        agent = build(MultiTaskAgent, num_critics=1, num_critics_td=1, **options)
        with torch.no_grad():  # critics of an untrained agent hardly tell actions apart
            for critics in (agent.critics, agent.target_critics):
                critics.net.output_layer.weight.mul_(8.0)
            agent.actor.base.out_layer.weight.mul_(8.0)
        return agent(batch, Draws(torch.Generator().manual_seed(0))).stats

    exact, sampled, few = stats(value_estimate="exact"), stats(**samples), stats()
    for name in ("td_target_mean", "advantage_mean"):
        near, far = (exact[name] - sampled[name]).abs(), (exact[name] - few[name]).abs()
        assert near < 0.02
        assert near < far


def test_the_online_terms_exact_gradient_is_that_of_the_expectation() -> None:
    """One critic, one state: the loss is -sum pi(a) Q(a), so its gradient by the logits is known."""
    agent = build(
        MultiTaskAgent,
        value_estimate="exact",
        num_critics=1,
        num_critics_td=1,
        online_coeff=1.0,
        offline_coeff=0.0,
        use_multigamma=False,
        popart=False,
    )
    batch = random_batch(0, battles=1, decisions=1)
    bias = agent.actor.base.out_layer.bias
    losses = agent(batch)
    (gradient,) = torch.autograd.grad(losses.actor_loss, bias)
    with torch.no_grad():
        state = agent.traj_encoder(agent.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)[:, :1]
        values = agent.maximized_critics(state, torch.eye(ACTIONS)[:, None, None, None])
        q = agent.maximized_critics.values(values).flatten()  # (A,)
        probs = agent.actor(state).normalized().probs.flatten()
        expected = -probs * (q - (probs * q).sum())
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("agent_type", [Agent, MultiTaskAgent])
def test_the_maximized_critics_follow_the_critics_and_are_not_trained(agent_type: type[ActorCriticAgent]) -> None:
    agent = build(agent_type)
    with torch.no_grad():
        agent.critics.net.inp_layer.weight.add_(1.0)
    trained = {id(parameter) for parameter in agent.trainable_parameters()}
    assert not any(id(parameter) in trained for parameter in agent.maximized_critics.parameters())
    agent.update_targets()
    torch.testing.assert_close(agent.maximized_critics.net.inp_layer.weight, agent.critics.net.inp_layer.weight)


def test_imitation_trains_no_critic() -> None:
    agent = build(Agent, fake_filter=True)
    losses = agent(random_batch(0))
    assert losses.critic_loss == 0
    assert not losses.critic_loss.requires_grad


@pytest.mark.parametrize(
    ("agent_type", "options", "message"),
    [
        (Agent, {"critic_type": NCriticsTwoHot}, "critic_type is NCriticsTwoHot, but Agent learns with NCritics"),
        (MultiTaskAgent, {"critic_type": functools.partial(NCritics, d_hidden=8)}, "learns with NCriticsTwoHot"),
        (
            Agent,
            {"actor_type": MetamonMaskedActor},
            r"mask_illegal_actions is True, but pass_obs_keys_to_actor is \[\]",
        ),
        (Agent, {"fake_filter": True, "offline_coeff": 0.0, "online_coeff": 1.0}, "fake_filter is True.*offline_coeff"),
        (MultiTaskAgent, {"value_estimate": "guessed"}, "'guessed'; it must be one of 'sampled', 'exact'"),
        (
            MultiTaskAgent,
            {"amago_version": "3.1", "critic_type": functools.partial(NCriticsTwoHot, label_type="hlgauss")},
            "label_type 'hlgauss'.*AMAGO 3.1 has no other",
        ),
    ],
)
def test_contradictions_are_refused_by_name(
    agent_type: type[ActorCriticAgent], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(agent_type, **options)
