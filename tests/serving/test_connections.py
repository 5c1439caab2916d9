"""Connections that say nothing are closed, and there are never too many of them, over real sockets."""

import http.client
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")

from support.processes import eventually
from support.served import LOG, REQUEST, ask, policy_of, served

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def connected(url: str, *said: bytes, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120, source_address=(source, 0)) as connection:
        for each in said:
            connection.sendall(each)
        yield connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the service has closed it; what it answered is read before."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def test_who_does_not_say_what_it_asks_is_closed(run_dir: Path) -> None:
    with served(policy_of(run_dir), head_s=0.2) as (url, _), ExitStack() as stack:
        for said in (
            [],
            [b"GET /hea"],
            [HEALTH],  # without the end of its headers
            [HEALTH + b"\r\n" + HEALTH],  # nor those of a second one
            [HEALTH + b"Content-Length: 100\r\n\r\n", b"x"],  # answered, and then?
        ):
            connection = stack.enter_context(connected(url, *said))
            if said and said[-1] == b"x":
                assert b"200 OK" in connection.recv(4096)
                connection.sendall(b"x")  # which stops uvicorn's own timer
            eventually(lambda connection=connection: is_closed(connection))


def test_who_has_asked_is_waited_for(run_dir: Path) -> None:
    policy = policy_of(run_dir)
    policy.gather_s = 0.5
    with served(policy, head_s=0.2) as (url, _):
        assert ask(f"{url}/act", {"battle": "battle-gen1ou-1", "log": LOG, "request": REQUEST})[0] == 200
        with connected(url, HEALTH + b"\r\n") as connection:
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert b'"status":"ok"' in answer.read()
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):  # it stays open for the next request
                connection.recv(4096)


def test_silent_connections_make_room_for_others(run_dir: Path) -> None:
    with served(policy_of(run_dir), connections=8) as (url, _), ExitStack() as stack:
        silent = [stack.enter_context(connected(url)) for _ in range(30)]
        for _ in range(3):
            assert ask(f"{url}/health")[0] == 200
        eventually(lambda: sum(map(is_closed, silent)) >= 26)
        assert all(map(is_closed, silent[:20]))  # those that waited longest


addresses = pytest.mark.skipif(sys.platform != "linux", reason="this machine has several addresses on Linux alone")


@addresses
def test_an_address_takes_half_of_the_connections_and_leaves_the_others_theirs(run_dir: Path) -> None:
    with served(policy_of(run_dir), connections=8) as (url, _), ExitStack() as stack:
        other = stack.enter_context(connected(url, source="127.0.0.3"))
        many = [stack.enter_context(connected(url, source="127.0.0.2")) for _ in range(6)]
        eventually(lambda: all(map(is_closed, many[:2])))
        assert not any(map(is_closed, [other, *many[2:]]))


@addresses
def test_a_proxy_that_is_trusted_has_the_connections_of_all_who_come_through_it(run_dir: Path) -> None:
    with served(policy_of(run_dir), connections=8, trusted_proxy="127.0.0.2") as (url, _), ExitStack() as stack:
        many = [stack.enter_context(connected(url, source="127.0.0.2")) for _ in range(9)]
        eventually(lambda: is_closed(many[0]))
        assert not any(map(is_closed, many[1:]))


def test_who_does_not_take_its_answers_is_closed(run_dir: Path) -> None:
    asked = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100

    def is_cut(connection: socket.socket) -> bool:
        try:
            while True:
                connection.send(asked)
        except BlockingIOError:  # nobody reads it, because nobody reads the answers
            return False
        except ConnectionError:
            return True

    with served(policy_of(run_dir), rate=1e6, body_s=0.5) as (url, _), connected(url) as connection:
        connection.setblocking(False)
        eventually(lambda: is_cut(connection))
