"""Connections to a service: each must say what it asks within a time, and there are so many and no more.

uvicorn's timer of a connection begins after its first answer, and every byte stops it; its `limit_concurrency` answers
with 503 where there are too many, and closes none. But each takes one of the files that a process may have open.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from gemma_metamon.serving.limits import Limits, who

BACKLOG: Final = 128
"""Connections that may come at once, beside those that there are."""
_OTHER_FILES: Final = 64
"""That the process has open beside its connections."""
_FEWEST: Final = 16


class Connection(H11Protocol):
    """A connection that is closed where it takes too long to ask, or to take its answer.

    Attributes:
        limits: of the service.
        most: connections in all; an address has half of them.
    """

    limits: Limits
    most: int
    _timer: asyncio.TimerHandle | None = None
    _waits_since = 0.0
    _address = ""

    @property
    def is_answered(self) -> bool:
        """Whether a request of its own is being read or answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Where there are too many, closes the one that has asked for nothing the longest, or else this one."""
        super().connection_made(transport)
        self._waits_since = time.monotonic()
        self._address = who(self.client[0] if self.client else "")
        others = [
            each
            for each in self.connections
            if isinstance(each, Connection) and each is not self and not each.transport.is_closing()
        ]
        own = [each for each in others if each._address == self._address]
        if not self.limits.trusts(self._address) and len(own) >= self.most // 2:
            has_room = _close_one(own)
        else:
            has_room = len(others) < self.most or _close_one(others)
        if has_room:
            self._allow(self.limits.head_s)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Reads it. While it is no whole request, the time that there is for one goes on."""
        super().data_received(data)
        if self.is_answered and not self.flow.write_paused:
            self._stop_timer()
        elif self._timer is None:
            self._allow(self.limits.head_s)

    def on_response_complete(self) -> None:
        """From now to the next byte uvicorn's timer goes; an answer that is the last one must be taken."""
        self._waits_since = time.monotonic()
        super().on_response_complete()
        if self.transport.is_closing():
            self._allow(self.limits.body_s)
        elif not self.is_answered and self.conn.trailing_data[0]:  # the beginning of another request
            self._allow(self.limits.head_s)

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn's, which waits until all that it has written was taken."""
        super().timeout_keep_alive_handler()
        self._allow(self.limits.body_s)

    def pause_writing(self) -> None:
        """The answer is not taken."""
        super().pause_writing()
        self._allow(self.limits.body_s)

    def resume_writing(self) -> None:
        """It is."""
        super().resume_writing()
        self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._stop_timer()
        super().connection_lost(exc)

    def _allow(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _close_one(connections: Iterable[Connection]) -> bool:
    """Closes the one that has waited longest; whether any waits."""
    waiting = [each for each in connections if not each.is_answered]
    if waiting:
        min(waiting, key=lambda each: each._waits_since).transport.abort()
    return bool(waiting)


def connection_class(limits: Limits) -> type[Connection]:
    """The protocol of a service's connections, for uvicorn: never more than the process may have files."""

    class OwnConnection(Connection):
        pass

    OwnConnection.limits, OwnConnection.most = limits, min(limits.connections, _open_files() - BACKLOG - _OTHER_FILES)
    OwnConnection.most = max(OwnConnection.most, min(_FEWEST, limits.connections))
    return OwnConnection


def _open_files() -> int:
    """How many the process may have open."""
    try:
        import resource
    except ImportError:  # Windows has no bound worth counting
        return 2**20
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**20 if soft == resource.RLIM_INFINITY else soft
