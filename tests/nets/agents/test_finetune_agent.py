"""MetamonFinetuneAgent: what copies share and follow, and who acts (its numbers are metamon's: test_amago_goldens)."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import golden_finetune as goldens
from support.amago_goldens import Golden, build_agent, golden_batch, recorded_draws
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.amago2 import MultiTaskAgent
from gemma_metamon.nets.agents.copies import (
    COPIES,
    SLOW,
    TARGETS,
    copy_sharing_frozen,
    follow,
    plain_state,
    state_with_copies,
)
from gemma_metamon.nets.agents.finetune import MetamonFinetuneAgent
from gemma_metamon.nets.heads.batch_filters import ISAdvantageFilter
from gemma_metamon.nets.heads.filters import exp_filter
from gemma_metamon.nets.trajectory.traj_encoder import SigmaReparam

SETTLED = sorted(COPIES.keys() - {"data_actor"})


def new_agent(agent_type: type[MultiTaskAgent] = MetamonFinetuneAgent, **options: Any) -> Any:
    torch.manual_seed(0)
    config = Golden(f"{goldens.HOME}/params").config
    own = {} if agent_type is MultiTaskAgent else {"fbc_filter_func": ISAdvantageFilter()}
    return build_agent(config, agent_type=agent_type, **(own | options))


def part_of(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.partition(".")[2]: value for key, value in state.items() if key.partition(".")[0] == name}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def learn(agent: Any, updates: int = 2) -> None:
    optimizer = torch.optim.AdamW(agent.trainable_parameters(), lr=1e-2)
    for _ in range(updates):
        losses = agent(golden_batch(), recorded_draws("binary_rl"))
        optimizer.zero_grad()
        (losses.actor_loss + 10 * losses.critic_loss).backward()
        agent.update_targets()
        optimizer.step()


def test_the_goldens_tell_a_clipped_correction_from_an_open_one() -> None:
    golden = Golden(f"{goldens.FOLDER}/corrected")
    ratio = (golden["update0/log_pi_frozen"] - golden["update0/log_pi_data"]).abs()
    assert 0.05 < (ratio > goldens.FILTER["clip_delta"]).float().mean() < 0.95
    other = Golden(f"{goldens.FOLDER}/uncorrected")
    assert (golden["update0/actor_loss"] - other["update0/actor_loss"]).abs() > 0.01


def test_training_moves_slow_copies_and_the_datas_actor_and_leaves_the_frozen_as_they_are() -> None:
    agent = new_agent().train()
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    learn(agent)
    moved = {key.split(".")[0] for key, value in agent.state_dict().items() if not torch.equal(value, before[key])}
    assert moved >= {*SLOW, "data_actor", "actor", "traj_encoder", "tstep_encoder", "critics"}
    assert not {name for name in moved if name.startswith("frozen")}


def test_the_copies_have_no_dropout_and_resting_sigmas_in_training_mode_too() -> None:
    agent = new_agent().eval().train()
    assert agent.training
    assert agent.traj_encoder.training
    assert agent.data_actor.training
    for name in SETTLED:
        assert not any(module.training for module in agent.get_submodule(name).modules())


def test_no_copy_but_the_datas_actor_is_the_optimizers_or_gets_a_gradient() -> None:
    agent = new_agent().train()
    losses = agent(golden_batch(), recorded_draws("binary_rl"))
    losses.actor_loss.backward()
    trained = {id(parameter) for parameter in agent.trainable_parameters()}
    for name, parameter in agent.named_parameters():
        if name.split(".")[0] in SETTLED:
            assert parameter.grad is None
            assert id(parameter) not in trained
    assert all(id(parameter) in trained for parameter in agent.data_actor.parameters())


def test_the_datas_loss_teaches_its_actor_alone() -> None:
    plain, taught = (new_agent(bc_coeff=bc, use_is_correction=False).train() for bc in (0.0, 3.0))
    gradients = []
    for agent in (plain, taught):
        losses = agent(golden_batch(), recorded_draws("binary_rl"))
        (losses.actor_loss + losses.critic_loss).backward()
        gradients.append({name: p.grad for name, p in agent.named_parameters() if p.grad is not None})
    only_taught = gradients[1].keys() - gradients[0].keys()
    assert {name.split(".")[0] for name in only_taught} == {"data_actor"}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("slow", [True, False])
def test_who_acts_is_asked_and_stays_when_the_rest_is_given_up(slow: bool) -> None:
    agent = new_agent(use_tortoise_for_inference=slow)
    with torch.no_grad():
        for name in ("slow_actor", "slow_tstep_encoder", "slow_traj_encoder"):
            for parameter in agent.get_submodule(name).parameters():
                parameter.mul_(1.1)
    ordinary = new_agent(MultiTaskAgent)
    ordinary.load_state_dict(plain_state(agent.state_dict()) if slow else _without_copies(agent.state_dict()))
    batch = golden_batch()
    wanted, before = ordinary.eval().action_probs(batch), agent.eval().action_probs(batch)
    agent.keep_what_acts()
    assert not agent.state_dict().keys() - ordinary.state_dict().keys()
    torch.testing.assert_close(before, wanted, rtol=0, atol=0)
    torch.testing.assert_close(agent.eval().action_probs(batch), wanted, rtol=0, atol=0)


def _without_copies(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.split(".")[0] not in COPIES}


def test_a_fine_tuning_begins_with_every_copy_equal() -> None:
    saved = goldens.weights()
    agent = new_agent()
    agent.load_state_dict(agent.starting_state(saved))
    state = agent.state_dict()
    for name, original in COPIES.items():
        assert equal(part_of(state, name), part_of(saved, original))
    assert equal(
        part_of(state, "target_critics"), part_of(saved, "target_critics")
    )  # of another agent they are its own


@pytest.mark.parametrize("agent_type", [MetamonFinetuneAgent, MultiTaskAgent])
def test_the_next_round_begins_with_the_slow_copy(agent_type: type[MultiTaskAgent]) -> None:
    agent = new_agent().train()
    learn(agent)
    saved = agent.state_dict()
    following = new_agent(agent_type)
    following.load_state_dict(following.starting_state(saved))
    state = following.state_dict()
    for name, original in SLOW.items():
        assert equal(part_of(state, original), part_of(saved, name))
        assert not equal(part_of(state, original), part_of(saved, original))
    for target, original in TARGETS.items():
        assert equal(part_of(state, target), part_of(state, original))
    assert equal(part_of(state, "popart"), part_of(saved, "popart"))
    if agent_type is MetamonFinetuneAgent:
        for name, original in COPIES.items():
            assert equal(part_of(state, name), part_of(state, original))


@given(st.sets(st.sampled_from([*COPIES, *COPIES.values(), *TARGETS, "popart"]), min_size=1), st.booleans())
def test_states_without_copies_stay_without_and_those_with_them_lose_nothing_else(parts: set[str], bare: bool) -> None:
    saved = {f"{name}.w": torch.tensor([float(number)]) for number, name in enumerate(sorted(parts))}
    plain = plain_state(_without_copies(saved) if bare else saved)
    assert not {key.split(".")[0] for key in plain} & COPIES.keys()
    assert equal(plain_state(plain), plain)
    assert state_with_copies(saved).keys() >= plain.keys()
    if bare or not parts & SLOW.keys():
        assert equal(plain, _without_copies(saved))


@given(st.floats(0.0, 1.0), st.integers(0, 10))
@settings(max_examples=30)
def test_a_slow_copy_stays_between_where_it_was_and_whom_it_follows(tau: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    slow, fast = nn.Linear(3, 4), nn.Linear(3, 4)
    for parameter in (*slow.parameters(), *fast.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=generator)
    was = slow.weight.detach().clone()
    follow(slow, fast, tau)
    nearest, farthest = torch.minimum(was, fast.weight), torch.maximum(was, fast.weight)
    assert ((slow.weight >= nearest - 1e-6) & (slow.weight <= farthest + 1e-6)).all()
    torch.testing.assert_close(slow.weight, was + tau * (fast.weight - was))
    follow(slow, slow, tau)  # of what it shares nothing moves, not by rounding either
    torch.testing.assert_close(slow.weight, was + tau * (fast.weight - was))


def test_a_slow_copy_that_follows_resting_weights_becomes_them() -> None:
    agent = new_agent(tortoise_tau=0.3).train()
    with torch.no_grad():
        for name in SLOW.values():
            for parameter in agent.get_submodule(name).parameters():
                parameter.mul_(2.0)
    for _ in range(60):
        agent.update_targets()
    for name, original in SLOW.items():
        for own, other in zip(
            agent.get_submodule(name).parameters(), agent.get_submodule(original).parameters(), strict=True
        ):
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_the_slow_copys_sigmas_follow_its_own_weights() -> None:
    agent = new_agent(tortoise_tau=1.0).train()
    layers = [layer for layer in agent.slow_traj_encoder.modules() if isinstance(layer, SigmaReparam)]
    assert layers
    with torch.no_grad():
        for layer in agent.traj_encoder.modules():
            if isinstance(layer, SigmaReparam):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1)))
    for _ in range(200):
        agent.update_targets()
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight, ord=2)
        torch.testing.assert_close(layer.u @ layer.weight @ layer.v, largest, rtol=1e-3, atol=0)


def test_what_is_frozen_is_held_once_and_what_trains_for_each() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[0].requires_grad_(False)
    copied = copy_sharing_frozen(module)
    assert copied[0].weight is module[0].weight
    assert copied[1].weight is not module[1].weight
    torch.testing.assert_close(copied[1].weight, module[1].weight)
    assert len({p.data_ptr() for m in (module, copied) for p in m.parameters()}) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fbc_filter_func": exp_filter}, "only ISAdvantageFilter takes a correction"),
        ({"bc_coeff": -1.0}, r"MetamonFinetuneAgent\.bc_coeff = -1\.0; it must be"),
        ({"tortoise_tau": 2.0}, r"MetamonFinetuneAgent\.tortoise_tau = 2\.0; it must be"),
        ({"online_coeff": -1.0}, r"MultiTaskAgent\.online_coeff = -1\.0; it must be"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        new_agent(**options)


def test_another_filter_serves_without_a_correction() -> None:
    agent = new_agent(fbc_filter_func=exp_filter, use_is_correction=False)
    assert agent(golden_batch(), recorded_draws("binary_rl")).actor_loss.isfinite()
