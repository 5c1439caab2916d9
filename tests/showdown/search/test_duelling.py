"""The worker's own DuelTrainer chooses as the player of that name does."""

import asyncio
import json
import subprocess
from importlib import resources

import pytest
from support.paths import ROOT

from gemma_metamon.showdown.arena.arena import SEATS, Arena, Ending
from gemma_metamon.showdown.matches.arena_tables import Table, begin_battle, draw_pair, player_of
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.installation import ensure_installed, find_node
from gemma_metamon.showdown.simulator.teams import load_teams

pytestmark = pytest.mark.server


async def play_on(arena: Arena, tag: str, table: Table) -> Ending:
    while True:
        for news in arena.settle([tag]):
            if news.ended is not None:
                return news.ended
            for name, seat in zip(SEATS, table, strict=True):
                seat.read(news.told.get(name, ()))
        for name, seat in zip(SEATS, table, strict=True):
            if seat.is_asked:
                arena.send(tag, name, await seat.answer())


@pytest.mark.parametrize(("battle_format", "at_least"), [("gen1ou", 0.98), ("gen9ou", 0.9)])
def test_both_choose_alike(arena: Arena, battle_format: str, at_least: float) -> None:
    teams, logs = load_teams(battle_format), []
    players = tuple(player_of(scripted("DuelTrainer"), seat, battle_format) for seat in SEATS)
    for number in range(3):
        tag = f"battle-{battle_format}-{number}"
        table = begin_battle(
            arena,
            tag,
            battle_format=battle_format,
            seed=0,
            number=number,
            players=(players[0], players[1]),
            teams=draw_pair(teams, 0, number),
        )
        logs.append(asyncio.run(play_on(arena, tag, table)).inputs)
    with resources.as_file(resources.files("gemma_metamon.showdown.arena") / "assets") as assets:
        command = [find_node(), str(ROOT / "tests" / "support" / "duel_choices.js"), str(assets)]
        done = subprocess.run(
            command, input=json.dumps(logs), cwd=ensure_installed(), capture_output=True, encoding="utf-8", check=True
        )
    # poke-env does not tell a player the tera types of its own team; the worker knows them
    pairs = [[choice.removesuffix(" terastallize") for choice in pair] for pair in json.loads(done.stdout)]
    alike = [played == chosen for played, chosen in pairs]
    assert len(alike) > 50
    assert sum(alike) >= at_least * len(alike), [pair for pair in pairs if pair[0] != pair[1]][:10]
