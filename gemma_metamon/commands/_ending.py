"""A command that is told to end, by SIGTERM or by a terminal that goes away, ends as it does by Ctrl-C.

Left to themselves these signals end Python on the spot: a half-played evaluation would not be written down, and what
the command has started would have to find out by itself that nobody wants it any more.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class TerminatedError(KeyboardInterrupt):
    """As Ctrl-C's, which asyncio and everybody else lets through. `signal` says which signal it was."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the block the first of these signals raises TerminatedError, and further ones change nothing.

    A signal that is ignored stays so (`nohup`), and so does everything where this is not the main thread.
    """
    ended = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        if not ended:
            ended = True
            raise TerminatedError(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = {number: handler for number, handler in before.items() if handler == signal.SIG_DFL}
    for number in caught:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
