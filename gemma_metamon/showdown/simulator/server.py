"""A real Pokémon Showdown server on this machine: started, waited for, and ended with whoever needs it.

`running_server()` is for one block of code: its own server, gone when the block or this process ends, however it ends.
`start_background()` and `stop_background()` are for the command line: the server outlives the command.
Bound to 127.0.0.1 and without rate limits. The simulator's dice are its own: battles are not repeatable.
"""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.child_processes import start_command
from gemma_metamon.errors import DataError, MissingFileError, ServerError
from gemma_metamon.showdown.accounts import PASSWORD_VARIABLE
from gemma_metamon.showdown.simulator.installation import ensure_installed, find_node
from gemma_metamon.strict_json import read_json_object
from gemma_metamon.user_cache import cache_folder

HOST = "127.0.0.1"
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
KEPT_LOGS = 20
_POLL_S = 0.05
# Background servers that this very process started: Python wants to know how its children ended.
_children: dict[int, "subprocess.Popen[bytes]"] = {}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers. `log_path` is the file that holds what it printed."""

    port: int
    pid: int
    log_path: Path

    @property
    def websocket_url(self) -> str:
        """The address that players connect to."""
        return f"ws://{HOST}:{self.port}/showdown/websocket"


@contextmanager
def running_server(port: int | None = None, *, ready_timeout_s: float = READY_TIMEOUT_S) -> Iterator[Server]:
    """A server of one's own for the length of the block, on a free port unless one is given.

    Raises MissingDependencyError without Node.js, ServerError where the port is taken or the server does not answer
    within ready_timeout_s (with the end of its log).
    """
    process, server = _start("stdin", port, ready_timeout_s)
    try:
        yield server
    finally:
        _end(process)


def start_background(port: int | None = None) -> Server:
    """A server that keeps running after this process, until `stop_background`. Raises as `running_server`."""
    chosen = _free_port() if port is None else port
    state = _state_path(chosen)
    if port is not None and state.exists() and answers(port):
        raise ServerError(f"a server started here is already running on port {port}; use it, or stop it first")
    _write_state(state, {"starting": os.getpid()})  # the server ends when this file is gone
    try:
        process, server = _start(str(state), chosen, READY_TIMEOUT_S)
        _children[server.pid] = process
        _write_state(state, {**asdict(server), "log_path": str(server.log_path)})
    except BaseException:
        state.unlink(missing_ok=True)
        raise
    return server


def background_servers() -> list[Server]:
    """The servers that `start_background` left running and that answer.

    Forgets those that died, and ends those whose start was cut off with the process that started them.
    """
    servers = []
    for path in sorted(_state_path(0).parent.glob("*.json")):
        state = _read_state(path)
        if "starting" in state and _is_running(state["starting"]):
            continue
        server = _server_of(state)
        if server is not None and answers(server.port):
            servers.append(server)
        else:
            path.unlink(missing_ok=True)
    return servers


def _write_state(path: Path, state: dict[str, Any]) -> None:
    with written_whole(path) as staged:
        staged.write_text(json.dumps(state), encoding="utf-8")


def _read_state(path: Path) -> dict[str, Any]:
    """Empty of a file that is gone or damaged: nobody holds that server any more."""
    try:
        return read_json_object(path)
    except (MissingFileError, DataError):
        return {}


def _server_of(state: dict[str, Any]) -> Server | None:
    port, pid, log_path = (state.get(name) for name in ("port", "pid", "log_path"))
    if type(port) is not int or type(pid) is not int or not isinstance(log_path, str):
        return None
    return Server(port=port, pid=pid, log_path=Path(log_path))


def _is_running(pid: object) -> bool:
    if type(pid) is not int or not 0 < pid < 2**31:  # of a damaged file
        return False
    if os.name == "nt":  # there, asking would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def stop_background(port: int | None = None) -> list[Server]:
    """Ends the background server of a port, or all; returns those that ended. Raises ServerError if one does not."""
    stopped = [server for server in background_servers() if port in (None, server.port)]
    for server in stopped:
        _state_path(server.port).unlink(missing_ok=True)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for server in stopped:
        while answers(server.port):
            if time.monotonic() > deadline:
                raise ServerError(
                    f"the server on port {server.port} (process {server.pid}) did not stop in {STOP_TIMEOUT_S:.0f} s"
                )
            time.sleep(_POLL_S)
        child = _children.pop(server.pid, None)
        if child is not None:
            child.wait(STOP_TIMEOUT_S)
    return stopped


def answers(port: int) -> bool:
    """Whether a Showdown server answers on this port of this machine."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/showdown/info")
        response = connection.getresponse()
        return response.status == 200 and b'"websocket"' in response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _start(lifeline: str, port: int | None, ready_timeout_s: float) -> tuple["subprocess.Popen[bytes]", Server]:
    package = ensure_installed()
    chosen = _free_port() if port is None else port
    if port is not None:
        _check_free(port)
    log_path = _new_log(chosen)
    command = [find_node(), "--require", "./lifeline.js", "pokemon-showdown", "start"]
    with log_path.open("wb") as log:
        # one in the background outlives this process, and those that started it
        start = start_command if lifeline == "stdin" else subprocess.Popen
        process = start(
            [*command, "--skip-build", "--no-security", str(chosen)],
            cwd=package,
            stdin=subprocess.PIPE if lifeline == "stdin" else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(lifeline),
            start_new_session=True,  # an interrupt in the terminal must reach Python alone, which then ends the server
        )
    try:
        _wait_until_ready(process, chosen, log_path, ready_timeout_s)
    except BaseException:
        _end(process)
        raise
    return process, Server(port=chosen, pid=process.pid, log_path=log_path)


def _environment(lifeline: str) -> dict[str, str]:
    """Ours, but for the password, which is nobody's business but the login server's."""
    inherited = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
    return {**inherited, "GEMMA_METAMON_LIFELINE": lifeline}


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log_path: Path, ready_timeout_s: float) -> None:
    deadline = time.monotonic() + ready_timeout_s
    while True:
        log = log_path.read_text(encoding="utf-8", errors="replace")
        ended = process.poll()
        # the server survives a taken port, and whoever holds the port may well answer: only the log tells them apart
        if "EADDRINUSE" in log:
            raise ServerError(f"port {port} of this machine is taken; choose another, or none for a free one")
        if ended is not None:
            raise ServerError(f"the battle server ended with {ended} before it answered: {_tail(log)}")
        if f"gemma_metamon: port {port} is open" in log and answers(port):
            return
        if time.monotonic() > deadline:
            raise ServerError(
                f"the battle server did not answer on port {port} within {ready_timeout_s:g} s: {_tail(log)}"
            )
        time.sleep(_POLL_S)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a server of ours: its lifeline first, then by signal if it does not listen."""
    if process.stdin is not None:
        process.stdin.close()
    else:
        process.terminate()
    for harder in (process.terminate, process.kill):
        try:
            process.wait(STOP_TIMEOUT_S)
            return
        except subprocess.TimeoutExpired:
            harder()
    process.wait(STOP_TIMEOUT_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _check_free(port: int) -> None:
    if not 0 < port < 65536:
        raise ServerError(f"port {port} is outside 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a closed one may be reused
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ServerError(
                f"port {port} of this machine cannot be used ({error.strerror}); choose another, or none for a free one"
            ) from error


def _state_path(port: int) -> Path:
    return cache_folder() / "servers" / f"{port}.json"


def _new_log(port: int) -> Path:
    """A log file of its own per start; the oldest ones go."""
    folder = cache_folder() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    by_age = sorted(folder.glob("server-*.log"), key=lambda path: path.name)
    for path in by_age[: -KEPT_LOGS + 1]:
        path.unlink(missing_ok=True)
    return folder / f"server-{time.strftime('%Y%m%d-%H%M%S')}-{port}.log"


def _tail(log: str) -> str:
    return " / ".join(log.strip().splitlines()[-5:]) or "its log is empty"
