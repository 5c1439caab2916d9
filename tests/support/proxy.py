"""A websocket proxy that does to a connection what a bad network does, and worse: for tests of ladder play."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed


@dataclass
class Faults:
    """Probabilities per message, in either direction; `delay_s` is the longest wait before a message goes on.

    Of `lose_first` the first message that contains each is lost, even among those that are spared.
    """

    cut: float = 0.0
    delay_s: float = 0.0
    garble: float = 0.0
    lose: float = 0.0
    lose_first: list[str] = field(default_factory=list)


class Proxy:
    """Between clients and a server: `async with Proxy(server_url) as proxy`, and connect to `proxy.url`.

    Faults begin after the first `spared` messages of a connection, so that a client can log in; they can be changed at
    any time. What was done is counted in `done`.
    """

    def __init__(self, server_url: str, faults: Faults | None = None, *, seed: int = 0, spared: int = 12) -> None:
        self.server_url = server_url
        self.faults = faults or Faults()
        self.done = {"cut": 0, "delay": 0, "garble": 0, "lose": 0, "refused": 0}
        self.connections: set[ServerConnection] = set()
        self._random = random.Random(seed)
        self._spared = spared
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}/showdown/websocket"

    async def __aenter__(self) -> "Proxy":
        self._server = await serve(self._serve, "127.0.0.1", 0, max_size=None, ping_interval=None, close_timeout=0.2)
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self._server is not None
        self.cut_all()
        self._server.close()
        await self._server.wait_closed()

    def cut_all(self) -> None:
        for client in list(self.connections):
            client.transport.abort()

    async def _serve(self, client: ServerConnection) -> None:
        try:
            server = await connect(
                self.server_url, open_timeout=60, max_size=None, ping_interval=None, proxy=None, close_timeout=0.2
            )
        except OSError:  # the server is down
            self.done["refused"] += 1
            client.transport.abort()
            return
        self.connections.add(client)
        ways = [asyncio.create_task(self._pass_on(*way)) for way in ((client, server), (server, client))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        self.connections.discard(client)
        client.transport.abort()
        server.transport.abort()

    async def _pass_on(
        self, source: ServerConnection | ClientConnection, target: ServerConnection | ClientConnection
    ) -> None:
        passed = 0
        try:
            async for message in source:
                passed += 1
                if self._is_to_be_lost(str(message)):
                    continue
                text = str(message) if passed <= self._spared else await self._harm(str(message))
                if text is not None:
                    await target.send(text)
        except ConnectionClosed:
            return

    def _is_to_be_lost(self, message: str) -> bool:
        for part in self.faults.lose_first:
            if part in message:
                self.faults.lose_first.remove(part)
                self.done["lose"] += 1
                return True
        return False

    async def _harm(self, message: str) -> str | None:
        """What comes out at the other end; None: nothing. Raises ConnectionClosed where the line is cut."""
        faults, dice = self.faults, self._random
        if dice.random() < faults.cut:
            self.done["cut"] += 1
            raise ConnectionClosed(None, None)
        if faults.delay_s and dice.random() < 0.1:
            self.done["delay"] += 1
            await asyncio.sleep(dice.uniform(0, faults.delay_s))
        if dice.random() < faults.lose:
            self.done["lose"] += 1
            return None
        if dice.random() < faults.garble:
            self.done["garble"] += 1
            chars = list(message)
            for _ in range(dice.randint(1, 5)):
                chars[dice.randrange(len(chars))] = dice.choice('|>{}[]"\n,:aZ09é\x00')
            return "".join(chars)
        return message
