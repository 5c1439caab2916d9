"""Many battles at once: they are those of single environments with the same seeds, on any number of workers."""

import os
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from support.env_episodes import LegalActions, frozen
from support.processes import descendants

from gemma_metamon.envs.battle_env import BattleEnv
from gemma_metamon.envs.vector_env import VectorBattleEnv
from gemma_metamon.errors import ConfigError

pytestmark = pytest.mark.server
N, STEPS = 3, 40
TURNS = 12  # short episodes, so that there are several


def played(env: Any, seed: Any = 7) -> list[Any]:
    """The reset and some steps of a vectorised environment."""
    choices = [LegalActions(slot) for slot in range(env.num_envs)]
    shown, infos = env.reset(seed=seed)
    steps = [(shown, infos)]
    for _ in range(STEPS):
        masks = steps[-1][-1]["action_mask"]
        chosen = [choose(mask) if mask.any() else 0 for choose, mask in zip(choices, masks, strict=True)]
        steps.append(env.step(np.array(chosen)))
        assert steps[-1][0] in env.observation_space
    env.close()
    return frozen(steps)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("opponent", ["RandomPlayer", "SimpleHeuristicsPlayer"])
def test_it_plays_as_gymnasiums_own_around_single_environments(mode: AutoresetMode, opponent: str) -> None:
    def single() -> BattleEnv:
        return BattleEnv(opponent=opponent, max_turns=TURNS)

    want = played(SyncVectorEnv([single] * N, autoreset_mode=mode))
    assert sum(sum(step[3][2]) for step in want[1:]) >= N  # truncations: episodes end in every place
    for workers in (1, 2):
        vector = VectorBattleEnv(N, opponent=opponent, max_turns=TURNS, autoreset_mode=mode, workers=workers)
        assert played(vector) == want


def test_battles_that_end_are_followed_by_others() -> None:
    env = VectorBattleEnv(2, "gen1randombattle", "MaxBasePowerPlayer")
    choices = [LegalActions(slot) for slot in range(2)]
    _, infos = env.reset(seed=1)
    results = []
    while len(results) < 4:
        masks = env.action_masks()
        assert (masks == infos["action_mask"]).all()
        before = ~masks.any(axis=1)
        chosen = [choose(mask) if mask.any() else 12 for choose, mask in zip(choices, masks, strict=True)]
        _, rewards, terminations, truncations, infos = env.step(np.array(chosen))
        assert not (terminations & before).any()
        assert not rewards[before].any()
        assert (infos["turn"][before] == 1).all()
        assert not truncations.any()
        results += infos["result"][terminations].tolist() if terminations.any() else []
    assert set(results) <= {"won", "lost", "tied"}
    env.close()


def test_make_vec_makes_it_and_ends_its_processes() -> None:
    before = descendants(os.getpid())
    env = gymnasium.make_vec("gemma_metamon/Battle-v0", num_envs=2, render_mode="ansi", autoreset_mode="SameStep")
    assert isinstance(env, VectorBattleEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.reset(seed=[4, None])
    assert len(descendants(os.getpid())) == len(before) + 1
    lines = env.render()
    assert lines is not None
    assert all(line.startswith("turn 1: ") for line in lines)
    env.close()
    assert descendants(os.getpid()) == before
    env.reset(seed=1)
    env.close()
    assert descendants(os.getpid()) == before


def test_it_can_be_made_in_other_processes_too() -> None:
    """Gymnasium forks, and of what poke-env has started only what a process starts itself is there."""
    env = gymnasium.make_vec(
        "gemma_metamon/Battle-v0", num_envs=2, vectorization_mode="async", max_turns=TURNS, disable_env_checker=True
    )
    want = played(VectorBattleEnv(2, max_turns=TURNS))
    assert played(env) == want


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_envs": 0}, "num_envs is 0; give 1 or more"),
        ({"autoreset_mode": "Disabled"}, "autoreset_mode is 'Disabled'; choose NextStep or SameStep"),
        ({"autoreset_mode": AutoresetMode.DISABLED}, "choose NextStep or SameStep"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        VectorBattleEnv(**arguments)


def test_a_wrong_number_of_seeds_or_actions_is_refused_and_changes_nothing() -> None:
    env = VectorBattleEnv(2, illegal_action="raise")
    for call in (lambda: env.step(np.array([0, 0])), env.action_masks):
        with pytest.raises(ResetNeeded):
            call()
    with pytest.raises(ConfigError, match="3 seeds for 2 battles"):
        env.reset(seed=[1, 2, 3])
    env.reset(seed=1)
    with pytest.raises(ConfigError, match="1 actions for 2 battles"):
        env.step(np.array([0]))
    with pytest.raises(ConfigError, match="action 12 is illegal"):
        env.step(np.array([0, 12]))
    *_, infos = env.step(np.array([0, 1]))
    assert infos["turn"].tolist() == [2, 2]
    env.close()
