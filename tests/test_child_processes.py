"""Commands end with who started them, however that ended; signals around the start of a process are late, not lost."""

import ast
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.modules import FILES, module_of
from support.node import needs_node
from support.processes import eventually, is_running

from gemma_metamon.child_processes import PARENT, signals_afterwards
from gemma_metamon.commands._ending import ended_by_signals
from gemma_metamon.errors import TerminatedError


def test_a_signal_is_heard_when_the_block_is_done() -> None:
    done = []

    def work() -> None:
        with ended_by_signals(), signals_afterwards():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(True)

    with pytest.raises(TerminatedError) as caught:
        work()
    assert done == [True]
    assert caught.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_is_ignored_stays_ignored_and_other_threads_are_left_alone() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_afterwards():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    entered = []

    def enter() -> None:
        with signals_afterwards():
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [True]


COMMAND = """
import os, subprocess, sys, time
from gemma_metamon.child_processes import end_with_parent, start_command
end_with_parent()
deaf = start_command(["node", "-e", "setInterval(() => {}, 1000)"], start_new_session=True)
pids = [deaf.pid]
if os.getpgrp() == os.getpid():
    pids.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
print(os.getpid(), *pids, flush=True)
time.sleep(600)
"""
PARENTS = """
import sys, threading, time
from gemma_metamon.child_processes import start_command
def start():
    alone = "measured" not in sys.argv[2]  # as where the package starts the two
    print(start_command([sys.executable, *sys.argv[1:]], start_new_session=alone).pid, flush=True)
thread = threading.Thread(target=start)
thread.start()
thread.join()  # that the thread which started it has ended, ends no command
time.sleep(600)
"""


MEASURED = ("-m", "gemma_metamon.release.measured", os.devnull, sys.executable)


@needs_node
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("between", [(), MEASURED], ids=["directly", "measured"])
def test_a_command_and_all_that_it_has_started_end_with_a_parent_that_is_killed(between: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", PARENTS, *between, "-c", COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for _ in range(2) for word in parent.stdout.readline().split()]
        assert len({*pids}) == 3
        assert all(map(is_running, pids))
        parent.kill()
    eventually(lambda: not any(map(is_running, pids)))


def test_a_command_whose_parent_is_gone_already_does_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-m", "gemma_metamon", "--version"]
    env = {**os.environ, PARENT: str(gone.pid)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_a_module_of_others_is_run_as_python_runs_it_and_its_commands_have_other_parents(tmp_path: Path) -> None:
    text = f"import os, sys; print(__name__, sys.argv, os.environ.get({PARENT!r}))"
    (tmp_path / "told.py").write_text(text)
    asked = [sys.executable, "-m", "gemma_metamon.child_processes", "told", "--flag", "a b"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, PARENT: str(os.getpid()), "PYTHONPATH": path}
    done = subprocess.run(asked, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"__main__ {[str(tmp_path / 'told.py'), '--flag', 'a b']} None\n"


def test_every_command_that_goes_on_for_long_is_started_in_one_place() -> None:
    places = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        types = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
        places += [
            module_of(path).removeprefix("gemma_metamon.")
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr == "Popen" and id(node) not in types
        ]
    # the server that `showdown start` leaves in the background has a lifeline of its own
    assert places == ["child_processes", "showdown.simulator.server"]
