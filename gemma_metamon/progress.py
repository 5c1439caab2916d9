"""Progress bars that a terminal redraws and a log file can keep.

Where the output is no terminal, a line is written every 30 seconds or every tenth of the work, whichever is later, and
one at the end; carriage returns, which would make a log of one endless line, are left out.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sized
from typing import Any, TextIO

from tqdm import tqdm

LINE_EVERY_S = 30.0
LINES = 10


def progress_bar(iterable: Iterable[Any] | None = None, **options: Any) -> "tqdm[Any]":
    """A tqdm bar on stderr, with tqdm's own options.

    Call its `set_postfix` with refresh=False: a refresh is a line of its own in a log.
    """
    if sys.stderr.isatty():
        return _Bar(iterable, **options)
    total = options.get("total") or (len(iterable) if isinstance(iterable, Sized) else 0)
    options |= {"mininterval": LINE_EVERY_S, "miniters": total / LINES, "maxinterval": float("inf")}
    return _Bar(iterable, file=_Lines(sys.stderr), **options)


class _Bar(tqdm):  # type: ignore[type-arg]  # its stubs alone take one
    """Reads a clock that nobody sets: by tqdm's own, set back, a bar stands still or has a negative rate."""

    @property
    def _time(self) -> Callable[[], float]:
        return time.monotonic

    @_time.setter
    def _time(self, clock: Callable[[], float]) -> None:
        """Where tqdm puts its own."""


class _Lines:
    """Writes each state of a bar as a line, in place of over the one before."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._last = ""

    def write(self, text: str) -> None:
        line = text.strip()
        count = line.partition(" [")[0]  # without the time, which has moved when the end is told again
        if line and count != self._last:
            self._file.write(f"{line}\n")
            self._last = count

    def flush(self) -> None:
        self._file.flush()
