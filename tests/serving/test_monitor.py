"""A service looked at from outside: what is seen, what is made of it, and to whom its token goes."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")

from support.pages import loads
from support.processes import free_port
from support.served import LOG, REQUEST, ask, policy_of, served

from gemma_metamon.commands import main
from gemma_metamon.serving.metrics import LONGEST_S, Metrics
from gemma_metamon.serving.monitor import (
    Figures,
    Look,
    Monitor,
    Thresholds,
    _read,
    figures,
    finite_ms,
    percentile_ms,
    problems,
)

TOKEN = "0123456789abcdef-token"


@contextmanager
def pointing_to(elsewhere: str, status: int) -> Iterator[str]:
    """A server that redirects whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", elsewhere)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_monitor_does_not_carry_its_token_to_where_a_service_points(status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        elsewhere = f"http://127.0.0.1:{other.getsockname()[1]}/\x1b[2J"
        with pointing_to(elsewhere, status) as url:
            fault = Monitor(url, TOKEN, timeout_s=5).look().fault
        with pytest.raises(BlockingIOError):  # nobody has come
            other.accept()
    told = elsewhere.replace("\x1b", r"\x1b")
    assert fault == f"/health points to {told}, which is not followed; give its own address"


def test_no_proxy_of_the_environment_reads_what_the_monitor_says_to_this_machine(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with served(policy_of(run_dir), token=TOKEN) as (url, _):
        assert not Monitor(url, TOKEN).look().fault
    assert "Invalid IPv6 URL" in Monitor("http://[::1", TOKEN).look().fault


def test_what_is_answered_is_counted_and_the_monitor_sees_it(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(policy_of(run_dir)) as (url, service):
        for _ in range(3):
            ask(f"{url}/act", {"battle": "battle-gen1ou-1", "log": LOG, "request": REQUEST})
        ask(f"{url}/act", b"{")
        page = tmp_path / "monitor.html"
        command = ["monitor", "--server_url", url, "--json"]
        assert main(command) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["well"]
        assert told["requests"] >= 4
        assert told["error_rate"] == 0
        assert told["latency_ms"]["50"] > 0
        # of what was asked before its first look, two looks say nothing
        looks = ["--polls", "3", "--interval_s", "0.1", "--max_p50_ms", "0.0001"]
        assert main([*command, *looks, "--out", str(page)]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["requests"], told["latency_ms"]["50"]) == (0, None)
        assert "It keeps all its thresholds." in page.read_text()
        assert loads(page.read_text()) == []
        assert main([*command, "--max_p50_ms", "0.0001", "--max_memory_mb", "1"]) == 1
        told = json.loads(capsys.readouterr().out)
        assert ["p50" in told["problems"][0], "memory" in told["problems"][1]] == [True, True]
        service.is_ready = False
        assert main(command) == 1
        assert "it is not ready (seen 1 of 1 times)" in json.loads(capsys.readouterr().out)["problems"]
    assert main(command) == 1
    assert "cannot be reached" in capsys.readouterr().out


def test_what_the_monitor_asks_for_itself_hides_no_failure(run_dir: Path) -> None:
    with served(policy_of(run_dir)) as (url, service):
        monitor = Monitor(url)
        looks = [monitor.look()]
        service.metrics.note_request("/act", 500, 0.1)
        looks += monitor.watch(3, 0.01)
    found = figures(looks)
    assert (found.requests, found.error_rate) == (1, 1.0)


def test_what_speaks_no_http_is_told_as_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        assert main(["monitor", "--server_url", f"http://127.0.0.1:{other.getsockname()[1]}"]) == 1
        thread.join(30)
    assert "it answers as no service of gemma-metamon does (SSH-2.0-OpenSSH_9.9" in capsys.readouterr().out
    assert main(["monitor", "--server_url", "http://127.0.0.1:eight"]) == 1
    assert "nonnumeric port: 'eight'" in capsys.readouterr().out


def test_a_percentile_lies_within_its_bucket() -> None:
    buckets = {0.01: 50.0, 0.1: 90.0, 1.0: 100.0, float("inf"): 100.0}
    assert percentile_ms(buckets, 50) == pytest.approx(10)
    assert percentile_ms(buckets, 95) == pytest.approx(550)
    assert percentile_ms({0.01: 0.0, float("inf"): 4.0}, 50) == float("inf")
    assert percentile_ms({}, 50) is None
    assert percentile_ms({float("inf"): 0.0}, 99) is None


def metrics_of(*requests: tuple[int, float], times: int = 1) -> str:
    metrics = Metrics()
    metrics.watch(battles=lambda: 0, inside=lambda: 0)
    for _ in range(times):
        for status, seconds in requests:
            metrics.note_request("/act", status, seconds)
    return metrics.as_text().decode()


def test_who_is_refused_makes_a_service_neither_faster_nor_better() -> None:
    quick = ((429, 0.0002), (401, 0.0002), (413, 0.001)) * 20
    look = _read(metrics_of((200, 4.0), (200, 4.0), (200, 4.0), (500, 0.0002), *quick), at_s=0)
    found = figures([look])
    assert (found.requests, found.error_rate, found.refused_rate) == (64, 1 / 4, 60 / 64)
    assert all(3000 < (value or 0) <= 5000 for value in found.latency_ms.values())
    said = problems([look], found, Thresholds(p50_ms=200))
    assert [word in each for word, each in zip(("p50 is 4000 ms, above 200", "25.00%"), said, strict=True)] == [
        True
    ] * 2
    refused = figures([_read(metrics_of(*quick), at_s=0)])
    assert (refused.error_rate, refused.refused_rate, refused.latency_ms[50]) == (None, 1, None)


def test_no_threshold_is_kept_by_what_takes_longer_than_is_told_apart() -> None:
    look = _read(metrics_of((200, 2 * LONGEST_S)), at_s=0)
    found = figures([look])
    assert problems([look], found, Thresholds(p95_ms=1e9)) == [f"p95 is over {1000 * LONGEST_S:.0f} ms, above 1e+09"]
    assert json.dumps(finite_ms(found.latency_ms[95]), allow_nan=False) == str(1000 * LONGEST_S)


def test_what_failed_between_two_looks_is_not_hidden_by_what_was_answered_before() -> None:
    before = _read(metrics_of((200, 0.1), times=9), at_s=0)
    after = _read(metrics_of(*[(200, 0.1)] * 9, (500, 0.1)), at_s=1)
    assert figures([before, after]).error_rate == 1


def test_figures_are_of_the_time_between_the_looks_and_survive_a_service_that_began_anew() -> None:
    first = Look(at_s=0, statuses={200: 100.0}, buckets={0.1: 100.0, float("inf"): 100.0})
    last = Look(at_s=1, statuses={200: 103.0, 500: 1.0}, buckets={0.1: 100.0, float("inf"): 104.0})
    found = figures([first, Look(at_s=0.5, fault="gone"), last])
    assert found == Figures(
        requests=4, error_rate=0.25, refused_rate=0, latency_ms=dict.fromkeys((50, 95, 99), float("inf"))
    )
    assert figures([last, first]).requests == 100
    assert figures([last]).requests == 104
    assert figures([last, last]) == figures([Look(at_s=0, fault="gone")])  # and not what was asked long ago
    assert problems([last], found, Thresholds()) == ["25.00% of the requests failed, above 1.00%"]
    assert figures([Look(at_s=0, fault="gone")]).error_rate is None
