"""Processes of a test's own: which they have started, whether they are still there, and waiting for them."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


def eventually(claim: Callable[[], Found], timeout_s: float = 120) -> Found:
    """What the claim gives as soon as it is something; fails after the time."""
    deadline = time.monotonic() + timeout_s
    while not (found := claim()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def descendants(pid: int) -> list[int]:
    """Of a process, as Linux counts them: each thread has those that it has started."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_line(pid: int) -> str:
    """Of a process, on Linux; "" of one that has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def free_port() -> int:
    """Of this machine; nobody had it a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
