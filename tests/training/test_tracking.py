"""Numbers reach their files whatever becomes of wandb: a bad key, a server that is not there or goes away."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

KEY = "0" * 40
LOGS = """
import logging, sys
from pathlib import Path
from gemma_metamon.training.tracking import Tracker
logging.basicConfig(level=logging.INFO)
with Tracker(Path(sys.argv[1]), "run", {}, wandb=True) as tracker:
    tracker.log(1, {"a": 1.0})
"""

KILLS_WANDB = LOGS.replace(
    "tracker.log(1, ",
    """
    import psutil
    for update in range(50):
        for process in psutil.Process().children() if update == 1 else []:
            process.kill()
            process.wait()
        tracker.log(update, """,
)

LOSES_NETWORK = LOGS.replace(
    "with Tracker",
    """
import time
from gemma_metamon.training import tracking
tracking.FINISH_TIMEOUT_S = 1.0
with Tracker""",
).replace(
    "tracker.log(1, ",
    """
    for update in range(50):
        while update == 1 and not (Path(sys.argv[1]) / "lost").exists():
            time.sleep(0.01)
        tracker.log(update, """,
)


GOES_ON = """
import json, logging, sys, time
from pathlib import Path
import wandb
from gemma_metamon.training.tracking import Tracker
logging.basicConfig(level=logging.INFO)
told, log = [], wandb.Run.log
def noted(run, row):
    told.append([run.id, row])
    log(run, row)
wandb.Run.log = noted
# ended in update 4, of which not all was told yet, it goes on after 2
for updates in ((1, 2, 3, 4), (3, 4, 5)):
    with Tracker(Path(sys.argv[1]), "run", {}, wandb=True) as tracker:
        for update in updates:
            tracker.log(update, {"a": float(update)})
            if update == 2 or 5 in updates:
                tracker.log(update, {"held_out/b": float(update)})
    time.sleep(1)  # wandb names the folder of a start by the second, and a start is longer than that elsewhere
print(json.dumps(told))
"""


@pytest.fixture
def own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'gemma-metamon[wandb]'")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def logged(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def run_alone(code: str, run_dir: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, with a wandb of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | variables
    return subprocess.run(
        [sys.executable, "-c", code, str(run_dir)], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.usefixtures("own_wandb")
@pytest.mark.parametrize(
    ("key", "server", "reason"),
    [
        ("malformed", "refuses", ""),
        (KEY, "refuses", "does not answer: [Errno 111] Connection refused"),
        (KEY, "is deaf", "does not answer"),
    ],
)
def test_wandb_that_cannot_begin_is_offline_within_seconds(
    key: str, server: str, reason: str, tmp_path: Path, deaf_port: int
) -> None:
    port = deaf_port if server == "is deaf" else 9  # nobody listens on the port that discards
    started = time.monotonic()
    done = run_alone(LOGS, tmp_path, WANDB_API_KEY=key, WANDB_BASE_URL=f"http://127.0.0.1:{port}")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 30  # a few seconds on a machine that does nothing else
    assert f"wandb is offline, because it could not begin ({reason}" in done.stderr.replace(
        f"http://127.0.0.1:{port} ", ""
    )
    assert "Traceback" not in done.stderr
    assert logged(tmp_path) == [{"update": 1, "a": 1.0}]
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.usefixtures("own_wandb")
@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("WANDB_MODE", "disabled", "its own settings disable it"),
        ("WANDB_MODE", "bogus", "its settings cannot work"),
        ("WANDB_BASE_URL", "notaurl", "its settings cannot work"),
    ],
)
def test_wandb_whose_settings_disable_or_break_it_is_told_nothing(
    variable: str, value: str, reason: str, tmp_path: Path
) -> None:
    done = run_alone(LOGS, tmp_path, **{"WANDB_API_KEY": KEY, variable: value})
    assert done.returncode == 0, done.stderr
    assert f"wandb is told nothing, because {reason}" in done.stderr
    assert "Traceback" not in done.stderr
    assert logged(tmp_path) == [{"update": 1, "a": 1.0}]
    assert not list(tmp_path.rglob("*.wandb"))


class WandbStandIn(BaseHTTPRequestHandler):
    """Answers as much as wandb asks for before it sends."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        files = json.loads(asked)["variables"].get("files", []) if self.path == "/graphql" and b"files" in asked else []
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
        bucket = {"id": "r", "name": "r", "displayName": "r", "config": "{}", "historyLineCount": 0, "project": project}
        url = f"http://127.0.0.1:{self.server.server_address[1]}/upload"
        answer = {
            "upsertBucket": {"bucket": bucket, "inserted": True},
            "viewer": {"id": "v", "entity": "e", "username": "v", "flags": "{}", "teams": {"edges": []}},
            "serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None, "features": []},
            "createRunFiles": {
                "runID": "r",
                "uploadHeaders": [],
                "files": [{"name": name, "uploadUrl": url} for name in files],
            },
        }
        content = json.dumps({"data": answer} if self.path == "/graphql" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST  # noqa: N815 as the class names them

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.mark.usefixtures("own_wandb")
def test_a_network_lost_on_the_way_stops_nothing(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), WandbStandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def lose_the_network() -> None:
        while not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").read_text():
            time.sleep(0.01)
        server.shutdown()
        server.server_close()
        (tmp_path / "lost").touch()

    loser = threading.Thread(target=lose_the_network)
    loser.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    done = run_alone(LOSES_NETWORK, tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL=url)
    loser.join()
    assert done.returncode == 0, done.stderr
    assert [line["update"] for line in logged(tmp_path)] == [*range(50)]
    assert list((tmp_path / "wandb").glob("run-*"))  # it was online
    assert "wandb has not uploaded everything" in done.stderr


@pytest.mark.usefixtures("own_wandb")
def test_a_run_that_goes_on_goes_on_in_wandb_and_tells_nothing_twice(tmp_path: Path) -> None:
    done = run_alone(GOES_ON, tmp_path, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    number = json.loads((tmp_path / "wandb_run.json").read_text())["id"]
    assert {of_run for of_run, _ in told} == {number}
    assert [row for _, row in told] == [
        *({"update": 1, "a": 1.0}, {"update": 2, "a": 2.0}, {"update": 2, "held_out/b": 2.0}),
        *({"update": 3, "a": 3.0}, {"update": 4, "a": 4.0}),
        *({"update": 3, "held_out/b": 3.0}, {"update": 4, "held_out/b": 4.0}),
        *({"update": 5, "a": 5.0}, {"update": 5, "held_out/b": 5.0}),
    ]
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{number}/*.wandb"))) == 2


@pytest.mark.usefixtures("own_wandb")
def test_a_killed_wandb_stops_nothing(tmp_path: Path) -> None:
    done = run_alone(KILLS_WANDB, tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line["update"] for line in logged(tmp_path)] == [*range(50)]
    assert done.stderr.count("wandb has failed, and is told nothing more") == 1
