"""Options that are ours: how the target, the advantage and the critics' share in the trunk differ from AMAGO's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_agents import ACTIONS, KINDS, build, random_batch
from torch import Tensor

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.amago2 import Agent, MultiTaskAgent
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.heads.returns import lambda_return, nstep_return

GAMMA = torch.tensor([[0.5], [0.9]])  # (G, 1)
BOTH = pytest.mark.parametrize("kind", KINDS)


def of_steps(*values: float) -> Tensor:
    """One battle (1, L, 1, 2, 1), the same for both discounts."""
    return torch.tensor(values)[None, :, None, None, None].expand(1, -1, 1, 2, 1)


def test_a_lambda_return_is_what_it_is_by_hand() -> None:
    """Two steps, the second the battle's last, lambda 1/2, discount 1/2: 1 + (8 / 2 + 4 / 2) / 2 = 4."""
    arguments = of_steps(1.0, 4.0), of_steps(0.0, 1.0), of_steps(8.0, 100.0), GAMMA[:1]
    target = lambda_return(*(x[..., :1, :] if x.ndim == 5 else x for x in arguments), 0.5, torch.ones(1, 2, 1, 1, 1))
    assert target.flatten().tolist() == [4.0, 4.0]


def test_a_lambda_return_mixes_those_of_all_numbers_of_steps() -> None:
    """(1 - lambda) lambda^(n - 1) of that of n steps, and what is left of that of all."""
    generator = torch.Generator().manual_seed(0)
    L, lambda_, shape = 6, 0.7, (3, 6, 1, 2, 1)
    rewards, next_q = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    arguments = rewards, F.pad(torch.zeros(3, L - 1, 1, 2, 1), (0,) * 7 + (1,), value=1.0), next_q, GAMMA
    real = torch.ones(3, L, 1, 1, 1)
    shares = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, L)] + [lambda_ ** (L - 1)]
    mixed = sum(share * nstep_return(*arguments, n, real) for n, share in enumerate(shares, start=1))
    torch.testing.assert_close(lambda_return(*arguments, lambda_, real), mixed)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 6), st.booleans())
def test_a_lambda_of_0_is_one_step_and_of_1_all_that_are_recorded(seed: int, steps: int, pad: int, ends: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, steps + pad, 1, 2, 1)
    rewards, next_q = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    real = (torch.arange(steps + pad) < steps).float()[None, :, None, None, None].expand(2, -1, 1, 1, 1)
    dones = torch.zeros(shape)
    dones[:, steps - 1] = float(ends)
    rewards, next_q = (torch.where(real > 0, x, 4.0) for x in (rewards, next_q))
    for lambda_, n in ((0.0, 1), (1.0, steps)):
        ours = lambda_return(rewards, dones, next_q, GAMMA, lambda_, real)
        theirs = nstep_return(rewards, dones, next_q, GAMMA, n, real)
        torch.testing.assert_close(ours[:, :steps], theirs[:, :steps])
        assert (ours[:, steps:] == 0).all()


@BOTH
def test_an_advantage_from_the_target_is_the_target_less_the_policys_value(kind: str) -> None:
    """One battle of two decisions with the rewards 1 and 3 at discount 1/2: the targets are 2.5 and 3."""
    agent_type, options = KINDS[kind]
    noted: list[Tensor] = []

    def note(adv: Tensor) -> Tensor:
        noted.append(adv)
        return torch.ones_like(adv)

    agent = build(
        agent_type,
        **options,
        advantage="target",
        lambda_return=1.0,
        gamma=0.5,
        use_multigamma=False,
        num_actions_for_value_in_actor_loss=4000,
        fbc_filter_func=note,
    ).eval()
    batch = random_batch(0, battles=1, decisions=2)
    batch = batch._replace(rewards=torch.tensor([[[1.0], [3.0]]]), dones=torch.tensor([[[False], [True]]]))
    noted.clear()
    agent(batch)
    with torch.no_grad():
        state = agent.traj_encoder(agent.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)[:, :2]
        probs = agent.actor(state).probs
        if agent_type is Agent:
            value = agent.popart(agent.critics(state, probs[None])[0].mean(2), normalized=False)
        else:
            each = torch.eye(ACTIONS)[:, None, None, None].expand(-1, 1, 2, 1, -1)
            of_each = agent.critics.values(agent.critics(state, each)).mean(3)[..., 0]  # (A, 1, 2, 1)
            value = (of_each * probs.movedim(-1, 0)).sum(0)[..., None]
    (advantage,) = noted
    expected = torch.tensor([2.5, 3.0])[None, :, None, None] - value
    torch.testing.assert_close(advantage, expected, rtol=0, atol=0.05 if kind == "multitask" else 1e-4)


def learnt(agent: Any, updates: int = 80, battles: Callable[[int], Batch] = random_batch) -> Any:
    optimizer = torch.optim.AdamW(agent.trainable_parameters(), lr=5e-3)
    for update in range(updates):
        losses = agent(battles(update))
        optimizer.zero_grad()
        (losses.actor_loss + 10 * losses.critic_loss).backward()
        agent.update_targets()
        optimizer.step()
    return agent


@BOTH
def test_critics_that_read_alone_change_no_encoder(kind: str) -> None:
    agent_type, options = KINDS[kind]
    for trains in (True, False):
        agent = build(agent_type, critics_train_trunk=trains, **options)
        losses = agent(random_batch(0))
        losses.critic_loss.backward()
        received = {
            name.partition(".")[0] for name, p in agent.named_parameters() if p.grad is not None and p.grad.any()
        }
        assert received == ({"tstep_encoder", "traj_encoder", "critics"} if trains else {"critics"})
        agent.zero_grad()
        agent(random_batch(0)).actor_loss.backward()
        assert agent.tstep_encoder.linear.weight.grad.any()


@BOTH
def test_critics_of_states_learn_of_the_timestep_alone(kind: str) -> None:
    agent_type, options = KINDS[kind]
    agent = build(agent_type, baseline="state", **options)
    agent(random_batch(0)).critic_loss.backward()
    assert all(p.grad.any() for p in agent.state_critics.parameters())
    agent.zero_grad()
    encoded, actions = agent.encode(random_batch(0)), random_batch(0).actions
    view = agent._judge(encoded, actions, torch.zeros(12, 6, 1, len(agent.gammas), 1))
    reached = torch.autograd.grad(view.loss.sum(), tuple(encoded), retain_graph=True)
    alone = torch.autograd.grad(
        agent._critic_view(encoded.state, actions, torch.zeros(12, 6, 1, len(agent.gammas), 1)).loss.sum(),
        encoded.state,
    )
    assert reached[0].any()
    torch.testing.assert_close(reached[1], alone[0])
    assert agent.trainable_parameters()[-1] is list(agent.state_critics.parameters())[-1]


@BOTH
def test_without_a_filter_a_baseline_changes_nothing_of_what_the_policy_learns(kind: str) -> None:
    agent_type, options = KINDS[kind]
    plain, above = (build(agent_type, fake_filter=True, baseline=b, **options) for b in ("policy", "state"))
    shared = plain.state_dict()
    assert all(torch.equal(above.state_dict()[key], value) for key, value in shared.items())
    assert torch.equal(plain(random_batch(0)).actor_loss, above(random_batch(0)).actor_loss)


def players(seed: int) -> Batch:
    """Two players, told apart by the first state alone. The one takes action 2 and is paid, the other action 1."""
    batch = random_batch(seed)
    strong = torch.arange(12) % 2 == 0
    numbers = torch.zeros_like(batch.obs["numbers"])
    numbers[:, 0, 1] = torch.where(strong, 1.0, -1.0)
    chosen = torch.where(strong, 2, 1)[:, None].expand(batch.actions.shape[:2])
    return batch._replace(
        obs={"numbers": numbers},
        actions=F.one_hot(chosen, ACTIONS).float(),
        rewards=(chosen == 2).float()[..., None],
    )


# the critics of Agent are in PopArt's scale
@pytest.mark.parametrize(("kind", "advantage"), [("multitask", "critic"), ("multitask", "target"), ("agent", "target")])
def test_only_above_the_state_is_a_stronger_player_better(kind: str, advantage: str) -> None:
    """Both know who plays and do what they always do: above the policy's value nothing is good or bad of it."""
    agent_type, options = KINDS[kind]
    for baseline, gap in (("policy", 0.0), ("state", 0.5)):
        imitating = {"use_multigamma": False, "gamma": 0.1, "critic_warmup_updates": 1000}
        agent = build(agent_type, **imitating, baseline=baseline, advantage=advantage, **options)
        advantages = learnt(agent, 150, players).eval().judge_recorded(players(-1)).advantage
        # not in the first state, which shows who plays
        assert float(advantages[::2, 1:].mean()) == pytest.approx(gap, abs=0.15)
        assert float(advantages[1::2, 1:].mean()) == pytest.approx(-gap, abs=0.15)


def test_a_run_begins_with_another_whatever_baseline_both_have() -> None:
    above, plain = build(MultiTaskAgent, baseline="state"), build(MultiTaskAgent)
    assert above.starting_state(above.state_dict()).keys() == above.state_dict().keys()
    assert above.starting_state(plain.state_dict()).keys() == above.state_dict().keys()
    assert plain.starting_state(above.state_dict()).keys() == plain.state_dict().keys()
    other = {key: torch.full_like(value, 7) for key, value in above.state_dict().items()}
    assert all((value == 7).all() for value in above.starting_state(other).values())


@BOTH
def test_the_filter_comes_after_the_critics_warm_up(kind: str) -> None:
    agent_type, options = KINDS[kind]

    def loss(agent: Any) -> Tensor:
        torch.manual_seed(0)
        losses = agent.eval()(random_batch(0))
        assert losses.critic_loss > 0 or agent.options.fake_filter
        return losses.actor_loss

    imitating, waiting = (
        build(agent_type, critic_warmup_updates=2, critic_warmup=warmup, online_coeff=0.5, **options)
        for warmup in ("imitate", "wait")
    )
    before, after = build(agent_type, fake_filter=True, **options), build(agent_type, online_coeff=0.5, **options)
    for update in range(3):
        warm = update < 2
        torch.testing.assert_close(loss(imitating), loss(before) if warm else loss(after))
        torch.testing.assert_close(loss(waiting), torch.zeros(()) if warm else loss(after))
        for agent in (imitating, waiting):
            agent.update_targets()
    assert "updates_made" not in imitating.state_dict()
    assert int(imitating.filter_memory()["updates_made"]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"advantage": "value"}, r"MultiTaskAgent\.advantage = 'value'; it must be one of 'critic', 'target'"),
        ({"lambda_return": 1.5}, r"lambda_return = 1\.5; it must be a number of at least 0 and at most 1, or None"),
        ({"lambda_return": 0.9, "n_step": 5}, "n_step is 5 and lambda_return is 0.9, which exclude each other"),
        ({"lambda_return": 0.9, "amago_version": "3.1"}, "lambda_return .0.9. must be None with amago_version"),
        ({"baseline": "mean"}, r"MultiTaskAgent\.baseline = 'mean'; it must be one of 'policy', 'state'"),
        ({"critics_train_trunk": 1}, "critics_train_trunk = 1; it must be True or False"),
        ({"critic_warmup_updates": -1}, "critic_warmup_updates = -1"),
        ({"critic_warmup": "sleep"}, "critic_warmup = 'sleep'"),
        ({"critic_warmup_updates": 5, "fake_filter": True}, "critic_warmup_updates is 5, but fake_filter is True"),
        ({"critic_warmup_updates": 5, "offline_coeff": 0.0}, "the critics learn alone from the first update"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(MultiTaskAgent, **options)
