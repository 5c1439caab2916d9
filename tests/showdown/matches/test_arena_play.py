"""Players in an arena: the same seed gives the same battles, whoever plays and on any number of workers."""

import asyncio
import gc
import itertools
import json
import os
import random
import signal
import weakref
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from poke_env.battle import Battle
from support.collections import contents
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.errors import ServerError
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.results.schema import BattleRow
from gemma_metamon.showdown.arena.arena import Arena, News
from gemma_metamon.showdown.matches import processes
from gemma_metamon.showdown.matches.arena_play import ArenaMatch, Plan
from gemma_metamon.showdown.matches.arena_tables import Table
from gemma_metamon.showdown.matches.collect import collect, draw_matchups
from gemma_metamon.showdown.matches.evaluate import evaluate
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.players.registry import PLAYERS
from gemma_metamon.showdown.simulator.teams import load_teams

pytestmark = pytest.mark.server


def collected(folder: Path, *names: str, seed: int = 0, battles: int = 4) -> dict[tuple[str, str, str], bytes]:
    who = [scripted(name) for name in names]
    asyncio.run(
        collect(
            draw_matchups(who, battles, seed),
            battle_format="gen1ou",
            teams=load_teams("gen1ou"),
            out=folder,
            seed=seed,
            concurrency=3,
            max_turns=15,
        )
    )
    return contents(folder)


def test_another_seed_gives_other_battles(tmp_path: Path) -> None:
    first = collected(tmp_path / "0", "RandomPlayer", battles=1)
    second = collected(tmp_path / "1", "RandomPlayer", battles=1, seed=1)
    assert set(first.values()).isdisjoint(second.values())


def test_players_leave_the_global_dice_as_they_were(tmp_path: Path) -> None:
    random.seed(5)
    expected = random.Random(5).random()
    collected(tmp_path, "RandomPlayer", battles=1)
    assert random.random() == expected


def test_nobody_keeps_a_battle_that_is_over() -> None:
    who, teams = scripted("SimpleHeuristicsPlayer"), load_teams("gen1ou")
    plans = [Plan(number=n, players=(who, who), teams=(teams[n], teams[n + 1])) for n in range(4)]
    over: list[weakref.ref[Battle]] = []

    def ended(plan: Plan, table: Table) -> None:
        over.extend(weakref.ref(seat.battle) for seat in table)

    with Arena() as arena:
        match = ArenaMatch(arena, "gen1ou", seed=0, in_play=2, on_end=ended, in_rounds=False)
        asyncio.run(match.play(plans))
        gc.collect()
        assert len(over) == 8
        assert not [battle for battle in over if battle() is not None]


def test_a_refused_team_is_told_in_the_simulators_words(tmp_path: Path) -> None:
    who = [scripted("RandomPlayer")]
    with pytest.raises(ServerError, match=r"refuses battle-gen1ou-0: Random-p1's team is not valid for gen1ou: "):
        asyncio.run(
            collect(
                draw_matchups(who, 1, 0), battle_format="gen1ou", teams=load_teams("gen9ou")[:1], out=tmp_path, seed=0
            )
        )


def test_a_failing_player_is_named_with_its_battle(tmp_path: Path) -> None:
    class Failing(PLAYERS["RandomPlayer"]):  # type: ignore[misc]
        def choose_move(self, battle: object) -> object:
            raise ZeroDivisionError("out of ideas")

    who = [Contestant("Failing", Failing)]
    with pytest.raises(ServerError, match="Failing-p1 failed on battle-gen1ou-0: ZeroDivisionError: out of ideas"):
        asyncio.run(collect(draw_matchups(who, 1, 0), battle_format="gen1ou", teams=load_teams("gen1ou"), out=tmp_path))


def test_battles_of_a_killed_worker_begin_again_and_go_as_they_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = collected(tmp_path / "whole", "RandomPlayer")
    receive, n_calls = Arena.receive, itertools.count()

    def killing(arena: Arena, at_least: int = 1) -> list[News]:
        if next(n_calls) == 10:
            os.kill(arena.process_ids[0], signal.SIGKILL)
        return receive(arena, at_least)

    monkeypatch.setattr(Arena, "receive", killing)
    assert collected(tmp_path / "killed", "RandomPlayer") == expected
    assert "which played it, was ended by signal 9; it begins again" in caplog.text


def test_a_battle_that_poke_env_cannot_follow_is_set_aside_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = Battle.parse_message

    def failing(battle: Battle, message: list[str]) -> None:
        if battle.battle_tag.endswith("-1") and battle.player_role == "p2" and message[1] == "turn":
            raise KeyError("gengar")
        parse(battle, message)

    monkeypatch.setattr(Battle, "parse_message", failing)
    who = [scripted("RandomPlayer")]
    collection = asyncio.run(
        collect(draw_matchups(who, 3, 0), battle_format="gen1ou", teams=load_teams("gen1ou"), out=tmp_path, max_turns=9)
    )
    assert (collection.battles, collection.files) == (3, 4)
    assert collection.set_aside == {"poke-env cannot follow it (KeyError: 'gengar')": 2}
    pair = [(scripted("RandomPlayer"), scripted("MaxBasePowerPlayer"))]
    evaluation = asyncio.run(evaluate(pair, 2, battle_format="gen1ou", teams=load_teams("gen1ou")))
    assert evaluation.set_aside == {"KeyError: 'gengar'": 1}
    assert evaluation.battles == 1


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    return folder / "run"


def table(run_dir: Path, out: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """What `evaluate` prints and writes, without what a clock says."""
    command = ["evaluate", "--players", f"{run_dir}@1", "RandomPlayer", "--opponents", f"{run_dir}@0", "DuelTrainer"]
    command += ["--sample", "--battles", "2", "--concurrency", "3", "--json", "--out", str(out), *flags]
    assert main(command) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    timed = {"seconds", "decisions_per_s"}
    rows = [*report["contestants"], *report["pairs"]]
    assert all(row.pop("latency_ms") is not None for row in rows)
    logs = {path.name: path.read_text() for path in (out / "battles").glob("*.log")}
    battles = sorted(read_rows(BattleRow, out / "battles.jsonl"), key=lambda row: row.battle)
    return {name: value for name, value in report.items() if name not in timed} | {
        "battles": [asdict(row) for row in battles],
        "logs": logs,
    }


@pytest.mark.long
def test_one_seed_gives_one_table_of_agents_that_draw_on_any_number_of_workers(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "BATTLES_PER_PROCESS", 1)  # the scripted pair plays apart, the others here meanwhile
    monkeypatch.setattr(processes, "BATTLES_PER_WORKER", 1)
    first = table(run_dir, tmp_path / "1", capsys, "--workers", "1")
    assert first["decisions"] > 0
    assert len(first["logs"]) == 8
    for workers in ("2", "4"):
        assert table(run_dir, tmp_path / workers, capsys, "--workers", workers) == first


def teams_by_battle(results: dict[str, Any]) -> dict[str, Any]:
    return {row["battle"]: row["teams"] for row in results["battles"]}


def test_an_agents_battles_of_a_killed_worker_begin_again(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = table(run_dir, tmp_path / "whole", capsys)
    settle, n_calls = Arena.settle, itertools.count()

    def killing(arena: Arena, battles: Iterable[str]) -> list[News]:
        if next(n_calls) == 9:  # one group's battles are being decided meanwhile
            os.kill(arena.process_ids[0], signal.SIGKILL)
        return settle(arena, battles)

    monkeypatch.setattr(Arena, "settle", killing)
    found = table(run_dir, tmp_path / "killed", capsys)
    assert next(n_calls) > 10
    # floats may be rounded otherwise in other batches, so that a draw may fall otherwise
    assert teams_by_battle(found) == teams_by_battle(expected)
    assert set(found["logs"]) == set(expected["logs"])
