"""Two players on a server are watched: they play to the end, or the error says who failed, and how."""

import asyncio
import socket
from typing import Any

import pytest
from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, Player, RandomPlayer
from support.node import needs_node

from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.matches.watching import disconnect, play_pair
from gemma_metamon.showdown.players.registry import connection, user_name
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder, load_teams


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


@pytest.mark.server
@needs_node
def test_refused_team_is_an_error_in_the_servers_words(server: Server) -> None:
    bad = load_teams("gen1ou")[0].replace("Recover", "Spore", 1)
    with pytest.raises(ServerError, match=r"refused Random-\w+'s team for gen1ou: Your team was rejected.*Spore"):
        play(server.websocket_url, RandomPlayer, RandomPlayer, teams=[bad])


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
def test_play_pair_leaves_the_results_with_the_players(server: Server) -> None:
    player = play(server.websocket_url, RandomPlayer, RandomPlayer)
    assert player.n_finished_battles == 1
