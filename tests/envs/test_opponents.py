"""A checkpoint as the opponent, and what happens where a choice or a battle goes wrong."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from poke_env.battle import Battle
from support.env_episodes import LegalActions, frozen, play_episode
from support.processes import descendants
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.envs.battle_env import BattleEnv
from gemma_metamon.envs.parallel_env import ParallelBattleEnv
from gemma_metamon.envs.vector_env import VectorBattleEnv
from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat

pytestmark = pytest.mark.server
TRAPPING = """Dugtrio @ Leftovers
Ability: Arena Trap
EVs: 252 Atk / 252 Spe
- Earthquake
- Rock Slide

Tauros @ Leftovers
Ability: Intimidate
EVs: 252 Atk / 252 Spe
- Return
- Earthquake
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    return folder / "run"


@pytest.fixture
def trapped(tmp_path: Path) -> Iterator[Path]:
    """Teams whose lead may not leave, which it is not told: the simulator refuses the first try."""
    (tmp_path / "trapping.gen3ou_team").write_text(TRAPPING)
    return tmp_path


def test_a_run_can_be_the_opponent_of_one_battle_and_of_many(run_dir: Path) -> None:
    env = BattleEnv(opponent=str(run_dir), max_turns=5)
    first = frozen(play_episode(env, seed=3))
    assert frozen(play_episode(env, seed=3)) == first
    env.close()
    played = []
    for workers in (1, 2):
        vector = VectorBattleEnv(3, opponent=f"{run_dir}@1", max_turns=5, workers=workers)
        choices = [LegalActions(0) for _ in range(3)]
        steps: list[Any] = [vector.reset(seed=3)]
        for _ in range(12):
            masks = steps[-1][-1]["action_mask"]
            chosen = [choose(mask) if mask.any() else 0 for choose, mask in zip(choices, masks, strict=True)]
            steps.append(vector.step(np.array(chosen)))
        vector.close()
        played.append(frozen(steps))
    assert played[0] == played[1]


def test_a_choice_that_is_taken_back_is_asked_for_again_without_it(trapped: Path) -> None:
    env = BattleEnv("gen3ou", team_dir=trapped)
    shown, info = env.reset(seed=1)
    assert info["action_mask"].tolist()[4:9] == [1, 0, 0, 0, 0]
    again, reward, terminated, truncated, info = env.step(4)
    assert (info["turn"], info["action"], info["refused"], info["illegal_action"]) == (1, 4, True, False)
    assert (reward, terminated, truncated) == (0, False, False)
    assert frozen(again["numbers"]) == frozen(shown["numbers"])
    assert not info["action_mask"][4]
    *_, info = env.step(1)
    assert not info["refused"]
    env.close()


def test_while_one_side_chooses_again_the_other_waits(trapped: Path) -> None:
    env = ParallelBattleEnv("gen3ou", team_dir=trapped)
    env.reset(seed=1)
    shown, *_, infos = env.step({"p1": 4, "p2": 1})
    assert (infos["p1"]["refused"], infos["p2"]["refused"]) == (True, False)
    assert np.flatnonzero(shown["p2"]["action_mask"]).tolist() == [env.wait]
    *_, infos = env.step({"p1": 1, "p2": env.wait})
    assert (infos["p1"]["turn"], infos["p2"]["action"]) == (2, -1)
    env.close()


@pytest.mark.parametrize("seat", ["p1", "p2"])
def test_a_battle_that_poke_env_cannot_follow_is_truncated(seat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = Battle.parse_message

    def failing(battle: Battle, message: list[str]) -> None:
        if battle.player_role == seat and message[1:3] == ["turn", "3"]:
            raise KeyError("gengar")
        parse(battle, message)

    env = BattleEnv()
    with monkeypatch.context() as patched:
        patched.setattr(Battle, "parse_message", failing)
        steps = play_episode(env, seed=1)
    assert steps[-1][2:4] == (False, True)
    assert steps[-1][4]["cut_short"] == "poke-env cannot follow the battle: KeyError: 'gengar'"
    assert not steps[-1][4]["action_mask"].any()
    assert (frozen(steps[-1][0]["numbers"]) == frozen(steps[-2][0]["numbers"])) == (seat == "p1")
    assert play_episode(env, seed=1)[-1][2]
    env.close()


def test_a_battle_that_stands_still_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    env = BattleEnv()
    with monkeypatch.context() as patched:
        patched.setattr(ArenaSeat, "_read_request", lambda seat, text: None)
        with pytest.raises(ServerError, match="nobody is asked anything in battle-gen1ou-1; reset the environment"):
            env.reset(seed=1)
    assert play_episode(env, seed=1)[-1][2]
    env.close()


def test_a_team_that_the_simulator_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    (tmp_path / "one.gen1ou_team").write_text("Mewtwo\nAbility: No Ability\n- Psychic\n")
    env = BattleEnv(team_dir=tmp_path)
    with pytest.raises(ServerError, match=r"team is not valid for gen1ou: .*Mewtwo"):
        env.reset(seed=1)
    env.close()
    assert descendants(os.getpid()) == before
