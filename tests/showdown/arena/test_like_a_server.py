"""What a seat of the arena is told is what a player on a server is told."""

import asyncio
import re
from typing import Any

import pytest
from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, Player, SingleBattleOrder
from support.arena_battles import Story, seats_for

from gemma_metamon.showdown.arena.arena import Arena, Seat
from gemma_metamon.showdown.arena.seeds import simulator_seed
from gemma_metamon.showdown.matches.watching import disconnect
from gemma_metamon.showdown.players.registry import connection
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder

pytestmark = pytest.mark.server
# what the first seat says, in turn: three refusals, and that it gives up
SAID = ("/choose move 9", "/choose switch 1", "/choose nonsense", "/forfeit")


class Saying(Player):
    """Says what it is given, and keeps what it is told."""

    def __init__(self, said: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)
        self.said, self.told = iter(said), []
        receive: Any = self.ps_client._handle_message

        async def keep(message: str) -> None:
            if message.startswith(">battle-"):
                self.told += message.split("\n")[1:]
            await receive(message)

        self.ps_client._handle_message = keep  # type: ignore[method-assign]

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        return SingleBattleOrder(next(self.said, ""))  # nothing is sent for nothing


async def on_a_server(server: Server, seats: tuple[Seat, Seat]) -> list[list[str]]:
    players = [
        Saying(
            said,
            **connection(
                seat.name,
                battle_format="gen1ou",
                websocket_url=server.websocket_url,
                team=SeededTeambuilder([seat.team or ""], 0),
            ),
        )
        for seat, said in zip(seats, (SAID, ()), strict=True)
    ]
    players[0].DEFAULT_CHOICE_CHANCE = 0.0
    try:
        await asyncio.wait_for(players[0].battle_against(players[1], n_battles=1), 60)
    finally:
        await disconnect(*players)
    return [player.told for player in players]


def in_the_arena(arena: Arena, seats: tuple[Seat, Seat]) -> list[list[str]]:
    arena.start("battle", battle_format="gen1ou", seed=simulator_seed(0), seats=seats)
    story = Story()
    for message in (None, *SAID):
        if message:
            arena.send("battle", "p1", message)
        for news in arena.receive():
            story.add(news)
    assert story.ended
    return [[line for message in story.told[seat] for line in message.split("\n")] for seat in ("p1", "p2")]


def comparable(lines: list[str]) -> list[str]:
    """Without the clock, the picture of a player, and who else comes and goes."""
    kept = [line for line in lines if line and not line.startswith(("|j|", "|l|", "|deinit"))]
    return [re.sub(r"^(\|t:\||\|player\|p.\|[^|]*\|)\d*", r"\1", line) for line in kept]


@pytest.mark.slow
def test_from_the_first_message_through_refusals_to_the_end(server: Server, arena: Arena) -> None:
    seats = seats_for("gen1ou", "battle")
    expected = asyncio.run(on_a_server(server, seats))
    found = in_the_arena(arena, seats)
    assert [line for line in found[0] if line.startswith("|error|")]
    for theirs, ours in zip(expected, found, strict=True):
        assert comparable(ours) == comparable(theirs)
