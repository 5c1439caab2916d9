"""A service on an address: from its first request until it is told to end, when what was asked is still answered."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn

from gemma_metamon.errors import ConfigError
from gemma_metamon.serving.app import Service, build_app
from gemma_metamon.serving.connections import BACKLOG, connection_class

logger = logging.getLogger(__name__)
PATIENCE_S: Final = 30
"""So long may what is being answered take when the service is to end."""
_SIGNALS: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class _Server(uvicorn.Server):
    """uvicorn's, which leaves the signals to `serve`: its own handlers would end the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True)
class Address:
    """Where a service is to be: a port of 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 0


@contextmanager
def listening_at(address: Address) -> Iterator[socket.socket]:
    """A socket that listens there at once. Raises ConfigError for an address that cannot be used."""
    with contextlib.closing(_listen(address)) as listening:
        yield listening


def serve(service: Service, listening: socket.socket, on_start: Callable[[str], None]) -> None:
    """Serves until a signal ends it; a second one does not wait for what is being answered.

    Args:
        service: what is served.
        listening: of `listening_at`.
        on_start: is told the URL.
    """
    server = _server(service)

    def end(number: int) -> None:
        logger.info("%s: answering what has been asked, then ending", signal.Signals(number).name)
        server.force_exit = server.should_exit
        service.is_ready, server.should_exit = False, True

    async def run() -> None:
        loop = asyncio.get_running_loop()
        caught = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in caught:
            loop.add_signal_handler(number, end, number)
        on_start(_url(listening))
        try:
            await server.serve([listening])
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
            service.battles.close()

    asyncio.run(run())


@contextmanager
def serving(service: Service, address: Address | None = None) -> Iterator[str]:
    """The URL of a service that runs in a thread of its own as long as the block. Raises as `listening_at`."""
    server = _server(service)
    with listening_at(address or Address()) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), name="serving", daemon=True)
        thread.start()
        try:
            yield _url(listening)
        finally:
            server.should_exit = True
            thread.join()
            service.battles.close()


def _server(service: Service) -> uvicorn.Server:
    proxy = service.gate.limits.trusted_proxy
    config = uvicorn.Config(
        build_app(service),
        proxy_headers=proxy is not None,  # uvicorn's own default believes all of this machine
        forwarded_allow_ips=proxy,
        log_level="warning",
        access_log=False,
        log_config=None,
        lifespan="off",
        http=connection_class(service.gate.limits),
        ws="none",
        backlog=BACKLOG,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=PATIENCE_S,
    )
    return _Server(config)


def _listen(address: Address) -> socket.socket:
    """Listens at once, so that nobody who is told the URL is turned away."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(place)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:  # the second of what no name of a machine can be
        said = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"--host {address.host} --port {address.port} cannot be used ({said}); name another one"
        ) from error
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
