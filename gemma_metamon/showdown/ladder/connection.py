"""A WebSocket connection to a Showdown server that logs in, and reconnects when it is cut.

poke-env's own client ends with its connection, and logs what proves the name; this one does neither.
"""

import asyncio
import logging
import random
import time
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.accounts import LadderServer, LoginRefusedError, Secret, prove_name, to_id
from gemma_metamon.showdown.ladder.timeouts import LadderTimeouts

logger = logging.getLogger(__name__)
# websockets logs every frame at DEBUG, the one with the login server's assertion, too
_SILENT = logging.getLogger(f"{__name__}.frames")
_SILENT.setLevel(logging.CRITICAL + 1)
# a long battle's whole log is one message
MAX_MESSAGE_BYTES = 2**25


class Listener(Protocol):
    """Receives a connection's messages. If one of these raises, the message is skipped; a ServerError ends the run."""

    def on_login(self, username: str) -> None:
        """We are logged in, under the name as the server writes it."""

    def on_cut(self) -> None:
        """The connection is lost, and will be made again."""

    def on_line(self, line: str) -> None:
        """A message that belongs to no room."""

    def on_room(self, room: str, lines: list[str]) -> None:
        """The messages of a room, which the server sent together."""


class Connection:
    """One user's connection to one server, for as long as `run` runs.

    Args:
        server: to connect to.
        username: to log in with.
        password: None where names need none.
        listener: receives the messages.
        timeouts: for connecting and logging in, and how long to try.
    """

    def __init__(
        self, server: LadderServer, username: str, password: Secret | None, listener: Listener, timeouts: LadderTimeouts
    ) -> None:
        self.server = server
        self.username = username
        self.logged_in = False
        self.cuts = 0
        self._password = password
        self._listener = listener
        self._timeouts = timeouts
        self._websocket: ClientConnection | None = None
        self._sending = asyncio.Lock()
        self._sent_at = 0.0
        self._ever_logged_in = False
        self._login: asyncio.Task[None] | None = None
        self._refused: ServerError | None = None
        self._late = False

    async def run(self) -> None:
        """Connects, and connects again whenever the connection is lost, until this is cancelled.

        Raises ServerError where the first attempt fails, where the name or the password is refused, or where there has
        been no connection for `give_up_s`.
        """
        pause_s = self._timeouts.first_pause_s
        last_up = time.monotonic()
        while True:
            began = time.monotonic()
            trouble = await self._connect_once()
            if self.logged_in:
                self.cuts += 1
                last_up, self.logged_in = time.monotonic(), False
                if last_up - began > self._timeouts.longest_pause_s:  # else we may be thrown out every time
                    pause_s = self._timeouts.first_pause_s
                self._listener.on_cut()
            if self._refused is not None and (not self._ever_logged_in or isinstance(self._refused, LoginRefusedError)):
                raise self._refused
            if not self._ever_logged_in:
                raise ServerError(f"the server {self.server.websocket_url} cannot be reached: {trouble}")
            if time.monotonic() - last_up > self._timeouts.give_up_s:
                raise ServerError(
                    f"no connection to {self.server.websocket_url} for {self._timeouts.give_up_s:g} s: {trouble}"
                )
            logger.info("the connection is gone (%s); trying again in %.1f s", trouble, pause_s)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # or all who lost it come back in the same moment
            pause_s = min(2 * pause_s, self._timeouts.longest_pause_s)

    async def send(self, message: str, room: str = "") -> bool:
        """Sends a message, not sooner than the server allows. Returns False, and drops it, without a connection."""
        async with self._sending:
            await asyncio.sleep(max(0.0, self._sent_at + self.server.message_gap_s - time.monotonic()))
            if self._websocket is None:
                return False
            try:
                await self._websocket.send(f"{room}|{message}")
            except ConnectionClosed:
                return False
            finally:
                self._sent_at = time.monotonic()
        return True

    async def _connect_once(self) -> str:
        """Connects and listens until the end; returns what ended it."""
        self._refused, self._late = None, False
        try:
            async with connect(
                self.server.websocket_url,
                open_timeout=self._timeouts.connect_s,
                ping_interval=self._timeouts.ping_s,
                ping_timeout=self._timeouts.ping_s,
                close_timeout=1,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=None,
                logger=_SILENT,
                # a proxy that the environment names is for servers elsewhere
                proxy=True if self.server.login_url else None,
            ) as websocket:
                self._websocket = websocket
                late = asyncio.get_running_loop().call_later(self._timeouts.login_s, self._check_login, websocket)
                try:
                    async for message in websocket:
                        self._receive(message if isinstance(message, str) else message.decode("utf-8", "replace"))
                finally:
                    late.cancel()
                return f"closed by the server, {websocket.close_code}"
        except (OSError, WebSocketException, ValueError, ImportError) as error:  # the last: of a SOCKS proxy
            if self._late:
                return f"it let nobody in within {self._timeouts.login_s:g} s"
            return str(error) or type(error).__name__
        finally:
            self._websocket = None
            if self._login is not None:
                self._login.cancel()

    def _check_login(self, websocket: ClientConnection) -> None:
        if not self.logged_in:
            self._late = True
            websocket.transport.abort()

    def _receive(self, message: str) -> None:
        try:
            if message.startswith(">"):
                room, *lines = message[1:].split("\n")
                self._listener.on_room(room, lines)
            else:
                for line in message.split("\n"):
                    self._read(line)
        except ServerError:
            raise
        except Exception as error:  # noqa: BLE001 a message that was damaged on its way can break any reader
            logger.info("a message could not be read (%s: %s)", type(error).__name__, error)

    def _read(self, line: str) -> None:
        kind, _, rest = line[1:].partition("|")
        if kind == "challstr":
            self._login = asyncio.ensure_future(self._log_in(rest))
        elif kind == "updateuser":
            name, named = rest.split("|")[:2]
            name = name[1:].split("@")[0]  # the user's rank stands before it, the status after it
            if named == "1" and to_id(name) == to_id(self.username) and not self.logged_in:
                self.logged_in = self._ever_logged_in = True
                self._listener.on_login(name)
        elif kind == "nametaken":
            reason = rest.partition("|")[2] or rest
            needs_password = "" if self._password else ", or give its password"
            self._refuse(
                ServerError(
                    f"{self.server.name} refused the name {self.username!r}: {reason.rstrip('.')}; choose another "
                    f"--username{needs_password}"
                )
            )
        else:
            self._listener.on_line(line)

    def _refuse(self, error: ServerError) -> None:
        self._refused = error
        if self._websocket is not None:
            self._websocket.transport.abort()

    async def _log_in(self, challstr: str) -> None:
        assertion = ""
        if self._password is not None and self.server.login_url is not None:
            try:
                assertion = await asyncio.to_thread(
                    prove_name, self.server.login_url, self.username, self._password, challstr
                )
            except ServerError as error:
                self._refuse(error)
                return
        await self.send(f"/trn {self.username},0,{assertion}")
