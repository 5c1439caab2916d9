"""MultiTaskAgent: what is masked, trained, moved and refused (that its numbers are AMAGO's: test_amago_goldens)."""

import math
from typing import Any

import pytest
import torch
from support.amago_goldens import Golden, build_agent, golden_batch, load_agent, recorded_draws, relative_error

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.amago2 import MultiTaskAgent
from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.agents.interface import AgentLosses
from gemma_metamon.nets.batch import PAD_VALUE, Batch, countable_actions, padded_timesteps

POLICY = ("tstep_encoder", "traj_encoder", "actor")
HOME = "amago-3.1.1/agent/multitask_seed0"


def losses_of(agent: MultiTaskAgent, setting: str, batch: Batch | None = None) -> AgentLosses:
    draws = recorded_draws(setting)
    losses = agent(golden_batch() if batch is None else batch, draws)
    assert draws.all_used()
    return losses


def total(losses: AgentLosses) -> torch.Tensor:
    return losses.actor_loss + 10 * losses.critic_loss


def new_agent(**options: Any) -> MultiTaskAgent:
    torch.manual_seed(0)
    return build_agent(Golden(f"{HOME}/params").config, **options)


def test_acting_never_gives_the_illegal_a_chance() -> None:
    golden, agent = Golden(f"{HOME}/acting"), load_agent("binary_rl").eval()
    cache, rows = agent.traj_encoder.init_cache(3), torch.arange(3)
    for step in range(20):
        if step == golden.config["reset_before_step"]:
            cache.reset(golden.config["reset_row"])
        obs = {name: value[:, step : step + 1] for name, value in golden.group("inputs").items()}
        _, probs = agent.act(obs, obs.pop("rl2s"), obs.pop("time_idxs"), cache, rows)
        illegal = obs["illegal_actions"][:, 0]
        illegal = illegal & ~illegal.all(-1, keepdim=True)
        assert (probs[illegal] == 0).all()
        legal = golden["outputs/probs"][:, step, -1].masked_fill(illegal, 0.0)
        assert relative_error(probs, legal / legal.sum(-1, keepdim=True)) < 2e-5


@pytest.mark.parametrize("masked_actor", [True, False])
def test_sampled_actions_are_legal_and_follow_the_temperature(masked_actor: bool) -> None:
    agent = load_agent("binary_rl").eval()
    agent.actor.mask_illegal_actions = masked_actor
    n = 200
    illegal = torch.ones(n, 1, 13, dtype=torch.bool)
    illegal[:, :, [2, 7, 11]] = False
    obs = {"numbers": torch.zeros(n, 1, 10), "illegal_actions": illegal}
    arguments = (obs, torch.zeros(n, 1, 14), torch.zeros(n, 1, 1, dtype=torch.long))

    def act(temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        cache = agent.traj_encoder.init_cache(n)
        return agent.act(*arguments, cache, torch.arange(n), sample=True, temperature=temperature, generator=generator)

    actions, probs = act(1.0)
    assert set(actions.tolist()) <= {2, 7, 11}
    assert len(set(actions.tolist())) > 1
    torch.testing.assert_close(probs.sum(-1), torch.ones(n))
    sharp, flat = act(0.1)[1], act(100.0)[1]
    assert sharp[0].max() > probs[0].max() > flat[0].max()
    assert flat[0].max() < 0.36
    with pytest.raises(ConfigError, match="temperature"):
        act(0.0)


def test_what_padding_and_missing_actions_hold_changes_nothing() -> None:
    batch = golden_batch()
    before = losses_of(load_agent("exp_rl"), "exp_rl", batch)
    padded = padded_timesteps(batch.rl2s)
    obs = {**batch.obs, "numbers": batch.obs["numbers"].masked_fill(padded[..., None], -7.0)}
    rewards = batch.rewards.masked_fill(padded[:, 1:, None], 55.0)
    actions = batch.actions.masked_fill(padded[:, 1:, None], 0.0)
    missing = batch.obs["missing_action_mask"][:, :-1] & ~padded[:, 1:, None]
    assert missing.any()
    # the recorded action of a missing choice is a filler: another filler gives the same losses
    actions = torch.where(missing, torch.eye(13)[5], actions)
    after = losses_of(load_agent("exp_rl"), "exp_rl", batch._replace(obs=obs, rewards=rewards, actions=actions))
    torch.testing.assert_close(after.actor_loss, before.actor_loss)
    torch.testing.assert_close(after.critic_loss, before.critic_loss)


def test_padding_is_a_whole_row_of_the_pad_value() -> None:
    rl2s = torch.full((1, 3, 4), PAD_VALUE)
    rl2s[0, 0, 1] = 0.0
    assert padded_timesteps(rl2s).tolist() == [[False, True, True]]


def test_a_batch_moves_as_a_whole() -> None:
    batch = golden_batch()
    moved = batch._replace(labels=batch.actions.argmax(-1)).to("meta")
    assert {array.device.type for array in (*moved.obs.values(), *moved[1:])} == {"meta"}
    assert batch.to("meta").labels is None


def test_targets_move_towards_the_online_networks() -> None:
    agent = new_agent(online_coeff=0.25)
    with torch.no_grad():
        for parameter in agent.critics.parameters():
            parameter.add_(1.0)
    agent.update_targets()
    online, slow = agent.critics.net.inp_layer.weight, agent.target_critics.net.inp_layer.weight
    torch.testing.assert_close(online - slow, torch.full_like(online, 1.0 - 0.004))
    torch.testing.assert_close(agent.maximized_critics.net.inp_layer.weight, online)


def test_only_the_online_networks_are_trained() -> None:
    agent = new_agent(online_coeff=0.25)
    agent.tstep_encoder.linear.bias.requires_grad_(False)
    total(agent(golden_batch())).backward()
    trained = {id(parameter) for parameter in agent.trainable_parameters()}
    parts = ("tstep_encoder", "traj_encoder", "critics", "actor")
    for name, parameter in agent.named_parameters():
        expected = name.split(".")[0] in parts and name != "tstep_encoder.linear.bias"
        assert (id(parameter) in trained) == expected, name
        assert (parameter.grad is not None) == expected, name


def test_the_old_version_gives_the_maximized_critics_gradients() -> None:
    agent = new_agent(online_coeff=0.25, amago_version="3.1")
    total(agent(golden_batch())).backward()
    assert all(parameter.grad is not None for parameter in agent.maximized_critics.parameters())
    assert len(agent.trainable_parameters()) == len(new_agent().trainable_parameters())


def test_the_state_dict_has_upstreams_keys() -> None:
    ours = [key for key in new_agent().state_dict() if not key.startswith("maximized_critics")]
    assert ours == list(Golden(f"{HOME}/params").group("params"))


def test_evaluating_a_batch_moves_nothing() -> None:
    agent = load_agent("binary_rl").eval()
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    losses_of(agent, "binary_rl")
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())


def test_bfloat16_autocast_changes_the_losses_little() -> None:
    exact = losses_of(load_agent("il"), "il")
    agent, critical = load_agent("il"), load_agent("binary_rl")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = losses_of(agent, "il")
    total(rough).backward()
    torch.testing.assert_close(rough.actor_loss, exact.actor_loss, rtol=0.05, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert losses_of(critical, "binary_rl").critic_loss.dtype == torch.float32


def test_an_agent_is_counted_without_memory() -> None:
    with torch.device("meta"):
        agent = new_agent()
    real = new_agent()
    assert {name: value.shape for name, value in agent.state_dict().items()} == {
        name: value.shape for name, value in real.state_dict().items()
    }
    assert all(parameter.is_meta for parameter in agent.parameters())


def test_a_given_generator_makes_the_losses_repeatable() -> None:
    first, second, other = (
        total(load_agent("binary_maxq_rl")(golden_batch(), Draws(torch.Generator().manual_seed(seed)))).item()
        for seed in (1, 1, 2)
    )
    assert math.isfinite(first)
    assert first == second
    assert first != other


def test_draws_follow_the_probabilities() -> None:
    probs = torch.tensor([0.7, 0.2, 0.1]).expand(2, 3, 1, 3)
    samples = Draws(torch.Generator().manual_seed(0)).action_samples(probs, 4000)
    assert samples.shape == (4000, 2, 3, 1)
    torch.testing.assert_close(
        torch.nn.functional.one_hot(samples).float().mean(0), probs.contiguous(), rtol=0, atol=0.03
    )


def test_statistics_are_plain_numbers() -> None:
    losses = losses_of(load_agent("binary_rl"), "binary_rl")
    assert {"filter_mean", "filter_share", "advantage_mean", "td_target_mean", "q_mean"} < losses.stats.keys()
    assert all(value.ndim == 0 and not value.requires_grad for value in losses.stats.values())
    counted = countable_actions(golden_batch()).float().mean()
    torch.testing.assert_close(losses.stats["counted_share"], counted)
    assert 0 <= losses.stats["action_accuracy"] <= 1
    assert 0 < losses.stats["policy_entropy"] < math.log(13)


def test_imitation_learns_a_fixed_rule() -> None:
    """The best action is where the observation's largest number stands; 200 updates find it."""
    torch.manual_seed(0)
    agent = new_agent(fake_filter=True, use_multigamma=False)
    optimizer = torch.optim.AdamW(agent.trainable_parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        numbers = torch.randn(8, 9, 10, generator=generator)
        actions = torch.nn.functional.one_hot(numbers[:, :-1].argmax(-1), 13).float()
        batch = Batch(
            {"numbers": numbers, "illegal_actions": torch.zeros(8, 9, 13, dtype=torch.bool)},
            torch.zeros(8, 9, 14),
            torch.zeros(8, 8, 1),
            torch.zeros(8, 8, 1, dtype=torch.bool),
            actions,
            torch.arange(9)[None, :, None].expand(8, -1, -1),
        )
        losses = agent(batch)
        optimizer.zero_grad()
        losses.actor_loss.backward()
        optimizer.step()
    assert losses.stats["action_accuracy"] > 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"online_coeff": -1.0}, r"MultiTaskAgent\.online_coeff = -1\.0; it must be"),
        ({"gamma": 1.5}, r"gamma = 1\.5; it must be a number of at least 0 and at most 1"),
        ({"n_step": 0}, "n_step = 0; it must be"),
        ({"n_step": 3, "amago_version": "3.1"}, r"n_step \(3\) must be 1"),
        ({"amago_version": "3.2"}, "'3.2'; it must be one of '3.3', '3.1'"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        new_agent(**options)


@pytest.mark.parametrize("kind", ["multitask_seed0", "agent_seed0"])
def test_critics_alone_leave_the_policy_and_its_states_as_they_are(kind: str) -> None:
    setting, batch = "binary_rl", golden_batch(folder=kind)
    agent, ordinary = (load_agent(setting, folder=kind, **options) for options in ({"offline_coeff": 0.0}, {}))
    policy = {key: value.clone() for key, value in agent.state_dict().items() if key.split(".")[0] in POLICY}
    ordinary.traj_encoder.eval()  # whose sigmas move in training mode
    losses, expected = (one(batch, recorded_draws(setting, folder=kind)) for one in (agent, ordinary))
    assert losses.critic_loss == expected.critic_loss
    assert losses.actor_loss == 0
    (losses.actor_loss + 10 * losses.critic_loss).backward()
    received = {name.split(".")[0] for name, parameter in agent.named_parameters() if parameter.grad is not None}
    assert received == {"critics"}
    assert {id(p) for p in agent.trainable_parameters()} == {id(p) for p in agent.critics.parameters()}
    agent.update_targets()
    after = agent.state_dict()
    assert all(torch.equal(after[key], value) for key, value in policy.items())
    assert agent.training
    assert not agent.traj_encoder.training


def test_an_observation_that_is_not_there_is_named() -> None:
    agent, batch = new_agent(), golden_batch()
    with pytest.raises(ConfigError, match="names 'illegal_actions', but the observations are numbers"):
        agent(batch._replace(obs={"numbers": batch.obs["numbers"]}))
