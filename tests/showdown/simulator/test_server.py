import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.node import needs_node

from gemma_metamon.commands import showdown
from gemma_metamon.errors import GemmaMetamonError, MissingDependencyError, ServerError
from gemma_metamon.showdown.simulator import installation, server
from gemma_metamon.user_cache import VARIABLE, cache_folder, make_once


def eventually(claim: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own that still shares the real installation, which takes too long to make again."""
    real = installation.ensure_installed()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(server, "ensure_installed", lambda: real)
    return tmp_path


def fake_node(folder: Path, version: str) -> str:
    node = folder / "node"
    node.write_text(f"#!/bin/sh\necho {version}\n")
    node.chmod(0o755)
    return str(folder)


def test_missing_node_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"no `node` was found; install Node.js 18 or later"):
        installation.find_node()


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_old_node_is_named_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", fake_node(tmp_path, "v16.20.1"))
    with pytest.raises(
        MissingDependencyError, match=r"found Node.js v16\.20\.1, but the simulator of battles needs 18"
    ):
        installation.find_node()


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("script", "said"),
    [("#!/bin/sh\nexec sleep 60\n", "timed out after 0.1 seconds"), ("\x7fELF", "Exec format error")],
)
def test_a_node_that_cannot_say_its_version_is_one_sentence(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_node(tmp_path, "v20.0.0")
    (tmp_path / "node").write_text(script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(installation, "VERSION_TIMEOUT_S", 0.1)
    with pytest.raises(MissingDependencyError, match=rf"node --version` gave no answer \(.*{said}.*\); install Node"):
        installation.find_node()


def test_half_made_folder_is_never_seen(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("no network")

    with pytest.raises(RuntimeError, match="no network"):
        make_once(tmp_path / "thing", fail, timeout_s=5)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []

    made = make_once(tmp_path / "thing", lambda folder: (folder / "whole").touch(), timeout_s=5)
    assert [path.name for path in made.iterdir()] == ["whole"]


def test_what_a_killed_maker_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom gemma_metamon.user_cache import make_once\n"
        "def make(folder):\n"
        "    (folder / 'half').touch()\n"
        "    os.kill(os.getpid(), 9)\n"
        "make_once(Path(sys.argv[1]), make, timeout_s=30)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "thing")], check=False)
    assert [path.name for path in tmp_path.rglob("half")] == ["half"]
    make_once(tmp_path / "thing", lambda folder: (folder / "whole").touch(), timeout_s=30)
    assert {path.name for path in tmp_path.iterdir()} <= {"thing", ".thing.lock"}


def test_two_processes_make_a_folder_once(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom gemma_metamon.user_cache import make_once\n"
        "def make(folder):\n"
        "    with open(sys.argv[1] + '.count', 'a') as count: count.write('x')\n"
        "    time.sleep(0.5)\n"
        "make_once(Path(sys.argv[1]), make, timeout_s=30)\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "thing")]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "thing.count").read_text() == "x"


def test_waiting_for_another_process_has_an_end(tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".thing.lock"), pytest.raises(GemmaMetamonError, match="another process"):
        make_once(tmp_path / "thing", lambda folder: None, timeout_s=0.1)


def test_cache_folder_follows_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"


def test_failing_npm_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(installation, "find_node", lambda: "node")
    monkeypatch.setattr(installation.shutil, "which", lambda name: name)

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, stdout="", stderr="npm error code ENOTFOUND\n")

    monkeypatch.setattr(installation.subprocess, "run", run)
    with pytest.raises(ServerError, match=r"npm could not install .*ENOTFOUND; check the network"):
        installation.ensure_installed()
    assert not list(tmp_path.glob("showdown-*"))


@pytest.mark.server
@needs_node
def test_server_answers_inside_the_block_and_is_gone_after_it() -> None:
    with server.running_server() as running:
        assert server.answers(running.port)
        assert running.websocket_url == f"ws://127.0.0.1:{running.port}/showdown/websocket"
        assert f"port {running.port} is open" in running.log_path.read_text()
    assert not server.answers(running.port)


@pytest.mark.server
@needs_node
def test_server_ends_when_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), server.running_server() as running:
        raise ZeroDivisionError
    assert not server.answers(running.port)


@pytest.mark.server
@needs_node
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_server_ends_when_its_parent_is_killed() -> None:
    code = (
        "import time\nfrom gemma_metamon.showdown.simulator.server import running_server\n"
        "with running_server() as running:\n    print(running.port, flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert server.answers(port)
        parent.kill()
    assert eventually(lambda: not server.answers(port))


@pytest.mark.server
@needs_node
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_server_ends_with_its_parent_although_a_fork_holds_the_pipe() -> None:
    code = (
        "import os, time\nfrom gemma_metamon.showdown.simulator.server import running_server\n"
        "with running_server() as running:\n"
        "    child = os.fork()\n"
        "    if child: print(running.port, child, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port, child = map(int, parent.stdout.readline().split())
        parent.kill()
        assert eventually(lambda: not server.answers(port))
        os.kill(child, 9)


@pytest.mark.server
@needs_node
def test_taken_port_is_an_error_that_names_it() -> None:
    with socket.socket() as holder:
        holder.bind((server.HOST, 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} .*choose another"), server.running_server(port):
            pass


@pytest.mark.server
@needs_node
def test_port_taken_between_check_and_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_check_free", lambda port: None)
    with (
        server.running_server() as first,
        pytest.raises(ServerError, match=f"port {first.port} .*taken"),
        server.running_server(first.port),
    ):
        pass


@pytest.mark.server
@needs_node
def test_silent_server_is_an_error_after_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "answers", lambda port: False)
    with (
        pytest.raises(ServerError, match=r"did not answer .* within 0\.2 s"),
        server.running_server(ready_timeout_s=0.2),
    ):
        pass


@pytest.mark.server
@needs_node
def test_background_server_is_started_seen_and_stopped(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    def command(action: str, port: int | None = None) -> tuple[int, list[dict[str, object]]]:
        status = showdown.run(argparse.Namespace(action=action, port=port, json=True))
        return status, json.loads(capsys.readouterr().out)["servers"]

    assert command("status") == (3, [])
    status, started = command("start")
    assert status == 0
    port = int(str(started[0]["port"]))
    assert server.answers(port)
    with pytest.raises(ServerError, match=f"already running on port {port}"):
        server.start_background(port)
    assert command("status", port) == (0, started)
    assert command("stop") == (0, started)
    assert not server.answers(port)
    assert command("status") == (3, [])
    assert command("stop") == (0, [])


@pytest.mark.server
@needs_node
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_background_server_whose_start_was_killed_is_ended_by_the_next_command(own_cache: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom gemma_metamon.showdown.simulator import server\n"
        f"server.ensure_installed = lambda: Path({str(server.ensure_installed())!r})\n"
        "wait = server._wait_until_ready\n"
        "def killed(process, port, *rest):\n"
        "    wait(process, port, *rest)\n"
        "    print(port, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "server._wait_until_ready = killed\n"
        "server.start_background()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    port = int(done.stdout)
    assert server.answers(port)
    assert server.background_servers() == []
    assert eventually(lambda: not server.answers(port))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"port": 1}', '{"starting": 4194305}'])
def test_what_is_no_servers_state_is_forgotten(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "8000.json").write_text(content)
    assert server.background_servers() == []
    assert list((tmp_path / "servers").iterdir()) == []


@pytest.mark.server
@needs_node
def test_validator_accepts_and_gives_its_reasons() -> None:
    snorlax = "Snorlax\nEVs: 252 HP / 252 Atk / 252 Spe\n- Body Slam\n- {}\n- Self-Destruct\n- Rest"
    teams = [snorlax.format(move) for move in ("Earthquake", "Spore")]
    accepted, reasons = installation.validate_teams("gen1ou", teams)
    assert accepted == []
    assert any("Spore" in reason for reason in reasons)


@pytest.mark.server
@needs_node
def test_validating_for_an_unknown_format_is_an_error() -> None:
    with pytest.raises(ServerError, match="'gen1nothing'"):
        installation.validate_teams("gen1nothing", ["Tauros"])
