"""Ladder play on the real simulator through a bad network, and on a server that hangs or dies."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.ladder_players import (
    FOUR,
    Thoughtful,
    check_agreement,
    ladder,
    play,
    quick,
    rows_by_battle,
    tell,
    unrecorded,
)
from support.proxy import Faults, Proxy

from gemma_metamon.showdown.ladder.ladder import GONE
from gemma_metamon.showdown.ladder.results import FINISHED, Results
from gemma_metamon.showdown.simulator.server import Server, running_server

pytestmark = pytest.mark.server


def bad_network(url: str, folder: Path, faults: Faults, battles: int) -> tuple[list[Path], list[Any], dict[str, int]]:
    async def through_proxy() -> tuple[list[Any], dict[str, int]]:
        async with Proxy(url, faults) as proxy:
            four = [
                ladder(
                    name, proxy.url, battles=battles if name == FOUR[0] else None, folder=folder / name, concurrency=2
                )
                for name in FOUR
            ]
            return await play(four[:1], four[1:]), proxy.done

    summaries, done = asyncio.run(asyncio.wait_for(through_proxy(), 900))
    return [folder / name for name in FOUR], summaries, done


@pytest.mark.slow
def test_cut_connections_are_taken_up_again_and_no_battle_is_lost(server: Server, tmp_path: Path) -> None:
    folders, summaries, done = bad_network(server.websocket_url, tmp_path, Faults(cut=0.03), 2)
    check_agreement(folders)
    assert done["cut"] > 2
    assert sum(summary.cuts for summary in summaries) >= done["cut"] - len(FOUR)
    assert sum(summary.rejoins for summary in summaries) > 0
    assert sum(summary.results["unfinished"] for summary in summaries) == 0
    assert unrecorded(folders) == []


@pytest.mark.parametrize(
    "lost",
    [
        ["|init|battle", "|/join battle-"],
        ["|init|battle", "|t:|", "|player|", "|player|", "|rule|", "|request|", "|/join battle-"],
    ],
    ids=["its_first_message", "all_of_it"],
)
def test_a_battle_whose_beginning_was_lost_is_found(server: Server, tmp_path: Path, lost: list[str]) -> None:
    """And so it is if the first question for it is lost as well."""
    folders = [tmp_path / "a", tmp_path / "b"]
    faults = Faults(lose_first=[*lost])

    async def one_battle() -> list[Any]:
        async with Proxy(server.websocket_url, faults) as proxy:
            unlucky = ladder("MaxBasePowerPlayer", proxy.url, battles=1, folder=folders[0])
            other = ladder(
                "RandomPlayer", server.websocket_url, battles=1, folder=folders[1], timeouts=quick(stall_s=60)
            )
            return await play([unlucky, other])

    summaries = asyncio.run(asyncio.wait_for(one_battle(), 60))
    assert faults.lose_first == []
    assert [summary.finished for summary in summaries] == [1, 1]
    check_agreement(folders)


@pytest.mark.slow
def test_a_player_that_lacks_what_was_lost_is_told_anew(server: Server, tmp_path: Path) -> None:
    faults = Faults(lose_first=["|switch|"])  # who is on the field

    async def one_battle() -> None:
        async with Proxy(server.websocket_url, faults) as proxy:
            unlucky = ladder("MaxBasePowerPlayer", proxy.url, battles=1, folder=tmp_path)
            await play([unlucky], [ladder(Thoughtful, server.websocket_url)])

    asyncio.run(asyncio.wait_for(one_battle(), 60))
    (row,) = Results(tmp_path).rows.values()
    assert row.rejoins == 1
    assert row.fallback_reasons.keys() == {"failed"}
    assert row.fallbacks < row.decisions / 2  # until it was told


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(cut=0.02, delay_s=0.3), marks=pytest.mark.long),
        pytest.param(Faults(lose=0.01, delay_s=0.3), marks=pytest.mark.long),
        Faults(cut=0.005, delay_s=0.3, garble=0.01, lose=0.01),
    ],
    ids=["cut", "lose", "everything"],
)
def test_battles_survive_a_bad_network(server: Server, tmp_path: Path, faults: Faults) -> None:
    folders, summaries, done = bad_network(server.websocket_url, tmp_path, faults, 3)
    played = {
        battle: sorted(row.result for row in rows if row.result in FINISHED)
        for battle, rows in rows_by_battle(folders).items()
    }
    tell(f"{len(played)} battles; {done}; {[vars(summary) for summary in summaries]}")
    # a garbled number makes a battle of its own, which nobody ever plays: it is written down as unfinished
    one_sided = {
        battle: results for battle, results in played.items() if results not in (["lost", "won"], ["tied"] * 2)
    }
    assert len(one_sided) <= (2 if faults.garble else 0), one_sided
    assert summaries[0].finished == 3
    assert unrecorded(folders) == []


def underway(players: list[Any]) -> bool:
    return any(battle.in_room and battle.outcome.turns > 1 for player in players for battle in player.battles.values())


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_server_that_hangs_is_left_and_its_battles_are_played_on_once_it_answers(
    server: Server, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in FOUR[:2]]

    async def through_a_hang() -> list[Any]:
        players = [ladder(folder.name, server.websocket_url, battles=1, folder=folder) for folder in folders]
        playing = asyncio.create_task(play(players))
        while not underway(players):
            assert not playing.done(), playing
            await asyncio.sleep(0.01)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            while any(player._connection.logged_in for player in players):
                assert not playing.done(), playing
                await asyncio.sleep(0.05)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        return await playing

    summaries = asyncio.run(asyncio.wait_for(through_a_hang(), 180))
    assert all(summary.cuts and summary.rejoins for summary in summaries)
    assert [summary.results["unfinished"] for summary in summaries] == [0, 0]
    assert sum(check_agreement(folders).values()) >= 1
    assert unrecorded(folders) == []


def run_through_deaths(folder: Path, names: tuple[str, ...], deaths: int) -> list[Any]:
    """The server is killed whenever battles are in play, started again, and at last played on to an end."""

    async def through_deaths() -> list[Any]:
        first = running_server()
        running = await asyncio.to_thread(first.__enter__)
        servers, port = [first], running.port
        players = [ladder(name, running.websocket_url, folder=folder / name, concurrency=2) for name in names]
        playing = asyncio.create_task(play(players))

        for _ in range(deaths):
            while not underway(players):
                await asyncio.sleep(0.05)
            os.kill(running.pid, signal.SIGKILL)
            await asyncio.sleep(0.5)
            servers.append(running_server(port))
            running = await asyncio.to_thread(servers[-1].__enter__)
        while min(player.summary.finished for player in players) < 1:
            await asyncio.sleep(0.05)
        for player in players:
            player.stop()
        summaries = await playing
        for server in servers:
            server.__exit__(None, None, None)
        return summaries

    summaries = asyncio.run(asyncio.wait_for(through_deaths(), 180))
    folders = [folder / name for name in names]
    assert unrecorded(folders) == []
    rows = [row for rows in rows_by_battle(folders).values() for row in rows]
    assert {row.reason for row in rows if row.result == "unfinished"} == {GONE}
    assert sum(summary.cuts for summary in summaries) >= 2 * deaths  # two at least were playing each time
    assert all(summary.finished >= 1 for summary in summaries)
    return rows


@pytest.mark.slow
def test_a_killed_and_restarted_server_leaves_no_battle_unrecorded(tmp_path: Path) -> None:
    run_through_deaths(tmp_path, FOUR[:2], deaths=1)


@pytest.mark.slow
def test_four_players_survive_a_server_that_dies_three_times(tmp_path: Path) -> None:
    rows = run_through_deaths(tmp_path, FOUR, deaths=3)
    tell(f"{len(rows)} lines: {Counter(row.result for row in rows)}")
