"""Ladder play on the real simulator: whole runs, misbehaving players, runs that are stopped and go on."""

import asyncio
import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.ladder_players import (
    FOUR,
    Dreaming,
    Failing,
    Hanging,
    Leaderless,
    Stubborn,
    Thoughtful,
    check_agreement,
    ladder,
    play,
    quick,
    run_four,
    tell,
    unrecorded,
)
from support.proxy import Proxy

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.results.schema import LadderRow
from gemma_metamon.showdown.ladder.ladder import GONE
from gemma_metamon.showdown.ladder.results import FINISHED, STOPPED, Results
from gemma_metamon.showdown.simulator.server import Server

pytestmark = pytest.mark.server


@pytest.mark.slow
@pytest.mark.parametrize("battle_format", ["gen1ou", "gen9ou"])
def test_battles_are_played_and_written_down_as_both_sides_saw_them(
    server: Server, tmp_path: Path, battle_format: str
) -> None:
    folders, summaries = run_four(server.websocket_url, tmp_path, 3, battle_format=battle_format)
    check_agreement(folders)
    assert [summary.finished for summary in summaries[:2]] == [3, 3]
    assert sum(summary.refused for summary in summaries) == sum(summary.fallbacks for summary in summaries) == 0
    assert unrecorded(folders) == []
    for folder in folders[:2]:
        recorded = sorted((folder / "battles" / battle_format).glob("*.json.lz4"))
        assert len(recorded) == 3
        assert [load_battle(path).won for path in recorded] == [path.name.endswith("WIN.json.lz4") for path in recorded]
    rows = [json.loads(line) for line in (folders[0] / "results.jsonl").read_text().splitlines()]
    assert all(row["rating_before"] >= 1000 and row["rating_after"] >= 1000 for row in rows)
    assert all(row["decisions"] >= row["turns"] - 2 for row in rows)
    log = (folders[0] / "replays" / rows[0]["log"]).read_text()
    assert log.startswith("|init|battle\n")
    assert f"|turn|{rows[0]['turns']}\n" in log
    assert "|request|" not in log


@pytest.mark.slow
@pytest.mark.long
def test_100_battles_among_four_players(server: Server, tmp_path: Path) -> None:
    async def until_100() -> list[Any]:
        rows: list[dict[str, Any]] = []

        def count(row: dict[str, Any]) -> None:
            rows.append(row)
            if len(rows) == 2 * 100:  # each battle has two sides
                for one in four:
                    one.stop()

        four = [
            ladder(name, server.websocket_url, folder=tmp_path / name, concurrency=4, on_row=count) for name in FOUR
        ]
        return await play(four)

    summaries = asyncio.run(asyncio.wait_for(until_100(), 1200))
    folders = [tmp_path / name for name in FOUR]
    outcomes = check_agreement(folders)
    tell(f"{outcomes.total()} battles: {dict(outcomes)}; {[vars(summary) for summary in summaries]}")
    assert outcomes.total() >= 100
    assert sum(summary.finished for summary in summaries) == 2 * outcomes.total()
    assert sum(summary.fallbacks + summary.refused for summary in summaries) == 0
    assert sum(summary.results["unfinished"] for summary in summaries) == 0
    assert unrecorded(folders) == []


@pytest.mark.slow
@pytest.mark.parametrize(("build", "why"), [(Hanging, "late"), (Dreaming, "late"), (Failing, "failed")])
def test_a_player_that_does_not_answer_is_answered_for(server: Server, tmp_path: Path, build: type, why: str) -> None:
    async def one_battle() -> None:
        timeouts = quick(decision_s=0.05)
        silent = ladder(build, server.websocket_url, battles=1, folder=tmp_path / "slow", timeouts=timeouts)
        await play([silent], [ladder("MaxBasePowerPlayer", server.websocket_url)])

    Hanging.released.clear()
    try:
        asyncio.run(one_battle())
    finally:
        Hanging.released.set()
    (row,) = Results(tmp_path / "slow").rows.values()
    assert row.result in FINISHED
    assert row.fallback_reasons == {why: row.decisions}
    assert row.refused == 0  # what is played instead is legal
    (record,) = (tmp_path / "slow" / "battles" / "gen1ou").glob("*.lz4")
    assert -1 not in load_battle(record).actions[:-1]  # and what was really played is what is recorded


def test_a_player_without_a_lead_is_given_one(server: Server, tmp_path: Path) -> None:
    async def one_battle() -> None:
        leaderless = ladder(Leaderless, server.websocket_url, battles=1, folder=tmp_path / "a", battle_format="gen9ou")
        await play([leaderless], [ladder("MaxBasePowerPlayer", server.websocket_url, battle_format="gen9ou")])

    asyncio.run(one_battle())
    (row,) = Results(tmp_path / "a").rows.values()
    assert row.result in FINISHED
    assert row.fallback_reasons == {"lead": 1}


def test_no_refused_choice_is_sent_twice(server: Server, tmp_path: Path) -> None:
    sent: list[str] = []

    async def one_battle() -> None:
        async with Proxy(server.websocket_url) as proxy:
            stubborn = ladder(Stubborn, proxy.url, battles=1, folder=tmp_path / "stubborn")
            send = stubborn._connection.send

            async def listening(message: str, room: str = "") -> bool:
                sent.append(message)
                return await send(message, room)

            stubborn._connection.send = listening  # type: ignore[method-assign]
            await play([stubborn], [ladder("MaxBasePowerPlayer", server.websocket_url)])

    asyncio.run(one_battle())
    (row,) = Results(tmp_path / "stubborn").rows.values()
    choices = [message for message in sent if message.startswith("/choose")]
    assert row.result in FINISHED
    assert row.refused == sum("notamove" in choice for choice in choices) > 0
    assert row.fallback_reasons == {"refused": row.refused}
    assert max(Counter(choices).values()) == 1  # each names its request


@pytest.mark.slow
def test_a_battle_without_progress_is_given_up_and_written_down(server: Server, tmp_path: Path) -> None:
    async def one_battle() -> None:
        waiting = ladder(
            "RandomPlayer",
            server.websocket_url,
            battles=1,
            folder=tmp_path / "waiting",
            timeouts=quick(stall_s=0.5, forfeit_s=3.0),
        )
        absent = ladder(Dreaming, server.websocket_url, timeouts=quick(decision_s=3600.0, stall_s=3600.0))
        await play([waiting], [absent])

    asyncio.run(asyncio.wait_for(one_battle(), 60))
    (row,) = Results(tmp_path / "waiting").rows.values()
    assert (row.result, row.turns) == ("lost", 1)
    assert row.rejoins == 2  # the log was asked for twice, to see whether something had been missed
    log = (tmp_path / "waiting" / "replays" / row.log).read_text()
    assert "Battle timer is ON" in log
    assert "forfeited" in log


@pytest.mark.slow
def test_stopping_once_finishes_what_runs_and_a_restart_goes_on_counting(server: Server, tmp_path: Path) -> None:
    async def stopped_after_one() -> int:
        mine = ladder("RandomPlayer", server.websocket_url, battles=4, folder=tmp_path / "a", concurrency=2)
        other = ladder("MaxBasePowerPlayer", server.websocket_url, concurrency=3)
        mine._on_row = lambda row: mine.stop() if mine.stops == 0 else None
        (mine_done, _) = await play([mine], [other])
        assert mine_done.results["unfinished"] == 0
        return mine_done.finished

    async def gone_on() -> int:
        mine = ladder("RandomPlayer", server.websocket_url, battles=4, folder=tmp_path / "a")
        return (await play([mine], [ladder("MaxBasePowerPlayer", server.websocket_url)]))[0].finished

    first = asyncio.run(stopped_after_one())
    assert 1 <= first <= 3
    assert asyncio.run(gone_on()) == 4 - first
    assert Results(tmp_path / "a").finished == 4


@pytest.mark.slow
def test_stopping_twice_is_at_once_and_a_restart_takes_the_battle_up_again(server: Server, tmp_path: Path) -> None:
    async def stopped() -> list[str]:
        mine = ladder("SimpleHeuristicsPlayer", server.websocket_url, battles=1, folder=tmp_path / "a")
        other = ladder(Thoughtful, server.websocket_url)
        theirs = asyncio.create_task(other.run())
        ours = asyncio.create_task(play([mine]))
        while not (mine.battles and next(iter(mine.battles.values())).outcome.turns > 2):
            await asyncio.sleep(0.01)
        mine.stop()
        mine.stop()
        await asyncio.wait_for(ours, 10)
        results = Results(tmp_path / "a")
        rows = list(results.rows.values())
        results.close()
        again = ladder("SimpleHeuristicsPlayer", server.websocket_url, battles=1, folder=tmp_path / "a")
        await play([again])
        other.stop()
        await theirs
        return [rows[0].result, rows[0].reason, rows[0].log]

    result, reason, log = asyncio.run(asyncio.wait_for(stopped(), 60))
    assert (result, reason) == ("unfinished", STOPPED)
    results = Results(tmp_path / "a")
    (row,) = results.rows.values()
    assert row.log == log
    assert row.result in FINISHED
    assert results.finished == 1


@pytest.mark.slow
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "of others, by now"])
def test_a_battle_whose_log_is_empty_as_yet_is_played_on_where_it_is_ours(
    ours: bool, server: Server, tmp_path: Path
) -> None:
    """A process killed between making the log and writing its first line; the server may have been restarted since."""

    async def restarted() -> list[LadderRow]:
        first = ladder("SimpleHeuristicsPlayer", server.websocket_url, battles=1, folder=tmp_path / "first")
        other = ladder(Thoughtful, server.websocket_url)
        theirs, playing = asyncio.create_task(other.run()), asyncio.create_task(play([first]))
        while not first.battles:
            await asyncio.sleep(0.01)
        (tag,) = first.battles
        if ours:
            first.stop()
            first.stop()
            await asyncio.wait_for(playing, 10)
        folder = tmp_path / "killed"
        with contextlib.closing(Results(folder)) as results:
            assert results.new_log(tag).lines == []
        name = None if ours else "Somebody else"
        again = ladder("SimpleHeuristicsPlayer", server.websocket_url, battles=1, folder=folder, name=name)
        await play([again])
        other.stop()
        await asyncio.gather(theirs, playing)
        with contextlib.closing(Results(folder)) as results:
            return list(results.rows.values())

    rows = asyncio.run(asyncio.wait_for(restarted(), 60))
    assert [row.reason for row in rows] == ([""] if ours else [GONE, ""])
    assert rows[-1].result in FINISHED
    assert unrecorded([tmp_path / "killed"]) == []


@pytest.mark.slow
def test_what_was_cut_off_by_a_crash_is_read_from_its_log(server: Server, tmp_path: Path) -> None:
    folders, _ = run_four(server.websocket_url, tmp_path, 1, concurrency=1)
    results = folders[0] / "results.jsonl"
    (before,) = [json.loads(line) for line in results.read_text().splitlines()]
    results.write_text(results.read_text()[:40])  # killed while writing

    async def restarted() -> None:
        await play([ladder(FOUR[0], server.websocket_url, battles=1, folder=folders[0])])

    asyncio.run(restarted())
    (after,) = Results(folders[0]).rows.values()
    for key in ("log", "result", "opponent", "turns", "rating_before", "rating_after"):
        assert getattr(after, key) == before[key]
    assert after.reason == "read from its log after a restart"
