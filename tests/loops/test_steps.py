"""Steps that are done once each however often the work is stopped, and one process at a time in a folder."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout
from hypothesis import given, settings
from hypothesis import strategies as st
from support.processes import descendants, eventually, is_running

from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError, TerminatedError
from gemma_metamon.loops import steps
from gemma_metamon.loops.steps import Journal, Step, carry_out

STEPS = [Step(number, name) for number in (1, 2) for name in ("collect", "prepare", "train", "evaluate")]


class StoppedError(Exception):
    pass


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["stopped before", "stopped after", "done"]), max_size=30))
def test_however_often_it_is_stopped_the_steps_finish_once_each_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str]
) -> None:
    path = tmp_path_factory.mktemp("improve") / "improve.json"
    worked: list[Step] = []

    def work(step: Step) -> None:
        fate = fates.pop(0) if fates else "done"
        if fate == "stopped before":
            raise StoppedError
        worked.append(step)
        if fate == "stopped after":  # the step's files are there, but nothing says so
            raise StoppedError

    for _ in range(100):
        journal = Journal(path, {"format": "gen1ou"})
        try:
            carry_out(STEPS, journal, work)
        except StoppedError:
            continue
        break
    assert list(Journal(path, {"format": "gen1ou"}).seconds) == STEPS
    assert list(dict.fromkeys(worked)) == STEPS


def test_more_rounds_go_on_after_the_last(tmp_path: Path) -> None:
    worked: list[Step] = []
    for rounds in (1, 2):
        carry_out([s for s in STEPS if s.round <= rounds], Journal(tmp_path / "improve.json", {}), worked.append)
    assert worked == STEPS


def sleep(arguments: Sequence[str]) -> int:
    time.sleep(600)
    return 0


def sleep_whatever_comes(arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return sleep(arguments)


@pytest.mark.parametrize("work", [sleep, sleep_whatever_comes])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), TerminatedError(signal.SIGTERM)])
def test_an_interrupt_ends_the_step_that_is_worked_on(
    work: Any, interrupt: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def end(*_: object) -> None:
        raise interrupt

    monkeypatch.setattr(steps, "STOP_TIMEOUT_S", 0.5)
    before = signal.signal(signal.SIGUSR1, end)

    def interrupt_once_it_is_worked_on() -> None:
        eventually(lambda: len(multiprocessing.active_children()) == 1)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=interrupt_once_it_is_worked_on).start()
    try:
        with pytest.raises(type(interrupt)):
            steps.run_command(work, [], STEPS[0], tmp_path)
    finally:
        signal.signal(signal.SIGUSR1, before)
    for child in multiprocessing.active_children():
        child.join(10)
    assert multiprocessing.active_children() == []


WORK = """
import sys, threading, time
from pathlib import Path
from gemma_metamon.commands import main
from gemma_metamon.loops import steps
folder = Path(sys.argv[1])
with steps.only_worker(folder):
    print("alone here", flush=True)
    sys.stdin.readline()
    steps.run_command(main, ["--version"], steps.Step(1, "train"), folder)
"""
HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize(("held_s", "waits_s", "goes_on"), [(1.0, 60, True), (600.0, 0.5, False)])
def test_it_waits_for_the_step_that_a_killed_process_has_left(
    held_s: float, waits_s: float, goes_on: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / steps.STEP_LOCK), str(held_s)]
    monkeypatch.setattr(steps, "ORPHAN_TIMEOUT_S", waits_s)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == "held\n"
        try:
            if goes_on:
                with steps.only_worker(tmp_path):
                    assert orphan.wait(10) == 0
            else:
                with pytest.raises(GemmaMetamonError, match="another process works in"), steps.only_worker(tmp_path):
                    pass
        finally:
            orphan.kill()


def test_a_lock_that_the_work_itself_waits_for_is_no_other_worker(tmp_path: Path) -> None:
    with pytest.raises(Timeout), steps.only_worker(tmp_path):
        raise Timeout("another lock")
    with steps.only_worker(tmp_path):
        pass


def test_a_step_whose_process_is_killed_before_it_begins_does_nothing(tmp_path: Path) -> None:
    held = [sys.executable, "-c", HOLD, str(tmp_path / steps.STEP_LOCK), "600"]
    command = [sys.executable, "-c", WORK, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, **pipes, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline() == "alone here\n"
        with subprocess.Popen(held, stdout=subprocess.PIPE, text=True) as rival:
            try:
                assert rival.stdout is not None
                assert rival.stdout.readline() == "held\n"
                parent.stdin.write("\n")
                parent.stdin.flush()
                next(line for line in parent.stdout if "$ gemma-metamon --version" in line)
                (step,) = eventually(lambda: descendants(parent.pid)[-1:])  # it waits for the rival's lock
                parent.kill()
            finally:
                rival.kill()
        said = parent.stdout.read()
    eventually(lambda: not is_running(step))
    assert "gemma-metamon 0" not in said


def test_the_first_step_that_was_stopped_is_not_gone_on_with_under_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "improve.json"

    def stop(step: Step) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        carry_out(STEPS, Journal(path, {"format": "gen1ou"}), stop)
    with pytest.raises(ConfigError, match="was begun with --format gen1ou, and now it is gen9ou"):
        Journal(path, {"format": "gen9ou"})


def test_work_goes_on_under_flags_that_came_later(tmp_path: Path) -> None:
    path = tmp_path / "improve.json"
    Journal(path, {"format": "gen1ou"}).finish(STEPS[0], 1.0)
    assert list(Journal(path, {"format": "gen1ou", "parent_battles": 1000}).seconds) == STEPS[:1]


def test_a_changed_setting_is_refused_with_both_values(tmp_path: Path) -> None:
    path = tmp_path / "improve.json"
    Journal(path, {"format": "gen1ou", "opponents": ["A", "B"]}).finish(STEPS[0], 1.0)
    with pytest.raises(ConfigError, match=r"was begun with --opponents A B, and now it is A; give the same again"):
        Journal(path, {"format": "gen1ou", "opponents": ["A"]})


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "improve.json"
    path.write_text('{"settings": {}, "finished": [{"round": 1}]}')
    with pytest.raises(DataError, match=r"improve\.json is damaged \(finished\[0\]\.step is missing\); begin again"):
        Journal(path, {})
