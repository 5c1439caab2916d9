"""Both agents: what they refuse, what trains, the exact value estimate, and that they find the better action."""

import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.amago2 import Agent, MultiTaskAgent
from gemma_metamon.nets.agents.base import ActorCriticAgent
from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.heads.actors import Actor, MetamonMaskedActor
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot
from gemma_metamon.nets.trajectory.traj_encoder import TformerTrajEncoder

ACTIONS = 4
KINDS = {
    "agent": (Agent, {}),
    "multitask": (MultiTaskAgent, {}),
    "multitask, exact": (MultiTaskAgent, {"value_estimate": "exact"}),
}


class NumbersAlone(nn.Module):
    """A timestep encoder of one linear layer."""

    emb_dim = 16

    def __init__(self, obs_space: Any, rl2_space: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(3, self.emb_dim)

    def forward(self, obs: dict[str, Tensor], rl2s: Tensor) -> Tensor:
        out: Tensor = self.linear(obs["numbers"])
        return out


def build(agent_type: type[ActorCriticAgent], **options: Any) -> Any:
    torch.manual_seed(0)
    critics = {
        Agent: functools.partial(NCritics, d_hidden=32),
        MultiTaskAgent: functools.partial(
            NCriticsTwoHot, d_hidden=32, min_return=-11, max_return=11, output_bins=23, use_symlog=False
        ),
    }
    defaults = {
        "num_critics": 3,
        "online_coeff": 0.0,
        "offline_coeff": 1.0,
        "reward_multiplier": 1.0,
        "critic_type": critics[agent_type],
        "actor_type": functools.partial(Actor, d_hidden=32),
    }
    return agent_type(
        obs_space={"numbers": SimpleNamespace(shape=(3,))},
        rl2_space=SimpleNamespace(shape=(1 + ACTIONS,)),
        action_space=SimpleNamespace(n=ACTIONS),
        tstep_encoder_type=NumbersAlone,
        traj_encoder_type=functools.partial(
            TformerTrajEncoder, d_model=16, n_heads=2, d_ff=32, n_layers=1, dropout_ff=0.0, dropout_emb=0.0
        ),
        max_seq_len=6,
        **(defaults | options),
    )


def random_batch(seed: int, battles: int = 12, decisions: int = 6) -> Batch:
    """Random actions; the reward of a decision is 1 for the action that the first number asks for, else 0."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(battles, decisions + 1, 3, generator=generator)
    chosen = torch.randint(ACTIONS, (battles, decisions), generator=generator)
    best = best_actions(numbers)[:, :-1]
    return Batch(
        {"numbers": numbers},
        torch.zeros(battles, decisions + 1, 1 + ACTIONS),
        (chosen == best).float()[..., None],
        torch.ones(battles, decisions, 1, dtype=torch.bool),
        nn.functional.one_hot(chosen, ACTIONS).float(),
        torch.arange(decisions + 1).expand(battles, -1)[..., None],
    )


def best_actions(numbers: Tensor) -> Tensor:
    return (numbers[..., 0] > 0).long() * 2  # action 2 or action 0


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
