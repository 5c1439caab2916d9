"""Processes that `multiprocessing` has started, and that must not go on when the one that started them is gone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait
from types import FrameType
from typing import TypeVar

Task = TypeVar("Task")
Done = TypeVar("Done")

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


def end_with_parent() -> None:
    """From now on this process ends when its parent does, however that ends, after killing its own children.

    A killed parent could not say that the work is off. Ends at once where the parent is gone already; does nothing in
    a process that has no parent of `multiprocessing`'s.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if wait([parent.sentinel], 0):
        os._exit(1)
    threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    try:
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
    finally:
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
