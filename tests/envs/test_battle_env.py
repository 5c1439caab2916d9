"""One side of a battle as an environment: what checkers ask of it, and that its battles are those of a match."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3.common.env_checker
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from poke_env.battle import AbstractBattle, Battle, Move
from poke_env.data import GenData
from poke_env.player import BattleOrder, Player, RandomPlayer
from support.env_episodes import frozen, play_episode
from support.processes import descendants, eventually

import gemma_metamon.envs
from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.data.encoding import encode_recorded
from gemma_metamon.envs import battles
from gemma_metamon.envs.battle_env import BattleEnv
from gemma_metamon.errors import ConfigError, MissingFileError, ServerError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.live.battle import live_battle
from gemma_metamon.showdown.live.orders import action_to_order
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.arena_play import ArenaMatch, Plan
from gemma_metamon.showdown.matches.arena_tables import draw_pair
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.simulator.teams import load_teams
from gemma_metamon.view import BattleView

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def env() -> Iterator[BattleEnv]:
    env = BattleEnv()
    yield env
    env.close()


@pytest.fixture
def started() -> Callable[[], list[int]]:
    """The processes that were started since."""
    before = descendants(os.getpid())
    return lambda: [pid for pid in descendants(os.getpid()) if pid not in before]


@pytest.mark.parametrize("battle_format", ["gen1ou", "gen9ou"])
def test_gymnasium_finds_nothing_wrong(battle_format: str) -> None:
    made = gymnasium.make("gemma_metamon/Battle-v0", battle_format=battle_format, render_mode="ansi")
    check_env(made.unwrapped)
    made.close()


def test_stable_baselines3_finds_nothing_wrong() -> None:
    env = BattleEnv()
    stable_baselines3.common.env_checker.check_env(env)
    env.close()


@pytest.mark.parametrize(
    ("battle_format", "obs_space", "action_space"),
    [
        ("gen1ou", "DefaultObservationSpace", "MinimalActionSpace"),
        ("gen4randombattle", "GroupedObservationSpace", "DefaultActionSpace"),
        ("gen9ou", "OpponentMoveObservationSpace", "DefaultActionSpace"),
        ("gen9randombattle", "PAC-TeamPreviewObservationSpace", "MinimalActionSpace"),
    ],
)
def test_every_observation_is_in_its_space_and_every_action_of_the_mask_is_played(
    battle_format: str, obs_space: str, action_space: str
) -> None:
    view = BattleView.from_names(obs_space=obs_space, action_space=action_space, reward_function="DefaultShapedReward")
    env = BattleEnv(battle_format, view=view)
    for number in range(3):
        steps = play_episode(env, seed=0 if not number else None, draws=number)
        for shown, reward, *_, info in steps:
            assert shown in env.observation_space
            assert {key: array.dtype for key, array in shown.items()} == {
                key: space.dtype for key, space in env.observation_space.items()
            }
            assert np.isfinite(reward)
            assert (info["action_mask"] == ~shown["illegal_actions"]).all()
        assert all(info["action_mask"].any() for *_, info in steps[:-1])
        assert not steps[-1][4]["action_mask"].any()
        assert not any(info["illegal_action"] for *_, info in steps[1:])
        assert steps[-1][2]
        assert steps[-1][4]["result"] in ("won", "lost", "tied")
    env.close()


def test_the_same_seed_gives_the_same_battles_and_another_seed_others(env: BattleEnv) -> None:
    first = [frozen(play_episode(env, seed=5)), frozen(play_episode(env))]
    again = BattleEnv(workers=2)
    assert [frozen(play_episode(again, seed=5)), frozen(play_episode(again))] == first
    again.close()
    assert first[0] != first[1]
    assert frozen(play_episode(env, seed=6)) != first[0]


class Follower(Player):
    """Plays the actions that it is given, one after the other."""

    def __init__(self, actions: list[int], **options: Any) -> None:
        super().__init__(**options)
        self._actions = iter(actions)

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        return action_to_order(next(self._actions), live_battle(battle).options)


@pytest.mark.parametrize(("battle_format", "opponent"), [("gen1ou", "TypeTrainer"), ("gen9ou", "RandomPlayer")])
def test_an_episode_is_the_battle_that_a_match_of_its_seed_plays(battle_format: str, opponent: str) -> None:
    env = BattleEnv(battle_format, opponent)
    steps = play_episode(env, seed=11)
    env.close()
    recorded: list[RecordedBattle | None] = []

    def note(battle: Battle, record: RecordedBattle | None) -> None:
        recorded.append(record)

    follower = Contestant("Agent", partial(Follower, [info["action"] for *_, info in steps[1:]]))
    plan = Plan(
        number=0,
        players=(follower, scripted(opponent)),
        teams=draw_pair(load_teams(battle_format), 11, 0),
        recorders=(Recorder(note), None),
    )
    with Arena() as arena:
        match = ArenaMatch(
            arena=arena, battle_format=battle_format, seed=11, in_play=1, on_end=lambda plan, table: None
        )
        asyncio.run(match.play([plan]))
    (record,) = recorded
    assert record is not None
    encoded = encode_recorded(record, BattleView.default())
    assert np.array_equal(np.stack([shown["text_tokens"] for shown, *_ in steps]), encoded.word_ids)
    assert np.array_equal(np.stack([shown["numbers"] for shown, *_ in steps]), encoded.numbers)
    assert np.array_equal(np.array([info["action"] for *_, info in steps[1:]]), encoded.actions[:-1])
    assert np.array_equal(np.array([reward for _, reward, *_ in steps[1:]], dtype=np.float32), encoded.rewards[:-1])


def test_an_illegal_action_is_replaced_by_a_drawn_one_and_told(env: BattleEnv) -> None:
    def played() -> list[Any]:
        _, info = env.reset(seed=3)
        steps = []
        for _ in range(20):
            illegal = int(np.flatnonzero(info["action_mask"] == 0)[0])
            mask = info["action_mask"]
            *_, info = step = env.step(illegal)
            assert info["illegal_action"]
            assert mask[info["action"]]
            steps.append(step)
        return steps

    first = frozen(played())
    assert frozen(played()) == first
    assert len({step[4]["action"] for step in first}) > 1


@given(st.integers(0, 2**64), st.lists(st.integers(0, 12), max_size=30))
@settings(max_examples=10)
def test_whatever_is_chosen_something_legal_is_played(env: BattleEnv, seed: int, actions: list[int]) -> None:
    _, info = env.reset(seed=seed)
    for action in actions:
        mask = info["action_mask"]
        shown, _, terminated, truncated, info = env.step(action)
        assert shown in env.observation_space
        assert mask[info["action"]]
        assert info["illegal_action"] == (not mask[action])
        assert info["illegal_action"] or info["action"] == action
        if terminated or truncated:
            break


def test_the_numbers_of_every_move_and_pokemon_that_there_is_are_within_the_bounds(env: BattleEnv) -> None:
    box = env.observation_space["numbers"]  # type: ignore[index]
    for gen in range(1, 10):
        data = GenData.from_gen(gen)
        moves = [Move(move_id, gen=gen) for move_id in data.moves]
        numbers = [number for move in moves for number in (move.base_power / 200, move.accuracy, move.priority / 5)]
        numbers += [stat / 255 for entry in data.pokedex.values() for stat in entry.get("baseStats", {}).values()]
        assert box.low.min() <= min(numbers) <= max(numbers) <= box.high.max()


def test_an_illegal_action_can_be_an_error_and_changes_nothing() -> None:
    env = BattleEnv(illegal_action="raise")
    _, info = env.reset(seed=3)
    with pytest.raises(ConfigError, match="action 12 is illegal at this decision; legal: 0, 1, 2, 3"):
        env.step(12)
    *_, info = env.step(1)
    assert info["action"] == 1
    env.close()


@pytest.mark.parametrize("action", [13, -1, "bodyslam", None])
def test_what_is_no_action_is_refused(env: BattleEnv, action: Any) -> None:
    env.reset(seed=3)
    with pytest.raises(ConfigError, match=r"give (one|a number) from 0 to 12"):
        env.step(action)
    env.step(np.int64(0))


def test_a_battle_past_its_last_turn_is_truncated() -> None:
    env = BattleEnv(max_turns=4)
    steps = play_episode(env, seed=2)
    assert steps[-1][2:4] == (False, True)
    assert steps[-1][4]["cut_short"] == "turn 5 is past max_turns = 4"
    assert abs(steps[-1][1]) < 50
    assert not steps[-1][4]["action_mask"].any()
    assert play_episode(env)[-1][4]["turn"] == 5
    env.close()


def test_a_step_needs_a_reset() -> None:
    env = BattleEnv(max_turns=2)
    for call in (lambda: env.step(0), env.action_masks):
        with pytest.raises(ResetNeeded):
            call()
    play_episode(env, seed=2)
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.close()


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_battle_whose_process_is_gone_or_hangs_is_truncated_and_the_next_goes_on(
    how: str, started: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    arenas: list[Arena] = []
    monkeypatch.setattr(battles, "Arena", lambda workers: arenas.append(Arena(workers)) or arenas[-1])
    env = BattleEnv(max_turns=20)
    env.reset(seed=2)
    (pid,), (arena,) = started(), arenas
    as_usual, arena._silence_timeout_s = arena._silence_timeout_s, 5  # which a busy machine may well need to play
    os.kill(pid, getattr(signal, how))
    steps = [env.step(0)]
    while not steps[-1][3]:
        steps.append(env.step(0))
    why = "said nothing for 5 seconds and " if how == "SIGSTOP" else ""
    assert f"is lost: worker {pid}, which played it, {why}was ended by signal 9" in steps[-1][4]["cut_short"]
    assert not steps[-1][2]
    arena._silence_timeout_s = as_usual
    assert frozen(play_episode(env, seed=5)) == frozen(play_episode(env, seed=5))
    env.close()


class Failing(RandomPlayer):
    """Knows nothing at turn 3."""

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        if battle.turn == 3:
            raise RuntimeError("what now?")
        return super().choose_move(battle)


def test_an_opponent_that_fails_is_named_and_the_next_battle_goes_on() -> None:
    env = BattleEnv(opponent=Contestant("Failing", Failing))
    for _ in range(2):
        with pytest.raises(ServerError, match=r"Failing-p2 failed .*: RuntimeError: what now"):
            play_episode(env, seed=2)
    env.close()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"opponent": "TypTrainer"}, ConfigError, "did you mean TypeTrainer.*nor is 'TypTrainer' the folder of a run"),
        ({"opponent": "nowhere/run"}, MissingFileError, "nowhere/run"),
        ({"battle_format": "gen1ouu"}, ConfigError, "no such format; did you mean gen1uu or gen1ou"),
        ({"battle_format": "gen9vgc2024regg"}, ConfigError, "is no singles format"),
        ({"team_dir": "nowhere"}, MissingFileError, "no such folder: nowhere"),
        ({"max_turns": 0}, ConfigError, "max_turns is 0; give 1 or more"),
        ({"workers": 0}, ConfigError, "workers is 0; give 1 or more"),
        ({"illegal_action": "ignore"}, ConfigError, "choose 'replace' or 'raise'"),
        ({"render_mode": "human"}, ConfigError, "choose 'ansi', or None"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    arguments: dict[str, Any], error: type[Exception], words: str, started: Callable[[], list[int]]
) -> None:
    with pytest.raises(error, match=words):
        BattleEnv(**arguments)
    assert not started()


@pytest.mark.parametrize("how", ["close", "del", "close and reset and del"])
def test_no_process_is_left(how: str, started: Callable[[], list[int]]) -> None:
    env = gymnasium.make("gemma_metamon/Battle-v0")
    env.reset(seed=1)
    assert started()
    if "close" in how:
        env.close()
        env.close()
        assert not started()
    if "reset" in how:
        env.reset(seed=1)
        assert started()
    del env
    assert eventually(lambda: gc.collect() >= 0 and not started())


def test_it_can_be_stepped_where_an_event_loop_runs(env: BattleEnv) -> None:
    async def in_a_notebook() -> Any:
        return frozen(play_episode(env, seed=5))

    assert asyncio.run(in_a_notebook()) == frozen(play_episode(env, seed=5))


def test_a_line_tells_how_the_battle_stands() -> None:
    env = BattleEnv(render_mode="ansi")
    env.reset(seed=1)
    line = env.render()
    assert line is not None
    assert line.startswith("turn 1: ")
    assert line.endswith(", 6 left against 6")
    assert "\n" not in line
    play_episode(env, seed=1)
    assert (env.render() or "").endswith(("; won", "; lost"))
    env.close()


def test_its_ids_are_registered() -> None:
    assert gemma_metamon.envs.__name__ in gymnasium.registry["gemma_metamon/Battle-v0"].entry_point  # type: ignore[operator]
