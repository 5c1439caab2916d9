"""Players that look ahead in an arena: repeatable, and knowing no more than their seat was told."""

import asyncio
import itertools
import json
import os
import random
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.showdown.arena.arena import SEATS, Arena, News
from gemma_metamon.showdown.live.battle import live_battle
from gemma_metamon.showdown.live.poke_env_hooks import messages_read
from gemma_metamon.showdown.matches.arena_play import ArenaMatch, Plan
from gemma_metamon.showdown.matches.arena_tables import Table, begin_battle, draw_pair, player_of
from gemma_metamon.showdown.matches.samplers import unpack_team
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.search.players import lookahead, worth_looking_at
from gemma_metamon.showdown.search.searcher import Searcher
from gemma_metamon.showdown.search.settings import SearchSettings
from gemma_metamon.showdown.simulator.teams import load_teams

pytestmark = pytest.mark.server
FEW = SearchSettings(forks=24, turns=2)


def read(arena: Arena, tag: str, table: Table) -> None:
    for news in arena.settle([tag]):
        for name, seat in zip(SEATS, table, strict=True):
            seat.read(news.told.get(name, ()))


def test_what_is_hidden_does_not_change_a_decision(arena: Arena) -> None:
    """The same history over another bench, with the same dice: the same scores, and the same answers."""
    own, team = load_teams("gen1ou")[:2]
    lead, *bench = unpack_team(team, 1)
    other = unpack_team(load_teams("gen1ou")[2], 1)
    others = [each for each in other if each.species != lead.species][: len(bench)]
    benches = (bench, others[::-1], [replace(each, evs="4,4,4,4,4,4", moves=each.moves[:1]) for each in bench])
    who = lookahead("Looks", FEW)
    players = player_of(who, "p1", "gen1ou"), player_of(scripted("RandomPlayer"), "p2", "gen1ou")
    searcher, tables = Searcher(FEW, "gen1ou"), {}
    for number, hidden in enumerate(benches):
        theirs = "]".join(each.pack() for each in (lead, *hidden))
        tables[tag] = begin_battle(
            arena,
            tag := f"battle-gen1ou-{number}",
            battle_format="gen1ou",
            seed=1,
            number=0,
            players=players,
            teams=(own, theirs),
        )
    n_compared = 0
    for _ in range(4):
        scores, answers = [], []
        for tag, (seat, _) in tables.items():
            read(arena, tag, tables[tag])
            live = live_battle(seat.battle)
            if seat.battle.force_switch or seat.battle.opponent_active_pokemon.fainted:
                break
            priors = worth_looking_at(live, players[0].rate_options(live))  # type: ignore[attr-defined]
            scores.append(asyncio.run(searcher.search(live, priors)).scores)
            answers.append(asyncio.run(seat.answer()))
            arena.send(tag, "p1", answers[-1])
            arena.send(tag, "p2", "/choose move 1")
        if len(answers) < len(tables):
            break
        assert scores.count(scores[0]) == answers.count(answers[0]) == len(tables)
        n_compared += len(scores[0]) > 1
    assert n_compared >= 2


def played(n_workers: int) -> list[tuple[str | None, list[str]]]:
    """Of two battles: who won, and what p1 was told."""
    ends = {}

    def ended(plan: Plan, table: Table) -> None:
        battle = table[0].battle
        ends[plan.number] = str(battle.won), ["|".join(message) for message in messages_read(battle)]

    teams, who = load_teams("gen1ou"), (lookahead("Looks", FEW), scripted("DuelTrainer"))
    plans = [Plan(number=n, players=who[:: 1 - 2 * n], teams=draw_pair(teams, 5, n)) for n in range(2)]
    with Arena(n_workers) as arena:
        asyncio.run(ArenaMatch(arena, "gen1ou", 5, 2, ended).play(plans))
    return [ends[number] for number in sorted(ends)]


@pytest.mark.slow
def test_battles_do_not_depend_on_the_number_of_workers() -> None:
    one = played(1)
    assert one == played(2)
    assert len(one[0][1]) > 20


@pytest.fixture(scope="module")
def undisturbed() -> list[tuple[str | None, list[str]]]:
    return played(1)


def test_battles_of_a_worker_killed_during_a_search_begin_again(
    undisturbed: list[tuple[str | None, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And go as they do undisturbed."""
    look_ahead, asked = Arena.look_ahead, []

    def killing(arena: Arena, *args: Any, **question: Any) -> None:
        look_ahead(arena, *args, **question)
        asked.append(question)
        if len(asked) == 12:
            os.kill(arena.process_ids[0], signal.SIGKILL)

    monkeypatch.setattr(Arena, "look_ahead", killing)
    assert played(1) == undisturbed
    assert len(asked) > 12


def test_a_battle_that_is_lost_before_its_seat_has_searched_begins_again(
    undisturbed: list[tuple[str | None, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker ends while the messages of the other group of battles are read."""
    settle, n_reads = Arena.settle, itertools.count()

    def killing(arena: Arena, battles: Iterable[str]) -> list[News]:
        wanted = set(battles)
        if not any(" ahead of " in name for name in wanted) and next(n_reads) == 1:
            os.kill(arena.process_ids[0], signal.SIGKILL)
        return settle(arena, wanted)

    monkeypatch.setattr(Arena, "settle", killing)
    assert played(1) == undisturbed


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    return folder / "run"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("player", ["LookaheadTrainer(forks=8, turns=2)", "search({}, forks=8, turns=2)"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_under_an_evaluation_of_who_searches_is_replaced_once(
    how: signal.Signals,
    player: str,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    look_ahead, asked = Arena.look_ahead, list[str]()
    faulty = {3}

    def failing(arena: Arena, *args: Any, **question: Any) -> None:
        look_ahead(arena, *args, **question)
        asked.append(str(args[0]))
        if len(asked) in faulty:
            os.kill(arena.process_ids[0], how)

    monkeypatch.setattr(Arena, "look_ahead", failing)
    command = ["evaluate", "--players", player.format(run_dir), "--opponents", "RandomPlayer", "--battles", "1"]
    command += ["--format", "gen1ou", "--timeout_s", "5", "--workers", "1", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["battles"] == 1
    why = "was" if how == signal.SIGKILL else "said nothing for 5 seconds and was"
    assert f"which played it, {why} ended by signal 9; it begins again" in caplog.text
    asked.clear()
    faulty.add(6)
    assert main(command) == 1
    mend = "it may be that this machine has too little memory" if how == signal.SIGKILL else "give a larger --timeout_s"
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("gemma-metamon evaluate: ")
    assert line.endswith(f"{why} ended by signal 9, for the second time; {mend}")


def test_no_search_without_an_arena(arena: Arena) -> None:
    players = tuple(player_of(lookahead("Looks", FEW), seat, "gen1ou") for seat in SEATS)
    teams = draw_pair(load_teams("gen1ou"), 0, 0)
    table = begin_battle(
        arena,
        "battle-gen1ou-9",
        battle_format="gen1ou",
        seed=0,
        number=0,
        players=(players[0], players[1]),
        teams=teams,
    )
    read(arena, "battle-gen1ou-9", table)
    live = live_battle(table[0].battle)
    live.arena = None
    with pytest.raises(ConfigError, match="leave --server out, or name the player that does not search"):
        asyncio.run(players[0].choose_move(live.battle))  # type: ignore[arg-type]
    live.arena, live.dice = arena, random.Random(0)
    arena.drop("battle-gen1ou-9")
    with pytest.raises((ConfigError, ServerError), match="not in play"):
        asyncio.run(players[0].choose_move(live.battle))  # type: ignore[arg-type]
