"""Scripted players in processes of their own: the same battles as without, and what happens when a process fails."""

import asyncio
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from support.collections import contents
from support.processes import descendants, eventually, is_running

from gemma_metamon.battle.replays import BattleFileName, find_battles
from gemma_metamon.errors import GemmaMetamonError, ServerError
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.results.schema import BattleRow
from gemma_metamon.showdown.matches import processes
from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.matches.evaluate import evaluate
from gemma_metamon.showdown.matches.recordings import Collection
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.teams import load_teams

pytestmark = pytest.mark.server

PLAYERS = ("RandomPlayer", "SimpleHeuristicsPlayer", "NoSwitchRandomPlayer", "DuelTrainer")
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


@pytest.fixture(autouse=True)
def _two_battles_are_worth_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "BATTLES_PER_PROCESS", 2)


def collected(
    folder: Path,
    *,
    battle_format: str = "gen1ou",
    teams: list[str] | None = None,
    workers: int = 2,
    concurrency: int = 4,
    on_battle: Callable[[], Any] | None = None,
) -> Collection:
    """Eight battles, four of them of two players of whom one alone is recorded."""
    drawing, strong, weak, duel = map(scripted, PLAYERS)
    matchups = [
        Matchup(player=strong, opponent=weak, battles=4, record_opponent=False),
        Matchup(player=drawing, opponent=drawing, battles=2),
        Matchup(player=drawing, opponent=duel, battles=2),
    ]
    return asyncio.run(
        collect(
            matchups,
            battle_format=battle_format,
            teams=load_teams(battle_format) if teams is None else teams,
            out=folder,
            workers=workers,
            seed=2,
            concurrency=concurrency,
            max_turns=15,
            on_battle=on_battle,
        )
    )


@pytest.mark.parametrize(("battle_format", "numbers"), [("gen1ou", (2, 4)), ("gen9ou", (2,))])
def test_one_seed_gives_byte_equal_recordings_in_any_number_of_processes(
    tmp_path: Path, battle_format: str, numbers: tuple[int, ...]
) -> None:
    first = collected(tmp_path / "1", battle_format=battle_format, workers=1)
    expected = contents(tmp_path / "1")
    assert len(expected) == 12
    random.seed(99)  # what else draws in this process changes nothing
    for workers in numbers:
        busy: list[int] = []
        collection = collected(
            tmp_path / str(workers),
            battle_format=battle_format,
            workers=workers,
            on_battle=lambda busy=busy: busy.append(len(multiprocessing.active_children())),
        )
        assert contents(tmp_path / str(workers)) == expected
        assert (collection.battles, collection.files, collection.results) == (8, 12, first.results)
        assert len(busy) == 8
        assert max(busy) == workers


def test_a_player_sits_in_either_seat_and_its_files_and_results_follow_it(tmp_path: Path) -> None:
    collection = collected(tmp_path, workers=1)
    names = [BattleFileName.parse(path.name) for path in find_battles(tmp_path, ["gen1ou"])]
    alone = {(name.player, name.opponent) for name in names if "NoSwitch" in name.opponent}
    assert alone == {("SimpleHeuristic-p1", "NoSwitchRandom-p2"), ("SimpleHeuristic-p2", "NoSwitchRandom-p1")}
    pairs = Counter[str]()
    for label, count in collection.results.items():
        pairs[label.partition(":")[0]] += count
    assert pairs == {
        "SimpleHeuristicsPlayer vs NoSwitchRandomPlayer": 4,
        "RandomPlayer vs RandomPlayer": 4,
        "RandomPlayer vs DuelTrainer": 2,
        "DuelTrainer vs RandomPlayer": 2,
    }


def test_one_seed_gives_one_table_in_any_number_of_processes(tmp_path: Path) -> None:
    a, b, c = map(scripted, PLAYERS[:3])

    def table(workers: int) -> tuple[list[Any], dict[str, str]]:
        out = tmp_path / str(workers)
        evaluation = asyncio.run(
            evaluate(
                [(a, b), (a, c), (b, c)],
                3,
                battle_format="gen1ou",
                teams=load_teams("gen1ou"),
                workers=workers,
                concurrency=4,
                out=out,
            )
        )
        assert evaluation.unfinished is None
        pairs = [asdict(pair) | {"latency_ms": None} for pair in evaluation.results().pairs]
        rows = sorted((asdict(row) for row in read_rows(BattleRow, out / "battles.jsonl")), key=lambda row: row["log"])
        return [pairs, rows], {path.name: path.read_text() for path in (out / "battles").glob("*.log")}

    first = table(1)
    assert len(first[1]) == 9
    assert table(2) == first
    assert table(4) == first


def killing(times: int) -> Callable[[], bool]:
    """Kills all processes, so many times, as soon as a battle has ended; says whether it has."""
    left = [times]

    def kill() -> bool:
        if not left[0]:
            return False
        left[0] -= 1
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        return True

    return kill


def test_battles_of_a_killed_process_begin_again_and_go_as_they_did(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collected(tmp_path / "whole", workers=1)
    kill, folder = killing(1), tmp_path / "killed"

    def kill_between_two_views() -> None:
        if kill():
            written = {BattleFileName.parse(path.name).battle_id for path in find_battles(folder, ["gen1ou"])}
            run = min(written)[:-1]
            for battle in {f"{run}{number}" for number in range(8)} - written:
                (folder / "gen1ou" / f"{battle}_Unrated_A_vs_B_11-20-2026_WIN.json.lz4").touch()
                (folder / "gen1ou" / f".{battle}_Unrated_B_vs_A_11-20-2026_LOSS.json.lz4.part").touch()

    collection = collected(folder, concurrency=2, on_battle=kill_between_two_views)
    assert contents(folder) == contents(tmp_path / "whole")
    assert (collection.battles, collection.files) == (8, 12)
    assert len(list(folder.rglob("*.json.*"))) == 12  # nothing is there twice, or half
    assert "was ended by signal 9; they begin again" in caplog.text


def test_a_process_that_is_killed_again_is_told_in_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    with pytest.raises(ServerError, match=r"was ended by signal 9, as was the one before it; .*: give fewer workers$"):
        collected(tmp_path, concurrency=2, on_battle=killing(8))
    assert not multiprocessing.active_children()


def test_a_refused_team_is_told_by_the_same_sentence_as_without_processes(tmp_path: Path) -> None:
    sentences = set()
    for workers in (1, 2):
        with pytest.raises(ServerError, match=r"^the simulator refuses battle-gen1ou-\d") as error:
            collected(tmp_path, teams=load_teams("gen9ou")[:1], workers=workers)
        words = str(error.value).split(" team is not valid for gen1ou: ")
        sentences.add(words[1])
    assert len(sentences) == 1
    assert not multiprocessing.active_children()


def test_an_error_of_who_is_told_ends_the_processes(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "somewhere")

    with pytest.raises(OSError, match="No space left on device: 'somewhere'"):
        collected(tmp_path, on_battle=full)
    assert not multiprocessing.active_children()


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_a_command_that_is_interrupted_or_killed(tmp_path: Path, number: signal.Signals) -> None:
    command = ["collect", "--format", "gen1ou", "--battles", "5000", "--players", "RandomPlayer", "--workers", "2"]

    def hear_ctrl_c() -> None:  # which what is started in the background is deaf to
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "gemma_metamon", *command, "--out", str(tmp_path)],
            stdout=log,
            stderr=log,
            preexec_fn=hear_ctrl_c,
        )
    try:
        eventually(lambda: any(tmp_path.rglob("*.json.lz4")))
        helpers = descendants(running.pid)
        assert len(helpers) >= 4  # two of Python, and a simulator of each
        os.kill(running.pid, number)
        assert running.wait(60) == (130 if number == signal.SIGINT else -9)
        eventually(lambda: not any(map(is_running, helpers)), 20)
    finally:
        running.kill()
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert (number == signal.SIGKILL) == ("gemma-metamon collect: interrupted" not in said)


SCRIPT = """
import asyncio, sys
from pathlib import Path
from gemma_metamon.errors import GemmaMetamonError, ServerError
from gemma_metamon.showdown.matches import processes
from gemma_metamon.showdown.matches.collect import collect, draw_matchups
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.teams import load_teams

processes.BATTLES_PER_PROCESS = 1
who = draw_matchups([scripted("RandomPlayer")], 2, 0)
try:
    asyncio.run(collect(who, battle_format="gen1ou", teams=load_teams("gen1ou"), out=Path(sys.argv[1]), workers=2))
except ServerError as error:
    print(error)
"""


def test_a_program_that_its_processes_begin_again_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.startswith("a process could not begin to play, see above; ")
    assert 'beneath `if __name__ == "__main__":`' in done.stdout


def test_processes_import_no_torch() -> None:
    modules = "gemma_metamon.showdown.matches.collect, gemma_metamon.showdown.matches.arena_seatings"
    code = f"import sys, {modules}; print({{'torch', 'gin'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_command_between_scripted_players_imports_no_torch(tmp_path: Path) -> None:
    command = ["collect", "--format", "gen1ou", "--battles", "1", "--players", "RandomPlayer", "--max_turns", "2"]
    code = f"import sys; from gemma_metamon.commands import main; main({[*command, '--out', str(tmp_path)]})"
    code += "; print({'torch', 'gin'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


class _TwoWordsError(GemmaMetamonError):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_an_error_that_no_other_process_can_make_again_is_heard_all_the_same() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    sender.send(_TwoWordsError("two", "words"))

    async def heard() -> Any:
        messages: asyncio.Queue[Any] = asyncio.Queue()
        await asyncio.to_thread(processes._listen, receiver, asyncio.get_running_loop(), messages)
        return await asyncio.wait_for(messages.get(), 10)

    assert "what a process that plays said cannot be read (TypeError: " in str(asyncio.run(heard()))
