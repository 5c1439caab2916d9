"""What is held legal, the simulator accepts."""

import asyncio
import random

import pytest
from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, Player
from support.node import needs_node

from gemma_metamon.showdown.live.battle import live_battle
from gemma_metamon.showdown.matches.watching import disconnect, play_pair
from gemma_metamon.showdown.players.registry import connection, user_name
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder, load_teams

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
