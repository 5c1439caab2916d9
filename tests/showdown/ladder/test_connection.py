"""When a connection is sought again, and how soon."""

import asyncio
import importlib.util
import itertools
import time
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.accounts import LadderServer
from gemma_metamon.showdown.ladder.connection import Connection
from gemma_metamon.showdown.ladder.timeouts import LadderTimeouts


class Nobody:
    """Listens, and does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


async def times_of_connections(seconds: float, greeting: str, **timeouts: float) -> tuple[list[float], list[Any]]:
    """A stand-in for a server that lets us in and throws us out: the real one has no reason to."""
    met: list[float] = []

    async def throw_out(websocket: ServerConnection) -> None:
        met.append(time.monotonic())
        await websocket.send(greeting)

    async with serve(throw_out, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        where = LadderServer(name="here", websocket_url=f"ws://127.0.0.1:{port}/")
        connection = Connection(where, "Anna", None, Nobody(), LadderTimeouts(**timeouts))
        return met, await asyncio.gather(asyncio.wait_for(connection.run(), seconds), return_exceptions=True)


def test_a_server_that_throws_us_out_is_asked_ever_more_rarely() -> None:
    met, _ = asyncio.run(times_of_connections(4.0, "|updateuser| Anna|1|1|{}", first_pause_s=0.1, longest_pause_s=0.8))
    pauses = [later - earlier for earlier, later in itertools.pairwise(met)]
    # half of the pause to all of it: 0.1, 0.2, 0.4, then 0.8 s, and what connecting takes
    assert len(met) <= 4 + 4 / 0.4
    assert all(pause >= 0.4 for pause in pauses[3:])
    assert pauses[0] < 0.4


def test_a_connection_that_stays_away_is_given_up() -> None:
    async def given_up() -> None:
        async with serve(lambda websocket: websocket.send("|updateuser| Anna|1|1|{}"), "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            where = LadderServer(name="here", websocket_url=f"ws://127.0.0.1:{port}/")
            timeouts = LadderTimeouts(first_pause_s=0.05, longest_pause_s=0.1, give_up_s=0.5)
            running = asyncio.create_task(Connection(where, "Anna", None, Nobody(), timeouts).run())
            await asyncio.sleep(0.2)
        await running

    with pytest.raises(ServerError, match=r"no connection to ws://127.* for 0\.5 s: "):
        asyncio.run(asyncio.wait_for(given_up(), 20))


def test_a_server_that_lets_nobody_in_is_one_sentence() -> None:
    async def silence() -> None:
        async with serve(lambda websocket: websocket.wait_closed(), "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            where = LadderServer(name="here", websocket_url=f"ws://127.0.0.1:{port}/")
            await Connection(where, "Anna", None, Nobody(), LadderTimeouts(login_s=0.2)).run()

    with pytest.raises(ServerError, match=r"cannot be reached: it let nobody in within 0\.2 s"):
        asyncio.run(asyncio.wait_for(silence(), 20))


def test_a_proxy_that_another_package_is_needed_for_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("python_socks") is not None:
        pytest.skip("python-socks is installed")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "socks5h://127.0.0.1:9")
    where = LadderServer(name="there", websocket_url="wss://ladder.invalid/", login_url="https://login.invalid")
    with pytest.raises(ServerError, match=r"cannot be reached: .* requires python-socks"):
        asyncio.run(Connection(where, "Anna", None, Nobody(), LadderTimeouts()).run())


@pytest.mark.parametrize("frame", ["|updateuser|", ">battle-", "|updatesearch|{", "|formats|,", "\x00", ""])
def test_a_frame_that_makes_no_sense_changes_nothing(frame: str) -> None:
    met, (ended,) = asyncio.run(times_of_connections(1.0, f"|updateuser| Anna|1|1|{{}}\n{frame}", first_pause_s=0.1))
    assert len(met) > 1
    assert isinstance(ended, TimeoutError | asyncio.TimeoutError)
