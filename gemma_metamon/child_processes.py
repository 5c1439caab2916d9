"""Processes that this one starts, and that must not go on when it is gone, however it went: SIGKILL says nothing.

`start_command` starts a command, `in_workers` and others start processes by `multiprocessing`. In either the new
process calls `end_with_parent` first. It then looks for its parent by itself, from a thread: no signal of the kernel's,
which only Linux has and which comes when the thread that started it ends, and no pipe, whose other end a process that
the parent forks may hold open. A module that calls nothing is `python -m gemma_metamon.child_processes MODULE ...`.
What is not Python looks for its parent in its own way (lifeline.js, worker.js), and is killed here besides.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait
from types import FrameType
from typing import Any, Final, TypeVar

Task = TypeVar("Task")
Done = TypeVar("Done")

PARENT: Final = "GEMMA_METAMON_PARENT"
"""Environment variable of a command: the id of the process that has started it."""
_LOOK_EVERY_S: Final = 0.5
_not_python: "weakref.WeakSet[subprocess.Popen[Any]]" = weakref.WeakSet()
"""Commands that cannot call `end_with_parent`. The others must be left the time to kill such ones of their own."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def in_workers(work: Callable[[Task], Done], tasks: Iterator[Task], workers: int) -> Iterator[Done]:
    """What comes of each task, as they are done; no more tasks are taken at a time than keep the workers busy.

    Args:
        work: a function that a new process can import.
        tasks: taken from as workers come free.
        workers: how many processes; with 1 this one does it.

    Raises:
        concurrent.futures.process.BrokenProcessPool: a worker was killed.
    """
    if workers == 1:
        yield from map(work, tasks)
        return
    executor = futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_be_a_worker)
    try:
        waiting = {executor.submit(work, task) for task in islice(tasks, workers + 1)}
        while waiting:
            finished, waiting = futures.wait(waiting, return_when=futures.FIRST_COMPLETED)
            for future in finished:
                yield future.result()
            waiting |= {executor.submit(work, task) for task in islice(tasks, len(finished))}
    finally:
        executor.shutdown(cancel_futures=True)


def _be_a_worker() -> None:
    """In a worker: ignores Ctrl-C, which the parent handles, and ends when the parent does, even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def start_command(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.Popen[Any]":
    """A command that ends with this process, however that ends: it calls `end_with_parent` first, or sees to it itself.

    Args:
        command: a program and its arguments.
        env: its environment; None is that of this process.
        options: of subprocess.Popen.
    """
    started_by = {PARENT: str(os.getpid())}
    process = subprocess.Popen(command, env={**(os.environ if env is None else env), **started_by}, **options)
    if command[0] != sys.executable:
        _not_python.add(process)
    return process


def end_with_parent() -> None:
    """From now on this process ends when its parent does, however that ends, after killing its own children.

    A command with `start_new_session` kills all processes of its group, too: others may have started some. A killed
    parent could not say that the work is off. Ends at once where the parent is gone already; does nothing in a process
    that neither `start_command` nor `multiprocessing` has started.
    """
    given = os.environ.pop(PARENT, None)  # it is the parent of this process, not of those that this one starts
    parent = multiprocessing.parent_process()
    if given is not None:
        is_gone = _look_for_process(int(given))
    elif parent is not None:
        is_gone = _look_for_sentinel(parent.sentinel)
    else:
        return
    if is_gone(0):
        os._exit(1)
    threading.Thread(target=_end_after, args=(is_gone, given is not None), daemon=True).start()


_IsGone = Callable[[float | None], bool]
"""Waits for the parent's end for so many seconds, None for ever, and says whether it has come."""


def _look_for_sentinel(sentinel: int) -> _IsGone:
    return lambda timeout_s: bool(wait([sentinel], timeout_s))


def _look_for_process(number: int) -> _IsGone:
    """Of the id of this process's parent."""
    if sys.platform == "win32":  # there the id of a parent stays what it was; a handle tells of its end
        import _winapi

        try:
            handle = _winapi.OpenProcess(_winapi.SYNCHRONIZE, False, number)
        except OSError:
            return lambda timeout_s: True
        return _look_for_sentinel(handle)

    def is_gone(timeout_s: float | None) -> bool:
        # an orphan gets another parent; there is nothing that could be waited for
        while os.getppid() == number:
            if timeout_s is not None:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True

    return is_gone


def _end_after(is_gone: _IsGone, is_command: bool) -> None:
    is_gone(None)
    try:
        for process in list(_not_python):
            process.kill()
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
    finally:
        if is_command and os.name != "nt" and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


@contextmanager
def signals_afterwards() -> Iterator[None]:
    """A signal that would raise in the block is heard at its end; does nothing outside the main thread.

    For the start of a process: one that is not told all it has to know ends with a traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    came: list[tuple[int, FrameType | None]] = []
    for number in before:
        signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, frame in came:
            before[number](number, frame)


def run_module(name: str, arguments: Sequence[str]) -> None:
    """As `python -m NAME ARGUMENTS`, of a module that knows nothing of `end_with_parent`."""
    end_with_parent()
    sys.argv[1:] = arguments
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    from gemma_metamon import child_processes  # the one that others import, which knows what they start

    child_processes.run_module(sys.argv[1], sys.argv[2:])
