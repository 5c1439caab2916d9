import argparse
import asyncio
import json
import random
import shutil
import socket
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poke_env.battle import AbstractBattle, Battle
from poke_env.player import BattleOrder, ForfeitBattleOrder, Player, RandomPlayer, SingleBattleOrder
from support.live_battles import START, pokemon
from support.live_goldens import feed, quiet_logger

from gemma_metamon.battle.actions import get_action_space
from gemma_metamon.battle.replays import BattleFileName, RecordedBattle, find_battles, load_battle
from gemma_metamon.commands import build_parser
from gemma_metamon.commands import collect as command
from gemma_metamon.errors import ConfigError, MissingFileError, ServerError
from gemma_metamon.showdown.live.battle import live_battle
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.collect import BATTLES_PER_PLAYER, Matchup, collect, draw_matchups, portions
from gemma_metamon.showdown.matches.watching import disconnect, play_pair
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.players.registry import MAX_NAME, NoSwitchRandomPlayer, connection, player_class, user_name
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder, load_teams

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")


class Stuck(RandomPlayer):
    async def choose_move(self, battle: AbstractBattle) -> BattleOrder:  # type: ignore[override]
        await asyncio.sleep(600)
        return self.choose_random_move(battle)


class Failing(RandomPlayer):
    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        raise ZeroDivisionError("out of ideas")


def join(server_url: str, kind: type[Player], teams: list[str] | None = None) -> Player:
    team = SeededTeambuilder(load_teams("gen1ou") if teams is None else teams, seed=0)
    return kind(**connection(user_name(kind.__name__), battle_format="gen1ou", websocket_url=server_url, team=team))


def play(
    url: str, first: type[Player], second: type[Player], *, teams: list[str] | None = None, **options: Any
) -> Player:
    """One battle; the players are made where poke-env's loop lives and always disconnected."""
    players = [join(url, first), join(url, second, teams)]

    async def one() -> None:
        try:
            await play_pair(*players, 1, **options)
        finally:
            await disconnect(*players)

    asyncio.run(one())
    return players[0]


# --- who plays -----------------------------------------------------------------------------------------------------


def test_unknown_player_is_an_error_with_the_nearest_and_all_names() -> None:
    with pytest.raises(
        ConfigError, match=r"'SimpleHeuristicPlayer'; did you mean SimpleHeuristicsPlayer\?.*RandomPlayer"
    ):
        player_class("SimpleHeuristicPlayer")


def test_user_names_fit_the_server_and_the_file_names() -> None:
    names = {user_name("SimpleHeuristicsPlayer") for _ in range(50)} | {user_name("my_own player/ÄÖ")}
    assert len(names) == 51
    assert all(len(name) <= MAX_NAME and "_" not in name and name.isascii() for name in names)


def test_pairings_follow_the_seed_and_cover_every_pair() -> None:
    players = [scripted(name) for name in ("RandomPlayer", "MaxBasePowerPlayer", "SimpleHeuristicsPlayer")]
    matchups = draw_matchups(players, 200, seed=3)
    assert matchups == draw_matchups(players, 200, seed=3)
    assert matchups != draw_matchups(players, 200, seed=4)
    assert sum(matchup.battles for matchup in matchups) == 200
    assert len(matchups) == 6  # three players, and each against itself
    assert all(matchup.record_opponent for matchup in matchups)


def test_a_player_takes_part_in_every_battle_against_opponents_and_its_views_alone_are_recorded() -> None:
    teacher, other = scripted("SimpleHeuristicsPlayer"), scripted("RandomPlayer")
    matchups = draw_matchups([teacher], 50, seed=0, opponents=[other, teacher])
    assert [(m.player.name, m.opponent.name, m.record_opponent) for m in matchups] == [
        ("SimpleHeuristicsPlayer", "RandomPlayer", False),
        ("SimpleHeuristicsPlayer", "SimpleHeuristicsPlayer", True),
    ]
    with_both = draw_matchups([teacher], 50, seed=0, opponents=[other, teacher], record_opponents=True)
    assert all(m.record_opponent for m in with_both)


@settings(deadline=None)
@given(st.integers(1, 1000), st.integers())
def test_on_a_server_a_player_sits_in_either_seat_as_the_seed_says(battles: int, seed: int) -> None:
    seatings = list(portions(battles, random.Random(seed)))
    assert seatings == list(portions(battles, random.Random(seed)))
    assert all(0 < n_battles <= BATTLES_PER_PLAYER for n_battles, _ in seatings)
    seated = Counter[bool]()
    for n_battles, swapped in seatings:
        seated[swapped] += n_battles
    assert seated.total() == battles
    assert abs(seated[True] - battles / 2) <= 4 * battles**0.5  # eight standard deviations


def test_player_without_switches_only_leaves_when_it_must() -> None:
    battle = battle_with_request()
    choose = NoSwitchRandomPlayer.choose_move
    player: Any = object.__new__(NoSwitchRandomPlayer)
    for _ in range(20):
        assert choose(player, battle).message.startswith("/choose move")
    battle._available_moves = []
    battle._force_switch = True
    assert choose(player, battle).message.startswith("/choose switch")


# --- recording -----------------------------------------------------------------------------------------------------


class Scripted:
    """What a door needs of a player."""

    def __init__(self, *orders: str) -> None:
        self._orders = list(orders)
        self.ps_client = SimpleNamespace(_on_battle_message=None)

    def teampreview(self, battle: AbstractBattle) -> str:
        return "/team 1"

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        return SingleBattleOrder(self._orders.pop(0))

    def _battle_finished_callback(self, battle: AbstractBattle) -> None:
        pass


def battle_with_request() -> Battle:
    battle = Battle("battle-gen1ou-1", "Red", quiet_logger(), gen=1)
    side = {"pokemon": [pokemon("Snorlax", active=True), pokemon("Tauros")]}
    moves = [{"id": move} for move in ("rest", "bodyslam", "selfdestruct", "earthquake")]
    battle.parse_request({"side": side, "active": [{"moves": moves}]})
    feed(battle, ["|player|p1|Red|1|", "|player|p2|Blue|2|", *START])
    return battle


def record(*orders: str, max_turns: int = 100) -> tuple[Any, Battle, list[RecordedBattle | None]]:
    records: list[RecordedBattle | None] = []
    player: Any = Scripted(*orders)
    open_door(player).record(Recorder(lambda battle, record: records.append(record), max_turns=max_turns))
    return player, battle_with_request(), records


def choose(player: Any, battle: Battle) -> BattleOrder:
    order: BattleOrder = asyncio.run(player.choose_move(battle))
    return order


def test_each_decision_is_a_state_and_its_action() -> None:
    player, battle, records = record("/choose move earthquake", "/choose switch Tauros", "/choose default")
    for turn in (2, 3, 4):
        choose(player, battle)
        feed(battle, [f"|turn|{turn}"])
    battle.won_by("Red")
    player._battle_finished_callback(battle)
    assert records[0] is not None
    assert records[0].actions == (1, 4, -1, -1)  # "default" leaves the choice to the server: unknown
    assert records[0].won


def test_refused_choice_is_replaced_by_the_next() -> None:
    player, battle, records = record("/choose switch Tauros", "/choose move rest")
    choose(player, battle)
    choose(player, battle)  # asked again, nothing has happened in between
    battle.won_by("Blue")
    player._battle_finished_callback(battle)
    assert records[0] is not None
    assert records[0].actions == (2, -1)


def test_tie_is_neither_won_nor_lost() -> None:
    player, battle, records = record("/choose move rest")
    choose(player, battle)
    battle.tied()
    player._battle_finished_callback(battle)
    assert records[0] is not None
    assert not records[0].states[-1].battle_won
    assert not records[0].states[-1].battle_lost


def test_long_battle_is_given_up_and_is_neither_won_nor_lost() -> None:
    player, battle, records = record("/choose move rest", max_turns=1)
    choose(player, battle)
    feed(battle, ["|turn|2"])
    assert isinstance(choose(player, battle), ForfeitBattleOrder)
    battle.won_by("Blue")
    player._battle_finished_callback(battle)
    assert records[0] is not None
    assert records[0].actions == (2, -1)
    assert not records[0].states[-1].battle_lost


def test_battle_that_ends_while_a_player_chooses_has_a_record_without_that_choice() -> None:
    _, battle, records = record()

    class Slow(Scripted):
        def choose_move(self, battle: AbstractBattle) -> BattleOrder:
            battle.won_by("Red")
            slow._battle_finished_callback(battle)
            return super().choose_move(battle)

    slow: Any = Slow("/choose move rest")
    open_door(slow).record(Recorder(lambda battle, record: records.append(record)))
    assert choose(slow, battle).message == "/choose move 1"
    assert records[0] is not None
    assert records[0].actions == (-1, -1)
    assert records[0].won


def test_battle_without_a_choice_has_no_record() -> None:
    player, battle, records = record()
    battle.won_by("Red")
    player._battle_finished_callback(battle)
    assert records == [None]


# --- with a server -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.server
@needs_node
@pytest.mark.parametrize("battle_format", ["gen1ou", "gen9ou"])
def test_collected_battles_load_from_both_sides_and_agree(server: Server, tmp_path: Path, battle_format: str) -> None:
    matchups = [
        Matchup(player=scripted("SimpleHeuristicsPlayer"), opponent=scripted("MaxBasePowerPlayer"), battles=3),
        Matchup(player=scripted("RandomPlayer"), opponent=scripted("RandomPlayer"), battles=3),
    ]
    collection = asyncio.run(
        collect(
            matchups,
            battle_format=battle_format,
            teams=load_teams(battle_format),
            websocket_url=server.websocket_url,
            out=tmp_path,
            max_turns=60,
        )
    )
    files = find_battles(tmp_path, [battle_format])
    assert (collection.battles, collection.files, len(files)) == (6, 12, 12)
    assert not collection.set_aside
    names = [BattleFileName.parse(path.name) for path in files]
    assert set(Counter(name.battle_id for name in names).values()) == {2}
    results: dict[str, list[tuple[bool, bool]]] = {}
    for path, name in zip(files, names, strict=True):
        # metamon's own reading of a name: seven parts, the format inside the first
        assert len(path.name[:-5].split("_")) == 7
        assert battle_format in name.battle_id
        battle = load_battle(path)
        terminal = battle.states[-1]
        assert battle.won == name.won
        results.setdefault(name.battle_id, []).append((terminal.battle_won, terminal.battle_lost))
        for state, action in zip(battle.states, battle.actions[:-1], strict=False):
            assert action >= 0
            assert get_action_space("DefaultActionSpace").legal(state)[action]
    assert all(sorted(views) in ([(False, True), (True, False)], [(False, False)] * 2) for views in results.values())


@pytest.mark.slow
@pytest.mark.server
@needs_node
def test_command_plays_on_its_own_server_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    flags = ["--battles", "2", "--players", "RandomPlayer", "--max_turns", "2", "--json"]
    args = parser.parse_args(["collect", "--format", "gen1ou", *flags, "--out", str(tmp_path)])
    assert command.run(args) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["battles"], report["files"], report["set_aside"]) == (2, 4, {})
    assert report["results"] == {"RandomPlayer vs RandomPlayer: neither": 4}
    assert report["battles_per_s"] > 0
    assert all(path.name.endswith("_LOSS.json.lz4") for path in find_battles(tmp_path, ["gen1ou"]))


@pytest.mark.slow
@pytest.mark.server
@needs_node
def test_command_writes_the_views_of_the_players_and_not_of_their_opponents(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    flags = ["--battles", "6", "--players", "MaxBasePowerPlayer", "--opponents", "RandomPlayer", "MaxBasePowerPlayer"]
    assert command.run(parser.parse_args(["collect", "--format", "gen1ou", *flags, "--out", str(tmp_path)])) == 0
    names = [BattleFileName.parse(path.name) for path in find_battles(tmp_path, ["gen1ou"])]
    assert all(name.player.startswith("MaxBase") for name in names)
    views = Counter((name.battle_id, name.opponent.partition("-")[0]) for name in names)
    assert {opponent: count for (_, opponent), count in views.items()} == {"Random": 1, "MaxBasePower": 2}
    assert len(views) == 6


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        (["--battles", "0"], ConfigError, "--battles 0; it must be at least 1"),
        (["--temperature", "-1"], ConfigError, "--temperature -1.0; it must not be negative"),
        (["--timeout_s", "0"], ConfigError, "--timeout_s 0.0; it must be above 0"),
        (["--server", "localhost"], ConfigError, "--server localhost; give its address, as ws://"),
        (["--out", __file__], ConfigError, "--out .* cannot be made .*; name another folder"),
        (["--opponents", "Nobody"], ConfigError, "no player is called 'Nobody'.*nor is 'Nobody' the folder of a run"),
        (["--players", "Nobody"], ConfigError, "no player is called 'Nobody'"),
        (["--format", "gen7ou"], MissingFileError, "no team for format 'gen7ou'"),
    ],
)
def test_bad_flags_are_refused_before_a_server_is_started(
    tmp_path: Path, flags: list[str], error: type[Exception], message: str
) -> None:
    usual = ["--format", "gen1ou", "--battles", "1", "--players", "RandomPlayer", "--out", str(tmp_path)]

    def run() -> None:
        args = build_parser().parse_args(["collect", *usual, *flags])
        args.run(args)

    with pytest.raises(error, match=message):
        run()


@pytest.mark.server
@needs_node
def test_refused_team_is_an_error_in_the_servers_words(server: Server) -> None:
    started = time.monotonic()
    bad = load_teams("gen1ou")[0].replace("Recover", "Spore", 1)
    with pytest.raises(ServerError, match=r"refused Random-\w+'s team for gen1ou: Your team was rejected.*Spore"):
        play(server.websocket_url, RandomPlayer, RandomPlayer, teams=[bad])
    assert time.monotonic() - started < 20


@pytest.mark.server
@needs_node
def test_silence_ends_with_the_time_limit(server: Server) -> None:
    with pytest.raises(ServerError, match="heard nothing from the server for 1 s"):
        play(server.websocket_url, RandomPlayer, Stuck, timeout_s=1)


@pytest.mark.server
@needs_node
def test_failing_player_is_an_error_that_says_how(server: Server) -> None:
    with pytest.raises(
        ServerError, match=r"Failing-\w+ failed on battle-gen1ou-\d+.*: ZeroDivisionError: out of ideas"
    ):
        play(server.websocket_url, RandomPlayer, Failing)


def test_unreachable_server_is_an_error() -> None:
    with pytest.raises(
        ServerError, match=r"cannot connect to ws://127\.0\.0\.1:1/showdown/websocket; is a Showdown server"
    ):
        play("ws://127.0.0.1:1/showdown/websocket", RandomPlayer, RandomPlayer)


def test_a_server_that_says_nothing_is_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(ServerError, match=r"heard nothing .* 0\.5 s"):
        play(f"ws://127.0.0.1:{deaf.getsockname()[1]}/", RandomPlayer, RandomPlayer, timeout_s=0.5)


@pytest.mark.server
@needs_node
def test_a_last_battle_that_cannot_be_written_is_an_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "gen1ou").write_text("where the folder should be")
    player = scripted("RandomPlayer")
    with pytest.raises(ServerError, match=r"battle-gen1ou-\d+ could not be written down \(.*gen1ou: File exists\)"):
        asyncio.run(
            collect(
                [Matchup(player=player, opponent=player, battles=1)],
                battle_format="gen1ou",
                teams=load_teams("gen1ou"),
                websocket_url=server.websocket_url,
                out=tmp_path,
            )
        )


@pytest.mark.server
@needs_node
def test_play_pair_leaves_the_results_with_the_players(server: Server) -> None:
    player = play(server.websocket_url, RandomPlayer, RandomPlayer)
    assert player.n_finished_battles == 1


TRAPPED = "[Unavailable choice] Can't switch: The active Pokémon is trapped"


class AnyLegal(Player):
    """Every legal action is as likely as every other; `refusals` are the server's words against one.

    One refusal is no fault: that of a switch which the request allowed with the words `maybeTrapped`. An ability of the
    opponent that is not revealed yet holds the Pokémon, and only the attempt tells.
    """

    refusals: list[str]

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        return random.choice(list(live_battle(battle).options.values()))

    async def _handle_battle_message(self, split_messages: list[list[str]]) -> None:
        battle = self._battles.get(split_messages[0][0].removeprefix(">"))
        for message in split_messages:
            found_out = battle is not None and battle.maybe_trapped and message[2:3] == [TRAPPED]
            if message[1:2] == ["error"] and not found_out:
                self.refusals.append(message[2])
        await super()._handle_battle_message(split_messages)


@pytest.mark.slow
@pytest.mark.server
@needs_node
@pytest.mark.parametrize("battle_format", ["gen1ou", "gen9ou"])
def test_the_simulator_refuses_no_legal_action(server: Server, battle_format: str) -> None:
    teams = load_teams(battle_format)
    players = []
    for seed in (0, 1):
        options = connection(
            user_name("AnyLegal"),
            battle_format=battle_format,
            websocket_url=server.websocket_url,
            team=SeededTeambuilder(teams, seed),
            concurrency=8,
        )
        players.append(AnyLegal(**options))
        players[-1].refusals = []

    async def some() -> None:
        await play_pair(players[0], players[1], 10)
        await disconnect(*players)

    asyncio.run(some())
    assert players[0].n_finished_battles == 10
    assert players[0].refusals + players[1].refusals == []
