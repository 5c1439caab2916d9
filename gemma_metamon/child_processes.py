"""Processes that `multiprocessing` has started, and that must not go on when the one that started them is gone."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


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
