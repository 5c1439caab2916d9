"""Who may ask what, how much and how often; what is counted; and how a service begins and ends."""

import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from support.node import needs_node

pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")

from support.paths import ROOT
from support.processes import eventually, free_port
from support.served import ask, policy_of, served
from support.small_agent import BATTLES

from gemma_metamon.battle.replays import find_battles, load_battle
from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError
from gemma_metamon.serving.limits import TOKEN_VARIABLE, Gate, Limits, read_token, require_safe_host
from gemma_metamon.serving.monitor import (
    Monitor,
)
from gemma_metamon.serving.refusals import RefusedError

TOKEN = "0123456789abcdef-token"


def observation(upto: int = 3) -> dict[str, object]:
    battle = load_battle(find_battles(BATTLES, ["gen1ou"])[0])
    states = [state.to_dict() for state in battle.states[:upto]]
    return {"observation": {"states": states, "actions": [max(a, 0) for a in battle.actions[: upto - 1]]}}


def test_an_observation_is_answered_by_name_and_remembers_nothing(run_dir: Path) -> None:
    with served(policy_of(run_dir)) as (url, service):
        status, answer = ask(f"{url}/act", observation())
        assert status == 200, answer
        assert ask(f"{url}/act", observation()) == (200, answer)
        assert len(service.battles) == 0
        legal = [choice["action"] for choice in answer["choices"]]
        assert answer["choice"] == max(answer["choices"], key=lambda c: c["probability"])["choice"]
        assert sum(c["probability"] for c in answer["choices"]) == pytest.approx(1, abs=1e-4)
        one = observation()
        one["observation"]["legal"] = legal[:1]  # type: ignore[index]
        assert ask(f"{url}/act", one)[1]["choices"][0]["probability"] == 1
        assert ask(f"{url}/act", observation(1))[1]["decisions"] == 1


def test_bad_requests_are_refused_in_one_sentence_that_names_the_field(run_dir: Path) -> None:
    refused = {
        b"": "not JSON",
        b'{"battle": NaN}': "not JSON",
        b"[]": "the body: holds []; expected a JSON object",
        b'{"battle": 3}': "battle is 3; expected a string",
        b'{"batle": "x"}': "batle is unknown",
        b'{"battle": "x"}': "battle is 'x'; give the battle's name, as battle-gen1ou-12",
        b'{"battle": "battle-gen1ou-1"}': "request is missing",
        b'{"battle": "battle-gen1ou-1", "request": {"side": 3}}': "request.side is {'side'",
        b'{"battle": "battle-gen1ou-1", "log": ["|request|{"]}': "log, line 1: its request not JSON",
        b'{"observation": {"states": []}}': "observation.states has 0",
        b'{"observation": {"states": [{}]}}': "observation.states[0]:",
    }
    with served(policy_of(run_dir)) as (url, _):
        for content, words in refused.items():
            status, answer = ask(f"{url}/act", content)
            message = answer["error"]["message"]
            assert status == 400
            assert "\n" not in message
            assert words in message or words.startswith("request.side"), message
        assert ask(f"{url}/nothing")[0] == ask(f"{url}/act/", {})[0] == 404
        status, answer = ask(f"{url}/act")
        assert status == 405
        assert "there are POST /act, GET /health, GET /ready, GET /metrics" in answer["error"]["message"]
        assert ask(f"{url}/v1/models")[0] == 404  # of an agent that does not write


def test_a_body_that_is_too_large_or_never_comes_is_refused(run_dir: Path) -> None:
    with served(policy_of(run_dir), body_bytes=1000, body_s=0.3) as (url, _):
        assert ask(f"{url}/act", b"x" * 1001)[0] == 413
        host, port = url.removeprefix("http://").split(":")
        for head, status in (
            (b"Content-Length: 99999999999999999999999\r\n\r\n", b"413"),
            (b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000 + b"\r\n", b"413"),
            (b"Content-Length: 100\r\n\r\nx", b"408"),
        ):
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                connection.sendall(b"POST /act HTTP/1.1\r\nHost: localhost\r\n" + head)
                answer = connection.recv(4096)
            assert status in answer.split(b"\r\n")[0] or b"400" in answer.split(b"\r\n")[0], answer
        assert ask(f"{url}/health")[0] == 200


def test_without_the_token_nothing_is_told_and_it_is_never_logged(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with served(policy_of(run_dir), token=TOKEN) as (url, _):
        for path, body in (("/act", {}), ("/metrics", None)):
            assert ask(f"{url}{path}", body)[0] == 401
            assert ask(f"{url}{path}", body, token=TOKEN + "x")[0] == 401
            assert ask(f"{url}{path}", body, token="ü")[0] == 401
            assert ask(f"{url}{path}", body, token=TOKEN)[0] == (400 if path == "/act" else 200)
        assert ask(f"{url}/health")[0] == ask(f"{url}/ready")[0] == 200
        assert Monitor(url).look().fault == "/metrics answers 401"
        assert not Monitor(url, TOKEN).look().fault
    assert TOKEN not in caplog.text


def test_who_asks_too_often_waits_and_others_do_not() -> None:
    gate = Gate(Limits(rate=2, at_once=3))
    for _ in range(4):
        gate.require_room("one")
    with pytest.raises(RefusedError) as refused:
        gate.require_room("one")
    assert (refused.value.status, 0 < (refused.value.retry_after_s or 0) <= 0.5) == (429, True)
    gate.inside = 3  # this request among them
    gate.require_room("other")
    gate.inside = 4
    with pytest.raises(RefusedError) as full:
        gate.require_room("third")
    assert full.value.status == 503


def ask_from(address: str, url: str, path: str, token: str, **headers: str) -> int:
    """The status of an answer to a client at an address of this machine."""
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=120, source_address=(address, 0))
    with closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}", **headers})
        return connection.getresponse().status


@pytest.mark.skipif(sys.platform != "linux", reason="this machine has more addresses than one on Linux alone")
def test_who_guesses_the_token_or_a_route_waits_like_who_asks_and_shuts_out_nobody_else(run_dir: Path) -> None:
    forged = {"X-Forwarded-For": "192.0.2.1"}
    with served(policy_of(run_dir), token=TOKEN, rate=0.001) as (url, _):  # room for one in a quarter of an hour
        assert ask_from("127.0.0.2", url, "/metrics", "x" * 20) == 401
        assert ask_from("127.0.0.2", url, "/metrics", "x" * 20) == 429
        assert ask_from("127.0.0.2", url, "/metrics", TOKEN) == 429  # or the limit would tell which guess is right
        assert ask_from("127.0.0.2", url, "/nothing", TOKEN, **forged) == 429
        assert ask_from("127.0.0.3", url, "/nothing", "x" * 20) == 404
        assert ask_from("127.0.0.3", url, "/nothing", "x" * 20) == 429
        assert ask_from("127.0.0.4", url, "/metrics", TOKEN) == 200
        assert [ask_from("127.0.0.2", url, path, "") for path in ("/health", "/ready")] == [200, 200]


def test_a_proxy_that_is_trusted_says_who_asks(run_dir: Path) -> None:
    with served(policy_of(run_dir), token=TOKEN, rate=0.001, trusted_proxy="127.0.0.0/8") as (url, _):
        for client, status in (("192.0.2.1", 401), ("192.0.2.1", 429), ("192.0.2.2", 401)):
            headers = {"X-Forwarded-For": f"198.51.100.7, {client}"}
            assert ask_from("127.0.0.1", url, "/metrics", "x" * 20, **headers) == status
    for bad in ("*", "localhost", "127.0.0.1/40"):
        with pytest.raises(ConfigError, match="--trusted_proxy"):
            Limits(trusted_proxy=bad)


OWN = "127.0.0.1:8765"


@pytest.mark.parametrize("host", [OWN, "localhost", "LOCALHOST:9000", "[::1]:8765", "127.8.8.8", ""])
def test_a_browser_may_show_the_services_own_pages(host: str) -> None:
    for origins in ([], [f"http://{host}"], [f"https://{host}".upper()]):
        Gate(Limits()).require_no_foreign_page(host, origins)
        Gate(Limits(), TOKEN).require_no_foreign_page(host, origins)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1", f"ftp://{OWN}", f"http://x@{OWN}"]
)
def test_a_page_of_another_address_may_ask_nothing(origin: str) -> None:
    for gate in (Gate(Limits()), Gate(Limits(), TOKEN), Gate(Limits(), host="0.0.0.0")):
        with pytest.raises(RefusedError, match="Origin is ") as refused:
            gate.require_no_foreign_page(OWN, [f"http://{OWN}", origin])
        assert refused.value.status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost@x", "[", "::1"]
)
def test_a_name_that_was_pointed_to_this_machine_is_answered_with_a_token_alone(host: str) -> None:
    with pytest.raises(RefusedError, match=r"Host is .* or serve with a token") as refused:
        Gate(Limits()).require_no_foreign_page(host, [])
    assert refused.value.status == 403
    Gate(Limits(), TOKEN).require_no_foreign_page(host, [])
    Gate(Limits(), host="0.0.0.0").require_no_foreign_page(host, [])  # with --open


def test_what_a_foreign_page_sends_is_refused_before_it_is_read(run_dir: Path) -> None:
    with served(policy_of(run_dir)) as (url, _):
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            status, answer = ask(f"{url}/act", b"{", **headers)
            assert (status, answer["error"]["type"]) == (403, "permission_error")
            assert ask(f"{url}/nothing", **headers)[0] == 403
        assert ask(f"{url}/act", b"{", Origin=url)[0] == 400


def test_a_client_of_many_addresses_is_one_client() -> None:
    gate = Gate(Limits(rate=0.001))
    for first, second in (("2001:db8::1", "2001:db8::ffff:2"), ("::ffff:192.0.2.1", "192.0.2.1"), ("x", "x")):
        gate.require_room(first)
        with pytest.raises(RefusedError):
            gate.require_room(second)
    gate.require_room("2001:db8:0:1::1")


def test_a_refusal_for_now_says_when_to_come_again(run_dir: Path) -> None:
    with served(policy_of(run_dir), rate=0.5) as (url, _):
        assert ask(f"{url}/metrics")[0] == 200
        status, answer = ask(f"{url}/metrics")
        assert status == 429
        assert answer["error"]["type"] == "rate_limit_error"


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert read_token(None) == TOKEN
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}-2\n")
    assert read_token(path) == f"{TOKEN}-2"
    for bad in ("short", "with a space in it 0123", "ü" * 20):
        path.write_text(bad)
        with pytest.raises(ConfigError) as refused:
            read_token(path)
        assert bad not in str(refused.value)


def test_other_machines_need_a_token_or_leave() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        require_safe_host(host, None, is_open=False)
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(ConfigError, match="--open"):
            require_safe_host(host, None, is_open=False)
        require_safe_host(host, TOKEN, is_open=False)
        require_safe_host(host, None, is_open=True)


def test_who_cannot_be_served_is_told_so(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for agent, words in (
        ("RandomPlayer", "RandomPlayer is no agent with probabilities to tell"),
        (f"search({run_dir})", "plays on in copies of an arena's battles"),
    ):
        assert main(["serve", agent, "--port", str(free_port())]) == 1
        assert words in capsys.readouterr().err
    assert main(["serve", str(run_dir), "--host", "0.0.0.0"]) == 1
    assert "--open" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", str(run_dir), "--port", str(taken.getsockname()[1])]) == 1
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.slow
def test_a_service_that_is_told_to_end_answers_what_it_was_asked(run_dir: Path) -> None:
    command = [sys.executable, "-m", "gemma_metamon", "serve", str(run_dir), "--port", str(free_port())]
    environment = os.environ | {TOKEN_VARIABLE: TOKEN}
    with subprocess.Popen(
        [*command, "--gather_ms", "1500"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "run@1 is served at http://127.0.0.1:" in said
        url = said.split(" is served at ")[1].split(" ")[0]
        answers: list[tuple[int, object]] = []
        asking = threading.Thread(
            target=lambda: answers.append(ask(f"{url}/act", observation(1), token=TOKEN)), daemon=True
        )
        asking.start()
        eventually(lambda: answers or "requests_inside 2.0" in ask(f"{url}/metrics", token=TOKEN)[1])
        process.send_signal(signal.SIGTERM)
        asking.join(120)
        out, error = process.communicate(timeout=120)
    assert process.returncode == 0
    assert answers[0][0] == 200
    assert TOKEN not in said + out + error
    assert "ended" in error


@pytest.mark.slow
@pytest.mark.server
@needs_node
def test_the_example_plays_what_a_service_answers(run_dir: Path) -> None:
    with served(policy_of(run_dir)) as (url, _):
        done = subprocess.run(
            [sys.executable, "-W", "error", str(ROOT / "examples" / "ask_served_agent.py"), url, "--battles", "1"],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert re.search(r"the served agent won [01] of 1 battles", done.stdout)


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_a_host_that_can_be_none_is_refused_by_name(host: str) -> None:
    from gemma_metamon.serving.server import Address, listening_at

    with pytest.raises(ConfigError, match=rf"^--host {host} --port 0 cannot be used \("), listening_at(Address(host)):
        pass
