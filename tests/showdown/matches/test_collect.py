"""Battles among players, drawn by a seed and written down as each side saw them; and the command that does it."""

import argparse
import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.node import needs_node

from gemma_metamon.battle.actions import get_action_space
from gemma_metamon.battle.replays import BattleFileName, find_battles, load_battle
from gemma_metamon.commands import build_parser
from gemma_metamon.commands import collect as command
from gemma_metamon.errors import ConfigError, MissingFileError, ServerError
from gemma_metamon.showdown.matches.collect import BATTLES_PER_PLAYER, Matchup, collect, draw_matchups, portions
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import load_teams


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
    there = find_battles(tmp_path, ["gen1ou"])
    assert all(path.name.endswith("_LOSS.json.lz4") for path in there)
    with pytest.raises(ConfigError, match=r"with seed 0 already, in 4 files, .* give another --seed to add others"):
        command.run(args)
    assert find_battles(tmp_path, ["gen1ou"]) == there
    args.seed = 1
    assert command.run(args) == 0
    assert len(find_battles(tmp_path, ["gen1ou"])) == 8


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
