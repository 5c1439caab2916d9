"""A battle as columns equals metamon's numbers, and a slice of it is the same part of the whole."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import BATTLE_FILES, observation_golden

from gemma_metamon.battle.actions import ACTION_SPACES, rl2_of
from gemma_metamon.battle.replays import load_battle
from gemma_metamon.data.dataset import take_window
from gemma_metamon.data.encoding import EncodedBattle, encode_recorded
from gemma_metamon.view import BattleView

A = 13


def view_of(action_space: str = "DefaultActionSpace") -> BattleView:
    return BattleView.from_names(
        obs_space="DefaultObservationSpace", action_space=action_space, reward_function="BinaryReward"
    )


@pytest.mark.parametrize("path", BATTLE_FILES, ids=lambda p: p.name[:26])
@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_chosen_legal_and_missing_actions_equal_metamons(path: Path, actions: str) -> None:
    golden = np.load(observation_golden(path))
    battle = encode_recorded(load_battle(path), view_of(actions))
    np.testing.assert_array_equal(battle.actions[:-1], golden[f"{actions}/chosen"])
    np.testing.assert_array_equal(battle.legal_actions[:-1], golden[f"{actions}/legal"])
    window = take_window(battle, 0, battle.n_decisions)
    np.testing.assert_array_equal(window.obs["missing_action_mask"][:-1, 0], golden[f"{actions}/missing"])
    np.testing.assert_array_equal(window.dones[:, 0], golden["dones"])


@st.composite
def battles(draw: st.DrawFn) -> EncodedBattle:
    T = draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    battle = EncodedBattle(
        word_ids=rng.integers(-1, 99, (T, 3), dtype=np.int32),
        numbers=rng.standard_normal((T, 2), dtype=np.float32),
        legal_actions=rng.random((T, A)) < 0.5,
        actions=rng.integers(-1, A, T),
        rewards=rng.standard_normal(T, dtype=np.float32),
        labels=rng.integers(-1, A, T),
    )
    battle.legal_actions[-1], battle.actions[-1], battle.rewards[-1], battle.labels[-1] = False, -1, 0, -1  # the end
    return battle


@settings(max_examples=60)
@given(battle=battles(), start=st.integers(0, 10), max_seq_len=st.integers(1, 14))
def test_a_window_is_a_slice_of_the_whole_battles(battle: EncodedBattle, start: int, max_seq_len: int) -> None:
    start = min(start, battle.n_decisions - 1)
    window, whole = take_window(battle, start, max_seq_len), take_window(battle, 0, battle.n_decisions)
    stop = min(start + max_seq_len, battle.n_decisions)
    for name, array in window.obs.items():
        np.testing.assert_array_equal(array, whole.obs[name][start : stop + 1])
    for name in ("rl2s", "time_idxs"):
        np.testing.assert_array_equal(getattr(window, name), getattr(whole, name)[start : stop + 1])
    for name in ("rewards", "dones", "actions"):
        np.testing.assert_array_equal(getattr(window, name), getattr(whole, name)[start:stop])


@settings(max_examples=60)
@given(battle=battles())
def test_a_window_says_of_each_decision_what_the_battle_says(battle: EncodedBattle) -> None:
    window = take_window(battle, 0, battle.n_decisions)
    missing = window.obs["missing_action_mask"][:-1, 0]
    np.testing.assert_array_equal(np.where(missing, -1, window.actions.argmax(1)), battle.actions[:-1])
    np.testing.assert_array_equal(window.actions.sum(1), 1)
    np.testing.assert_array_equal(window.rewards[:, 0], battle.rewards[:-1])
    assert not window.rl2s[0].any()
    np.testing.assert_array_equal(window.rl2s[1:], np.concatenate([window.rewards, window.actions], axis=1))
    assert window.dones[:, 0].tolist() == [False] * (battle.n_decisions - 1) + [True]
    assert window.obs["illegal_actions"][-1].all()
    assert window.obs["missing_action_mask"][-1]


@settings(max_examples=60)
@given(decisions=st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.integers(-1, A - 1)), min_size=1))
def test_many_decisions_have_the_rl2_of_each(decisions: list[tuple[float, int]]) -> None:
    rewards, actions = np.array([d[0] for d in decisions], np.float32), np.array([d[1] for d in decisions])
    together = rl2_of(rewards, actions, A)
    for row, (reward, action) in zip(together, decisions, strict=True):
        one = rl2_of(reward, action, A)
        assert (one.shape, one.dtype) == ((1 + A,), np.float32)
        np.testing.assert_array_equal(one, row)
        assert one.tolist() == [reward] + [float(i == max(action, 0)) for i in range(A)]


def test_playing_is_told_what_training_reads(battle_file: Path) -> None:
    view, battle = view_of(), load_battle(battle_file)
    encoded = encode_recorded(battle, view)
    told = [view.rl2_at(battle.states[0], None, None)]
    told += [
        view.rl2_at(after, before, action)
        for before, after, action in zip(battle.states, battle.states[1:], battle.actions, strict=False)
    ]
    np.testing.assert_array_equal(told, take_window(encoded, 0, encoded.n_decisions).rl2s)
