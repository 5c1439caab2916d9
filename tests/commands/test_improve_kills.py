"""`gemma-metamon improve` whose processes are killed: nothing is lost, and nothing is done twice."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from support.improving import finished, improve_command
from support.node import needs_node
from support.paths import SCRIPTS
from support.processes import command_line, descendants, eventually, is_running
from support.small_agent import BATTLES

from gemma_metamon.battle.replays import BattleFileName, find_battles
from gemma_metamon.commands import _round_steps, build_parser, main
from gemma_metamon.commands._round_steps import Rounds, count_battles
from gemma_metamon.commands.improve import _begin
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.loops.steps import Step, run_command
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint, list_checkpoints
from gemma_metamon.showdown.arena.arena import Arena, News


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.server
@needs_node
def test_killed_between_steps_it_goes_on_to_the_same_end(trained: Path, tmp_path: Path) -> None:
    """After two of its ten; scripts/kill_improve.py kills at any moment."""

    def to_kill_after(out: Path) -> list[tuple[int, str]]:
        return [step for step in finished(out) if step in ((0, "evaluate"), (2, "train"))]

    out = tmp_path / "out"
    flags = ["--run_dir", str(trained), "--parsed_replay_dir", str(BATTLES)]
    command = [sys.executable, "-m", "gemma_metamon", *improve_command(out, *flags)]
    kills = 0
    while True:
        before = to_kill_after(out)
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
            while process.poll() is None and to_kill_after(out) == before:
                time.sleep(0.02)
            if process.poll() is None:
                own = descendants(process.pid)
                process.send_signal(signal.SIGKILL)
                kills += 1
            returned = process.wait(60)
        said = (tmp_path / "log").read_text()
        assert returned in (0, -signal.SIGKILL), said[-3000:]
        if returned == 0:
            break
        deadline = time.monotonic() + 20
        while any(map(is_running, own)):
            assert time.monotonic() < deadline, "a step goes on without us"
            time.sleep(0.05)
    assert kills == 2
    each = ["collect", "prepare", "train", "evaluate"]
    assert finished(out) == [(0, "begin"), (0, "evaluate"), *[(number, name) for number in (1, 2) for name in each]]
    assert list_checkpoints(out / "out") == [0, 1, 2]
    assert (Checkpoint(out / "out", 0).folder / WEIGHTS).read_bytes() == (
        Checkpoint(trained, 1).folder / WEIGHTS
    ).read_bytes()
    for number in (1, 2):
        views = find_battles(out / "battles" / f"round_{number}", ["gen1ou"])
        assert len({BattleFileName.parse(path.name).battle_id for path in views}) == 3
    results = json.loads((out / "results.json").read_text())
    met = [(pair["player"], pair["opponent"], pair["battles"]) for pair in results["pairs"]]
    assert met == [
        ("out@0", "RandomPlayer", 2),
        ("out@1", "out@0", 2),
        ("out@1", "RandomPlayer", 2),
        ("out@2", "out@0", 2),
        ("out@2", "out@1", 2),
        ("out@2", "RandomPlayer", 2),
    ]
    assert all(row["rating"] is not None for row in results["contestants"])
    assert main(["report", str(out)]) == 0  # it can be made again
    assert "Elo of the agent after each round" in (out / "report.html").read_text()
    assert (out / "rating_curve.png").stat().st_size > 1000
    stores = f"--custom_replay_dir {out}/stores/round_1 {out}/stores/round_2"
    assert stores in said
    pool = f"--players {out}/out@1 --opponents {out}/out@1 {out}/out@0 RandomPlayer"
    assert pool in said


def main_over_a_faulty_simulator(arguments: Sequence[str]) -> int:
    """The command line in a step's process, whose simulator gets a signal when it is listened to for the n-th time.

    FAULTS is "9:9,15:9": the n and the signal of each.
    """
    faults = dict(map(int, fault.split(":")) for fault in os.environ["FAULTS"].split(","))
    settle, n_calls = Arena.settle, itertools.count(1)

    def failing(arena: Arena, battles: Iterable[str]) -> list[News]:
        if (how := faults.get(next(n_calls))) is not None:
            os.kill(arena.process_ids[0], how)
        return settle(arena, battles)

    Arena.settle = failing  # type: ignore[method-assign]
    return main(arguments)


@pytest.mark.slow
@pytest.mark.server
@needs_node
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.long
def test_a_simulator_that_dies_twice_ends_a_round_in_a_sentence_and_one_that_hangs_costs_no_battle(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = build_parser().parse_args(improve_command(out, "--run_dir", str(trained), "--timeout_s", "10"))
    rounds = Rounds(args, _begin(args))
    rounds._copy_agent()
    before = descendants(os.getpid())
    run: list[str] = []

    def run_faulty(main: object, arguments: list[str], step: Step, folder: Path) -> None:
        run.append(arguments[0])
        run_command(main_over_a_faulty_simulator, arguments, step, folder)

    monkeypatch.setattr(_round_steps, "run_command", run_faulty)
    monkeypatch.setenv("FAULTS", f"9:{int(signal.SIGKILL)},15:{int(signal.SIGKILL)}")
    with pytest.raises(
        GemmaMetamonError, match=r"round 1: collect ended with 1, see above; run the same command again"
    ):
        rounds.work(Step(1, "collect"))
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "for the second time; it may be that this machine has too little memory" in said
    there = count_battles(out / "battles" / "round_1" / "gen1ou")
    assert there < 3
    monkeypatch.setenv("FAULTS", f"9:{int(signal.SIGSTOP)}")
    rounds.work(Step(1, "collect"))
    assert "said nothing for 10 seconds and was ended by signal 9; it begins again" in capfd.readouterr().err
    assert count_battles(out / "battles" / "round_1" / "gen1ou") == 3
    assert run == ["collect", "collect"]
    assert eventually(
        lambda: not [pid for pid in descendants(os.getpid()) if pid not in before and "worker.js" in command_line(pid)]
    )


@pytest.mark.slow
@pytest.mark.server
@needs_node
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(trained: Path, tmp_path: Path) -> None:
    script = SCRIPTS / "kill_improve.py"
    command = [sys.executable, str(script), "--kills", "3", "--rounds", "1", "--out", str(tmp_path / "kills")]
    done = subprocess.run([*command, "--run_dir", str(trained)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["kills"], result["complaints"]) == (3, 0)
