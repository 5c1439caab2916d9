"""Commands that are told to end: a word, a status, and nothing left running."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from support.node import needs_node
from support.processes import descendants, eventually, is_running
from support.small_agent import BATTLES, TINY

from gemma_metamon.commands import main
from gemma_metamon.commands._ending import ended_by_signals, signals_noted
from gemma_metamon.errors import DataError, TerminatedError

MANY = ["--battles", "5000"]
COMMANDS = {
    "collect": ["collect", "--format", "gen1ou", "--players", "RandomPlayer", *MANY],
    "evaluate": ["evaluate", "--players", "RandomPlayer", "--opponents", "MaxBasePowerPlayer", *MANY],
    "ladder": ["ladder", "--username", "Anna", "--player", "RandomPlayer", "--sparring", "RandomPlayer", *MANY],
    "improve": [
        *("improve", "--model_gin_config", TINY, "--parsed_replay_dir", str(BATTLES), "--format", "gen1ou"),
        *("--rounds", "1", "--battles_per_round", "1", "--steps_per_round", "100000", "--device", "cpu"),
    ],
}
ENDS = {
    "collect": (signal.SIGINT, "gemma-metamon collect: interrupted", 130),
    "evaluate": (signal.SIGTERM, "gemma-metamon evaluate: ended by SIGTERM", 143),
    "ladder": (signal.SIGTERM, "told to end: stopping at once", 143),
    "improve": (signal.SIGTERM, "gemma-metamon improve: ended by SIGTERM", 143),
}


def hear_ctrl_c() -> None:
    """A shell starts what it puts into the background deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.server
@needs_node
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_command_that_is_told_to_end_leaves_nothing_running(tmp_path: Path) -> None:
    begun = {"collect": "0/5000", "evaluate": "0/5000", "ladder": "battle-gen1ou-", "improve": "$ gemma-metamon train"}
    running: dict[str, subprocess.Popen[bytes]] = {}
    for name, arguments in COMMANDS.items():
        command = [sys.executable, "-m", "gemma_metamon", *arguments, "--out", str(tmp_path / name)]
        with (tmp_path / f"{name}.log").open("w") as log:
            running[name] = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=hear_ctrl_c)

    waiting = set(running)

    def end_those_that_have_begun() -> bool:
        for name in sorted(waiting):
            assert running[name].poll() is None, (tmp_path / f"{name}.log").read_text()[-2000:]
            # the ladder plays on a server that `showdown start` has left, if there is one
            helped = name == "ladder" or descendants(running[name].pid)
            if helped and begun[name] in (tmp_path / f"{name}.log").read_text():
                waiting.remove(name)
                end(name, running[name])
        return not waiting

    def end(name: str, process: "subprocess.Popen[bytes]") -> None:
        helpers = descendants(process.pid)
        number, word, status = ENDS[name]
        process.send_signal(number)
        returned = process.wait(60)
        said = (tmp_path / f"{name}.log").read_text()
        assert "Traceback" not in said, said[-3000:]
        assert word in said
        assert returned == status
        eventually(lambda: not any(map(is_running, helpers)), 10)

    try:
        eventually(end_those_that_have_begun)
    finally:
        for process in running.values():
            process.kill()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_first_signal_ends_the_work_and_further_ones_do_not_disturb_its_end(name: str) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # whatever starts the tests may ignore it, as nohup does
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)
            cleaned.append(True)

    try:
        with pytest.raises(TerminatedError) as caught, ended_by_signals():
            work()
        assert cleaned == [True]
        assert caught.value.signal == number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def swallowed(number: int) -> None:
    """As torch does what is raised while it loads NumPy, and Python what is raised in a finalizer."""
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), number)
        time.sleep(5)


StatusOf: TypeAlias = Callable[[Callable[[], None]], int]


@pytest.fixture
def status_of(monkeypatch: pytest.MonkeyPatch) -> StatusOf:
    """The exit status of a command that does this, where SIGTERM is heard."""

    def run(work: Callable[[], None]) -> int:
        def run_list(args: argparse.Namespace) -> int:
            work()
            return 0

        monkeypatch.setattr("gemma_metamon.commands.configs.run_list", run_list)
        return main(["configs", "list"])

    return run


@pytest.mark.parametrize(
    ("left", "then"),
    [(AttributeError("module 'numpy' has no attribute 'ndarray'"), ""), (DataError("x is bad"), "; then x is bad")],
)
def test_what_a_signal_has_left_half_done_is_not_a_fault(
    left: Exception, then: str, status_of: StatusOf, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        swallowed(signal.SIGTERM)
        raise left

    assert status_of(work) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == f"gemma-metamon configs: ended by SIGTERM{then}\n"


def test_a_signal_that_was_swallowed_can_be_sent_again(status_of: StatusOf, monkeypatch: pytest.MonkeyPatch) -> None:
    went_on = []

    def work() -> None:
        swallowed(signal.SIGTERM)
        monkeypatch.setattr("gemma_metamon.commands._ending.HEARD_AGAIN_AFTER_S", 0)
        went_on.append(True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        went_on.append(True)

    assert status_of(work) == 128 + signal.SIGTERM
    assert went_on == [True]


def test_an_error_stays_itself_where_a_signal_was_noted_and_raised_nothing(
    status_of: StatusOf, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with signals_noted() as asked:
            os.kill(os.getpid(), signal.SIGTERM)
            while not asked():
                time.sleep(0.01)
            raise DataError("the loss is no number")

    assert status_of(work) == 1
    assert capsys.readouterr().err == "gemma-metamon configs: the loss is no number\n"


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_runs_outside_the_main_thread_too(capsys: pytest.CaptureFixture[str]) -> None:
    from threading import Thread

    thread = Thread(target=main, args=(["configs", "list"],))
    thread.start()
    thread.join()
    assert TINY in capsys.readouterr().out
