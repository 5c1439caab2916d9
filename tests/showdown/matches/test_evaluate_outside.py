"""Somebody outside is met: who plays under a name on a server, and is challenged there or challenges."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from poke_env.player import MaxBasePowerPlayer, Player
from support.evaluating import TEAMS, command_fails, journal, played

from gemma_metamon.showdown.matches.watching import disconnect
from gemma_metamon.showdown.players.contestants import Outside, scripted
from gemma_metamon.showdown.players.registry import connection
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder


@contextmanager
def stranger(server: Server, name: str, opponent: str, *, challenges: bool) -> Iterator[Player]:
    """A player that this test alone knows: it accepts the opponent's challenges, or keeps challenging it."""
    options = connection(
        name, battle_format="gen1ou", websocket_url=server.websocket_url, team=SeededTeambuilder(TEAMS[:1], 0)
    )
    player = MaxBasePowerPlayer(**options)

    async def challenge() -> None:
        while True:  # the opponent may not be there yet
            await player.ps_client.wait_for_login()
            await player.ps_client.challenge(opponent, "gen1ou", TEAMS[0])
            await asyncio.sleep(0.2)

    playing = challenge() if challenges else player.accept_challenges(opponent, 3)
    task = asyncio.run_coroutine_threadsafe(playing, player.ps_client.loop)
    try:
        yield player
    finally:
        task.cancel()
        asyncio.run(disconnect(player))


@pytest.mark.server
@pytest.mark.parametrize("accept", [False, True])
def test_an_outside_player_is_challenged_or_challenges(server: Server, tmp_path: Path, accept: bool) -> None:
    with stranger(server, f"Stranger{accept}", f"Ours{accept}", challenges=accept):
        outside = Outside(f"Stranger{accept}", f"Ours{accept}", accept)
        evaluation = played(server, (scripted("RandomPlayer"), outside), battles=3, concurrency=1, out=tmp_path)
    (pair,) = evaluation.results().pairs
    assert (pair.battles, pair.opponent) == (3, f"Stranger{accept}")
    rows = {row.name: row for row in evaluation.results().contestants}
    assert rows[outside.name].kind == "outside"
    assert rows[outside.name].legal_rate is None
    assert {battle["p1"] for battle in journal(tmp_path)} == {"opponent" if accept else "player"}
    assert all(battle["teams"][1] is None for battle in journal(tmp_path))


@pytest.mark.server
def test_an_outside_player_who_is_not_there_is_named(server: Server, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--players", "RandomPlayer", "--opponents", "user:Nobody", "--server", server.websocket_url]
    assert "The user 'Nobody' was not found" in command_fails(arguments, capsys)


@pytest.mark.server
def test_an_outside_player_who_does_not_challenge_is_named(server: Server, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--players", "RandomPlayer", "--opponents", "user:Nobody", "--server", server.websocket_url]
    sentence = command_fails([*arguments, "--accept", "--username", "Waiting", "--timeout_s", "1"], capsys)
    assert "Nobody did not challenge Waiting to gen1ou within 1 s" in sentence


@pytest.mark.server
def test_a_name_that_is_taken_is_an_error(server: Server, capsys: pytest.CaptureFixture) -> None:
    with stranger(server, "Somebody", "Nobody", challenges=False) as somebody:
        asyncio.run(somebody.ps_client.wait_for_login())
        arguments = ["--players", "RandomPlayer", "--opponents", "user:Nobody", "--server", server.websocket_url]
        sentence = command_fails([*arguments, "--username", "Somebody"], capsys)
    assert 'Someone is already using the name "Somebody"' in sentence
