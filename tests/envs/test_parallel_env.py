"""Both sides of a battle: what PettingZoo's checks ask, and that each side's decisions are those of a player."""

import os
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from pettingzoo.test import parallel_api_test, parallel_seed_test
from support.env_episodes import LegalActions, frozen
from support.processes import descendants

from gemma_metamon.envs.parallel_env import ParallelBattleEnv
from gemma_metamon.errors import ConfigError

pytestmark = pytest.mark.server


def played(env: ParallelBattleEnv, seed: int | None) -> list[Any]:
    """The reset as a step, and all steps of an episode by legal actions."""
    choices = {agent: LegalActions(place) for place, agent in enumerate(env.possible_agents)}
    shown, infos = env.reset(seed=seed)
    steps: list[Any] = [(shown, dict.fromkeys(shown, 0.0), {}, {}, infos)]
    while env.agents:
        masks = {agent: steps[-1][0][agent]["action_mask"] for agent in env.agents}
        steps.append(env.step({agent: choices[agent](mask) for agent, mask in masks.items()}))
    return steps


@pytest.mark.parametrize("battle_format", ["gen1ou", "gen9ou"])
def test_pettingzoo_finds_nothing_wrong(battle_format: str) -> None:
    env = ParallelBattleEnv(battle_format)
    parallel_api_test(env, num_cycles=400)
    env.close()
    parallel_seed_test(lambda: ParallelBattleEnv(battle_format), num_cycles=30)


@pytest.mark.parametrize("battle_format", ["gen1ou", "gen9randombattle"])
def test_a_side_waits_only_while_the_other_decides_and_is_shown_what_it_was_shown(battle_format: str) -> None:
    env = ParallelBattleEnv(battle_format)
    waited = 0
    for number in range(3):
        steps = played(env, 3 if not number else None)
        for (before, *_), (shown, rewards, terminations, truncations, infos) in pairwise(steps):
            for agent in env.possible_agents:
                assert shown[agent] in env.observation_space(agent)
                was_waiting = bool(before[agent]["action_mask"][env.wait])
                assert (infos[agent]["action"] == -1) == was_waiting
                assert not infos[agent]["illegal_action"]
                mask = shown[agent]["action_mask"]
                if terminations[agent]:
                    assert not mask.any()
                elif mask[env.wait]:
                    waited += 1
                    assert mask.sum() == 1
                    assert frozen(shown[agent]["observation"]) == frozen(before[agent]["observation"])
                    assert rewards[agent] == 0
            assert terminations["p1"] == terminations["p2"]
            assert not any(truncations.values())
            masks = [shown[agent]["action_mask"][env.wait] for agent in env.possible_agents]
            assert sum(masks) < 2
        results = {infos[agent]["result"] for agent in env.possible_agents}
        assert results in ({"won", "lost"}, {"tied"})
    assert waited
    env.close()


def test_the_same_seed_gives_the_same_battles_on_any_number_of_workers() -> None:
    env, other = ParallelBattleEnv(), ParallelBattleEnv(workers=2)
    first = [frozen(played(env, 5)), frozen(played(env, None))]
    assert [frozen(played(other, 5)), frozen(played(other, None))] == first
    assert first[0] != first[1]
    env.close()
    other.close()


def test_waiting_where_something_is_to_be_decided_is_illegal() -> None:
    env = ParallelBattleEnv(illegal_action="raise")
    env.reset(seed=1)
    with pytest.raises(ConfigError, match="action 13 is illegal at this decision; legal: 0, 1, 2, 3"):
        env.step({"p1": env.wait, "p2": 0})
    with pytest.raises(ConfigError, match="no action for p2, which is to decide; give one"):
        env.step({"p1": 0})
    *_, infos = env.step({"p1": 0, "p2": 0})
    assert infos["p1"]["turn"] == 2
    env.close()
    lenient = ParallelBattleEnv()
    lenient.reset(seed=1)
    *_, infos = lenient.step({"p1": lenient.wait, "p2": 0})
    assert infos["p1"]["illegal_action"]
    assert not infos["p2"]["illegal_action"]
    lenient.close()


def test_it_is_truncated_rendered_and_closed() -> None:
    before = descendants(os.getpid())
    env = ParallelBattleEnv(max_turns=3, render_mode="ansi")
    with pytest.raises(ResetNeeded):
        env.step({"p1": 0, "p2": 0})
    *_, terminations, truncations, _ = played(env, 1)[-1]
    assert terminations == {"p1": False, "p2": False}
    assert truncations == {"p1": True, "p2": True}
    assert (env.render() or "").startswith("turn 4: ")
    env.close()
    env.close()
    assert descendants(os.getpid()) == before


def test_both_sides_see_one_battle_from_two_sides() -> None:
    env = ParallelBattleEnv()
    shown, _ = env.reset(seed=1)
    tokens = {agent: shown[agent]["observation"]["text_tokens"] for agent in env.possible_agents}
    assert not np.array_equal(tokens["p1"], tokens["p2"])
    env.close()
