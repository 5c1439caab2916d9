"""A command that is told to end, by SIGTERM or by a terminal that goes away, ends as it does by Ctrl-C.

Left to themselves these signals end Python on the spot: a half-played evaluation would not be written down, and what
the command has started would have to find out by itself that nobody wants it any more.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gemma_metamon.errors import TerminatedError

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_came: list[int] = []  # in the block that is running


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the block the first of these signals raises TerminatedError, and further ones change nothing.

    Ctrl-C raises KeyboardInterrupt, however often. A signal that is ignored stays so (`nohup`), and so does everything
    where this is not the main thread.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = (signal.SIG_DFL, signal.default_int_handler)
    caught = {number: handler for number, handler in before.items() if handler in ours}
    for number in caught:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
        if caught:
            _came.clear()


def raise_if_ended() -> None:
    """Raises again what a signal raised in the block and was lost: Python ignores what is raised in a destructor."""
    if _came:
        raise _error(_came[-1])


def _end(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    if number == signal.SIGINT or len(_came) == 1:
        raise _error(number)


def _error(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else TerminatedError(number)
