"""Processes that `multiprocessing` has started, and that must not go on when the one that started them is gone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


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
