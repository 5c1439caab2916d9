"""A command that is told to end, by SIGTERM or by a terminal that goes away, ends as it does by Ctrl-C.

Left to themselves these signals end Python on the spot: a half-played evaluation would not be written down, and what
the command has started would have to find out by itself that nobody wants it any more. What first has something to
finish, an update of a training, notes the signal and is asked later.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from gemma_metamon.errors import ending

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
HEARD_AGAIN_AFTER_S = 20.0  # by then whatever had to be cleaned up is


@dataclass
class _Heard:
    """What has come in the block that is running; `last` by time.monotonic()."""

    first: int = 0
    last: float = -math.inf
    raised: bool = False


_heard = _Heard()
_noting = False


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the block the first of these signals raises TerminatedError, and those soon after it change nothing.

    What is raised in the middle of an import or of a finalizer may be swallowed there. So a signal is heard again after
    HEARD_AGAIN_AFTER_S, and an Exception that leaves the block after a signal, say of a module that is half imported,
    becomes the cause of what the signal raises.

    Ctrl-C raises KeyboardInterrupt, however often. A signal that is ignored stays so (`nohup`), and so does everything
    where this is not the main thread.
    """
    global _heard
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = (signal.SIG_DFL, signal.default_int_handler)
    caught = {number: handler for number, handler in before.items() if handler in ours}
    for number in caught:
        signal.signal(number, _end)
    try:
        yield
    except Exception as error:
        if caught and _heard.raised:
            raise ending(_heard.first) from error
        raise
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
        if caught:
            _heard = _Heard()


@contextmanager
def signals_noted() -> Iterator[Callable[[], int]]:
    """Within a block of `ended_by_signals`: the first signal raises nothing here, and neither do others but Ctrl-C.

    Yields what says the first one's number, 0 where none has come. Whoever is in the block ends it soon, and then calls
    `raise_ended`. A second Ctrl-C raises KeyboardInterrupt at once.
    """
    global _noting
    _noting = True
    try:
        yield lambda: _heard.first
    finally:
        _noting = False


def raise_ended(number: int) -> NoReturn:
    """Raises what this signal would have raised, were it not noted, or had it not come to another process."""
    raise ending(number)


def _end(number: int, frame: FrameType | None) -> None:
    is_first, soon = not _heard.first, time.monotonic() - _heard.last < HEARD_AGAIN_AFTER_S
    _heard.first = _heard.first or number
    if _noting and (is_first or number != signal.SIGINT):
        if is_first:
            _heard.last = time.monotonic()
            again = "; Ctrl-C again ends it at once, unsaved" if number == signal.SIGINT else ""
            os.write(2, f"\n{signal.Signals(number).name}: this update is finished and saved{again}\n".encode())
        return
    if number == signal.SIGINT or not soon:
        _heard.last, _heard.raised = time.monotonic(), True
        raise ending(number)
