"""Labels: what an expert would have chosen, kept apart from what was done, from the file to what the actor imitates."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_agent import BATTLES
from support.small_agents import KINDS, best_actions, build, random_batch

from gemma_metamon.battle.replays import RecordedBattle, dump_battle, load_battle, parse_battle
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_recorded
from gemma_metamon.errors import DataError
from gemma_metamon.view import BattleView

BATTLE = load_battle(next((BATTLES / "gen1ou").glob("*.json.lz4")))
T = len(BATTLE.actions)
VIEW = BattleView.default()
labels_of_battle = st.lists(st.integers(-1, 8), min_size=T - 1, max_size=T - 1).map(lambda some: (*some, -1))


@settings(max_examples=10)
@given(labels=labels_of_battle, start=st.integers(0, T - 2), length=st.integers(1, T))
def test_labels_change_nothing_else_that_is_read_of_a_battle(labels: tuple[int, ...], start: int, length: int) -> None:
    battle = replace(BATTLE, labels=labels)
    assert parse_battle(dump_battle(battle)) == battle
    labelled, plain = (take_window(encode_recorded(some, VIEW), start, length) for some in (battle, BATTLE))
    assert labelled.labels.tolist() == list(labels[start : start + length][: len(labelled.actions)])
    assert (plain.labels == -1).all()
    for name in ("rl2s", "rewards", "dones", "actions", "time_idxs"):
        np.testing.assert_array_equal(getattr(labelled, name), getattr(plain, name))
    batch = collate([plain, labelled])
    assert (batch.labels is None) == (labelled.labels == -1).all()


def test_a_file_of_metamons_own_is_written_as_it_was() -> None:
    assert json.loads(dump_battle(BATTLE)).keys() == {"states", "actions"}
    assert BATTLE.labels is None


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0] * T, "the last label is 0; the terminal state has none"),
        ([-1] * (T + 1), f"{T} states but {T + 1} labels"),
        ([13] + [-1] * (T - 1), r"label 13 at timestep 0; expected -1 \(missing\) to 12"),
        ([0.5] + [-1] * (T - 1), "label 0.5 at timestep 0; labels must be integers"),
        ("best", "\"labels\" is 'best'; expected a list"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels: object, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        parse_battle(json.dumps({**json.loads(dump_battle(BATTLE)), "labels": labels}).encode())


def test_a_battle_is_as_long_as_its_labels() -> None:
    with pytest.raises(DataError, match=f"{T} states but 1 labels"):
        RecordedBattle(BATTLE.states, BATTLE.actions, (-1,))


@pytest.mark.parametrize("kind", KINDS)
def test_an_actor_learns_the_labels_and_its_critics_what_was_done(kind: str) -> None:
    agent_type, options = KINDS[kind]
    agent = build(agent_type, use_multigamma=False, **options).eval()
    plain = random_batch(0)
    batch = plain._replace(labels=best_actions(plain.obs["numbers"])[:, :-1])
    torch.manual_seed(1)
    of_plain = agent(plain)
    torch.manual_seed(1)
    assert agent(batch).critic_loss == of_plain.critic_loss
    agent.train()
    optimizer = torch.optim.Adam(agent.trainable_parameters(), lr=3e-2)
    for _ in range(60):
        losses = agent(batch)
        optimizer.zero_grad()
        (losses.actor_loss + losses.critic_loss).backward()
        optimizer.step()
    assert losses.stats["label_accuracy"] > 0.95
    assert losses.stats["action_accuracy"] == losses.stats["label_accuracy"]


@pytest.mark.parametrize("kind", KINDS)
def test_where_nobody_was_asked_the_recorded_action_is_learned_as_before(kind: str) -> None:
    agent_type, options = KINDS[kind]
    agent, plain = build(agent_type, **options).eval(), random_batch(3)
    torch.manual_seed(1)
    expected = agent(plain)
    torch.manual_seed(1)
    found = agent(plain._replace(labels=torch.full(plain.actions.shape[:2], -1)))
    assert found.actor_loss == expected.actor_loss
    assert found.critic_loss == expected.critic_loss
