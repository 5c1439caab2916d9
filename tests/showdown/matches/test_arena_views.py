"""What a server told its players, read by the arena's seats, gives the same recorded battles."""

import asyncio
import random
from typing import Any

import pytest
from poke_env.battle import AbstractBattle, Battle
from poke_env.player import BattleOrder, RandomPlayer, SingleBattleOrder

from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.poke_env_hooks import ReceiveMessage, intercept_messages
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.arena_seats import FORFEIT, ArenaSeat
from gemma_metamon.showdown.matches.watching import disconnect, play_pair
from gemma_metamon.showdown.players.registry import connection, user_name
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder, load_teams

pytestmark = pytest.mark.server
N_BATTLES, MAX_TURNS = 3, 40


class Keeping(RandomPlayer):
    """Keeps what it is told and what it says, battle by battle."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.told: dict[str, list[str]] = {}
        self.said: dict[str, list[str]] = {}
        self.records: dict[str, RecordedBattle | None] = {}
        open_door(self).record(Recorder(self.keep_record, max_turns=MAX_TURNS))
        intercept_messages(self, self.keep)

    def keep_record(self, battle: Battle, record: RecordedBattle | None) -> None:
        self.records[battle.battle_tag] = record

    async def keep(self, message: str, receive: ReceiveMessage) -> None:
        if message.startswith(">battle-"):
            tag, _, rest = message[1:].partition("\n")
            self.told.setdefault(tag, []).append(rest)
        await receive(message)

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        order = super().choose_move(battle)
        self.said.setdefault(battle.battle_tag, []).append(order.message)
        return order

    def teampreview(self, battle: AbstractBattle) -> str:
        message = super().teampreview(battle)
        self.said.setdefault(battle.battle_tag, []).append(message)
        return message


class Repeating(RandomPlayer):
    """Says what it is given."""

    def __init__(self, said: list[str], **options: Any) -> None:
        super().__init__(**options, start_listening=False)
        self.said = iter(said)

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        return SingleBattleOrder(next(self.said))

    def teampreview(self, battle: AbstractBattle) -> str:
        return next(self.said)


async def on_a_server(server: Server, battle_format: str) -> list[Keeping]:
    teams = load_teams(battle_format)
    players = [
        Keeping(
            **connection(
                user_name("Keeping"),
                battle_format=battle_format,
                websocket_url=server.websocket_url,
                team=SeededTeambuilder(teams, seed),
            )
        )
        for seed in (0, 1)
    ]
    try:
        await play_pair(players[0], players[1], N_BATTLES)
    finally:
        await disconnect(*players)
    return players


async def in_a_seat(tag: str, player: Keeping) -> tuple[RecordedBattle | None, list[str]]:
    """The record of what the player was told, and what the seat answered."""
    records: list[RecordedBattle | None] = []
    options = connection(player.username, battle_format=player.format, websocket_url="ws://nowhere", team=None)
    recorder = Recorder(lambda battle, record: records.append(record), max_turns=MAX_TURNS)
    seat = ArenaSeat(tag, Repeating(player.said[tag], **options), random.Random(0), recorder)
    answers = []
    for message in player.told[tag]:
        seat.read([message])
        if seat.is_asked:
            answers.append(await seat.answer())
    seat.end()
    assert seat.given_up is None
    return records[0], answers


@pytest.mark.parametrize("battle_format", ["gen1ou", "gen9ou"])
def test_the_messages_of_server_battles_give_the_same_states_and_actions(server: Server, battle_format: str) -> None:
    players = asyncio.run(on_a_server(server, battle_format))
    for player in players:
        assert len(player.records) == N_BATTLES
        for tag, expected in player.records.items():
            found, answers = asyncio.run(in_a_seat(tag, player))
            assert found == expected
            assert len(answers) == len(player.said[tag]) + (FORFEIT in answers)
