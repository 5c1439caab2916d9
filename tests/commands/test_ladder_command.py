"""What ladder play says of input that cannot work, against the real server, and the command from start to interrupt."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.ladder_players import QUICK, ladder, unrecorded

from gemma_metamon.commands import main
from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.accounts import LadderServer, Secret
from gemma_metamon.showdown.ladder.ladder import Ladder
from gemma_metamon.showdown.ladder.results import Results
from gemma_metamon.showdown.simulator.server import Server

pytestmark = pytest.mark.server


def refused(**options: Any) -> str:
    one = ladder("RandomPlayer", **options)
    with pytest.raises(ServerError) as caught:
        asyncio.run(asyncio.wait_for(one.run(), 30))
    return str(caught.value)


@pytest.mark.slow
def test_an_unknown_format_is_refused_by_the_servers_list(server: Server) -> None:
    one = Ladder(
        ladder("RandomPlayer", server.websocket_url)._player.__class__,
        server=LadderServer(name="the simulator", websocket_url=server.websocket_url),
        username="Unknown-format",
        battle_format="gen1o",
        teams=[],
        battles=1,
        timeouts=QUICK,
    )
    with pytest.raises(ServerError, match=r"the simulator has no ladder for 'gen1o', but \d+ others; did you mean"):
        asyncio.run(asyncio.wait_for(one.run(), 30))


def test_an_illegal_team_is_refused_in_the_simulators_own_words(server: Server) -> None:
    team = "Snorlax||||spore,earthquake|||||||"
    said = refused(url=server.websocket_url, teams=[team], battles=1)
    assert "the simulator refused every team for gen1ou" in said
    assert "Snorlax can't learn Spore" in said


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    said = refused(url="ws://127.0.0.1:9/showdown/websocket", battles=1)
    assert said.startswith("the server ws://127.0.0.1:9/showdown/websocket cannot be reached: ")


def test_a_taken_name_is_one_sentence(server: Server) -> None:
    async def both() -> str:
        first = ladder("RandomPlayer", server.websocket_url, name="Taken")
        playing = asyncio.create_task(first.run())
        while not first._connection.logged_in:
            await asyncio.sleep(0.01)
        second = ladder("RandomPlayer", server.websocket_url, name="Taken")
        with pytest.raises(ServerError) as caught:
            await second.run()
        first.stop()
        await playing
        return str(caught.value)

    said = asyncio.run(asyncio.wait_for(both(), 30))
    assert "refused the name 'Taken': Someone is already using the name \"Taken\"; choose another --username" in said


def test_a_password_and_its_assertion_never_reach_a_log(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The assertion is no real one: the simulator refuses it, which is all that is asked of it here."""
    from gemma_metamon.showdown.ladder import connection

    monkeypatch.setattr(connection, "prove_name", lambda *_: "signed-by-the-login-server")
    one = ladder("RandomPlayer", server.websocket_url, battles=1, password=Secret("hunter2"))
    one._connection.server = LadderServer(
        name="the simulator", websocket_url=server.websocket_url, login_url="http://127.0.0.1:9/"
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(ServerError, match="refused the name") as caught:
        asyncio.run(asyncio.wait_for(one.run(), 30))
    for secret in ("hunter2", "signed-by-the-login-server"):
        assert secret not in caplog.text + repr(vars(one)) + repr(vars(one._connection)) + str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--player", "RandmPlayer"], "did you mean RandomPlayer?"),
        ([], "give one of --run_dir (an agent) and --player"),
        (["--player", "RandomPlayer", "--run_dir", "x"], "give one of --run_dir"),
        (["--run_dir", "nowhere"], "nor is 'nowhere' the folder of a run"),
        (["--run_dir", "runs/nowhere"], "runs/nowhere: no such folder"),
        (["--players", "ensemble(runs/nowhere)"], "member runs/nowhere of ensemble(runs/nowhere): runs/nowhere: no"),
        (["--player", "RandomPlayer", "--watch", "w"], "RandomPlayer is not one that plays alone"),
        (["--player", "RandomPlayer", "--format", "gen5ou"], "no team for format 'gen5ou'"),
        (["--player", "RandomPlayer", "--format", "gen9vgc2025regi"], "no singles format"),
        (["--player", "RandomPlayer", "--format", "gen9vgc"], "no such format"),
        (["--player", "RandomPlayer", "--battles", "0"], "must be at least 1"),
        (["--player", "RandomPlayer", "--temperature", "nan"], "--temperature nan; it must be above 0"),
        (["--player", "RandomPlayer", "--out", __file__], "test_ladder_command.py cannot be made (File exists)"),
        (["--player", "RandomPlayer", "--server", "main"], "administrators' leave"),
        (["--player", "RandomPlayer", "--server", "pokeagent"], "begin with PAC"),
        (["--player", "RandomPlayer", "--server", "ws://127.0.0.1:9/x"], "cannot be reached"),
        (["--player", "RandomPlayer", "--server", "ws://127.0.0.1:9/x", "--sparring", "RandomPlayer"], "--sparring is"),
        (["--player", "RandomPlayer", "--password_file", "nowhere"], "no password file at nowhere"),
    ],
)
def test_bad_input_to_ladder_gets_one_sentence(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ladder", "--username", "Anna", *arguments]) == 1
    assert complaint in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.slow
def test_an_illegal_team_is_refused_before_the_local_simulator_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.txt").write_text("Snorlax\n- Spore\n- Earthquake\n")
    arguments = ["--username", "Anna", "--player", "RandomPlayer", "--team", str(tmp_path)]
    assert main(["ladder", *arguments]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"team 1 of 1 in {tmp_path} is not legal in gen1ou" in said
    assert "Snorlax can't learn Spore" in said


def command(tmp_path: Path, server: Server, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "gemma_metamon", "ladder", "--server", server.websocket_url, "--username", "Anna"),
            *("--player", "SimpleHeuristicsPlayer", "--out", str(tmp_path / "out"), "--json", *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_the_command_survives_being_killed_and_ends_on_interrupt(server: Server, tmp_path: Path) -> None:
    async def with_partner() -> tuple[int, dict[str, Any]]:
        partner = ladder("NoSwitchRandomPlayer", server.websocket_url, concurrency=2)
        playing = asyncio.create_task(partner.run())

        async def finished(n: int) -> None:
            path = tmp_path / "out" / "results.jsonl"
            while not path.exists() or len(path.read_text().splitlines()) < n:
                await asyncio.sleep(0.05)

        first = command(tmp_path, server, "--battles", "1000")
        await asyncio.wait_for(finished(2), 60)
        first.kill()
        await asyncio.to_thread(first.communicate)
        second = command(tmp_path, server, "--battles", "1000")
        await asyncio.wait_for(finished(5), 60)
        second.send_signal(signal.SIGINT)
        out, _ = await asyncio.to_thread(second.communicate)
        partner.stop()
        await playing
        return second.returncode, json.loads(out)

    status, report = asyncio.run(asyncio.wait_for(with_partner(), 180))
    assert status == 0
    results = Results(tmp_path / "out")
    assert report["won"] + report["lost"] + report["tied"] == results.finished >= 5
    assert report["unfinished"] == 0
    results.close()
    assert unrecorded([tmp_path / "out"]) == []
    assert len(list((tmp_path / "out" / "replays").glob("*.html"))) == results.finished
