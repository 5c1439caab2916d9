"""Passwords that never show, names that servers take, and what the login server says."""

import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError, MissingFileError, ServerError
from gemma_metamon.showdown.accounts import (
    LOGIN_URL,
    MAIN,
    PASSWORD_VARIABLE,
    POKEAGENT,
    LadderServer,
    LoginRefusedError,
    Secret,
    check_ladder,
    check_login_url,
    check_username,
    ladder_server,
    prove_name,
    read_password,
)
from gemma_metamon.showdown.simulator.server import running_server

PASSWORD = "hunter2 & Ünïcode"
LIST = ",LL|,1|S/V Singles|[Gen 9] OU,e|[Gen 9] Custom Game,c|,2|Past|[Gen 1] OU,e|[Gen 1] UU,c"


@pytest.fixture
def login_server() -> Iterator[tuple[str, list[dict[str, str]], Callable[[str], None]]]:
    """A stand-in for the login server, which cannot be reached here: its replies are those of its public source."""
    asked: list[dict[str, str]] = []
    answer = ["]" + json.dumps({"actionsuccess": True, "assertion": "4,anna,2,1700000000,sim;signed"})]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append(dict(urllib.parse.parse_qsl(body)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer[0].encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/action.php", asked, lambda text: answer.__setitem__(0, text)
    server.shutdown()
    thread.join()
    server.server_close()


def told_of(error: BaseException | None) -> str:
    """The most that anybody prints of an exception: its frames but the test's, their variables, and what led to it."""
    if error is None:
        return ""
    inner = error.__traceback__.tb_next if error.__traceback__ else None
    shown = traceback.TracebackException(type(error), error, inner, capture_locals=True)
    return "".join(shown.format()) + repr(error) + told_of(error.__context__)


def test_a_secret_shows_nothing() -> None:
    secret = Secret(PASSWORD)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", str([secret]), repr({"pass": secret})):
        assert "hunter2" not in shown
    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == PASSWORD
    with pytest.raises(TypeError, match="not written down"):
        pickle.dumps(secret)


def test_a_password_comes_from_the_environment_and_is_gone_from_it() -> None:
    environ = {PASSWORD_VARIABLE: PASSWORD, "HOME": "/"}
    secret = read_password(None, environ)
    assert secret is not None
    assert secret.reveal() == PASSWORD
    assert environ == {"HOME": "/"}  # the simulator that we may start inherits the rest
    assert read_password(None, environ) is None


def test_a_password_that_is_no_text_or_too_long_is_refused_without_a_word_of_it(tmp_path: Path) -> None:
    for wrong in ("hunter2\udcff", "hunter2" * 1000):
        with pytest.raises(DataError, match="SHOWDOWN_PASSWORD is no password") as caught:
            read_password(None, {PASSWORD_VARIABLE: wrong})
        assert "hunter2" not in str(caught.value)
    (tmp_path / "long").write_bytes(b"hunter2" * 1_000_000)
    with pytest.raises(DataError, match="more than 1000 characters"):
        read_password(tmp_path / "long", {})


def test_a_byte_order_mark_is_no_part_of_a_password(tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfhunter2\r\n")
    secret = read_password(tmp_path / "marked", {})
    assert secret is not None
    assert secret.reveal() == "hunter2"


def test_a_password_file_comes_first_and_only_its_first_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\nof my second account\n", encoding="utf-8")
    secret = read_password(path, {PASSWORD_VARIABLE: "another"})
    assert secret is not None
    assert secret.reveal() == PASSWORD


@pytest.mark.parametrize("content", [b"", b"\n", b"hunter2\xff\xfe"])
def test_a_password_file_that_is_none_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(DataError, match="has no password in its first line") as caught:
        read_password(path, {})
    assert "hunter2" not in told_of(caught.value)
    with pytest.raises(MissingFileError, match="no password file at"):
        read_password(tmp_path / "nowhere", {})


@pytest.mark.parametrize("flag", [["--password", "hunter2"], ["--password=hunter2"], ["--password"]])
def test_a_password_in_an_argument_is_refused_without_being_repeated(
    flag: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["ladder", "--username", "Anna", "--player", "RandomPlayer", *flag])
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert "use the variable SHOWDOWN_PASSWORD or --password_file" in said.err
    assert "hunter2" not in said.err + said.out


def test_the_assertion_comes_from_name_password_and_challenge(login_server: tuple) -> None:
    url, asked, _ = login_server
    assert prove_name(url, "Anna", Secret(PASSWORD), "4|d7c4") == "4,anna,2,1700000000,sim;signed"
    assert asked == [{"act": "login", "name": "Anna", "pass": PASSWORD, "challstr": "4|d7c4"}]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (']{"actionerror":"Wrong password."}', "does not let 'Anna' in: Wrong password; look at the name"),
        (']{"actionsuccess":false,"assertion":false}', "does not let 'Anna' in: wrong password"),
        (']{"actionsuccess":true,"assertion":";;Your username is no longer available."}', "no longer available"),
        (f']{{"actionerror":"{PASSWORD} is wrong"}}', "does not let 'Anna' in: … is wrong"),
    ],
)
def test_a_wrong_password_is_one_sentence_without_the_password(
    answer: str, complaint: str, login_server: tuple
) -> None:
    url, _, reply = login_server
    reply(answer)
    with pytest.raises(LoginRefusedError, match=complaint) as caught:
        prove_name(url, "Anna", Secret(PASSWORD), "4|d7c4")
    assert "hunter2" not in told_of(caught.value)


def test_a_login_server_that_is_none_is_told_from_a_wrong_password(login_server: tuple) -> None:
    url, _, reply = login_server
    reply("<html>hotel wifi</html>")
    for address, complaint in ((url, "something else than JSON"), ("http://127.0.0.1:9/", "refused")):
        with pytest.raises(ServerError, match=complaint) as caught:
            prove_name(address, "Anna", Secret(PASSWORD), "4|d7c4")
        assert not isinstance(caught.value, LoginRefusedError)
        assert "hunter2" not in told_of(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://play.pokemonshowdown.com/action.php",
        "HTTP://example.org/",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "http://127.0.0.1@example.org/",
        "http://128.0.0.1/",
        "http://0.0.0.0/",
        "http://[::2]/",
        "https://anna:hunter2@example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "play.pokemonshowdown.com",
        "//example.org/",
        "https://",
        "https://example.org:port/",
        "http://[::1/",
        "",
    ],
)
def test_a_password_goes_nowhere_in_the_open(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *_, **__: pytest.fail("something was sent"))
    for refuse in (
        lambda: check_login_url(url),
        lambda: server_of("pokeagent", login_url=url),
        lambda: server_of("wss://example.org/showdown/websocket", login_url=url),
        lambda: prove_name(url, "Anna", Secret(PASSWORD), "4|d7c4"),
    ):
        with pytest.raises(ConfigError, match="--login_server"):
            refuse()


@pytest.mark.parametrize(
    "url", [LOGIN_URL, "https://example.org:8443/x", "http://localhost:8000/", "http://127.8.8.8/", "http://[::1]:80/"]
)
def test_a_login_server_is_asked_over_https_or_on_this_machine(url: str) -> None:
    check_login_url(url)
    assert server_of("pokeagent", login_url=url).login_url == url


def test_the_command_refuses_an_open_login_server_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    command = ["ladder", "--username", "PAC-Anna", "--player", "RandomPlayer", "--out", str(tmp_path / "out")]
    assert main([*command, "--server", "pokeagent", "--login_server", "http://example.org/"]) == 1
    said = capsys.readouterr()
    assert "over http everybody on the way could read the password; give https://" in said.err
    assert "hunter2" not in said.err + said.out
    assert PASSWORD_VARIABLE not in os.environ
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_password_is_not_carried_to_where_a_login_server_points(status: int, login_server: tuple) -> None:
    elsewhere, asked, _ = login_server

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Location", elsewhere)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(ServerError, match=f"it answered {status} to 'http.*', which is not followed") as caught:
                prove_name(f"http://127.0.0.1:{server.server_port}/", "Anna", Secret(PASSWORD), "4|d7c4")
        finally:
            server.shutdown()
            thread.join()
    assert asked == []
    assert "hunter2" not in told_of(caught.value)


def test_no_proxy_reads_what_is_said_to_this_machine(login_server: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    url, asked, _ = login_server
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.delenv("no_proxy", raising=False)
    prove_name(url, "Anna", Secret(PASSWORD), "4|d7c4")
    assert len(asked) == 1


@pytest.mark.server
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_the_simulator_does_not_inherit_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "hunter2")  # of a command that does not read it
    monkeypatch.setenv("KEPT", "kept")
    with running_server() as server:
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
    assert b"KEPT=kept" in environment
    assert b"hunter2" not in environment


def test_what_is_started_after_reading_a_password_does_not_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "hunter2")
    assert read_password(None) is not None
    code = "import os; print(os.environ)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "hunter2" not in done.stdout


def test_nothing_is_logged_of_a_login(login_server: tuple, caplog: pytest.LogCaptureFixture) -> None:
    url, _, _ = login_server
    with caplog.at_level(logging.DEBUG):
        prove_name(url, "Anna", Secret(PASSWORD), "4|d7c4")
    assert "hunter2" not in caplog.text


def server_of(address: str, **options: object) -> LadderServer:
    given = {"username": "PAC-Anna", "has_password": True, "has_permission": False, **options}
    return ladder_server(address, **given)  # type: ignore[arg-type]


def test_servers_are_known_by_name_or_address() -> None:
    assert server_of("pokeagent") is POKEAGENT
    assert server_of("main", has_permission=True) is MAIN
    own = server_of("wss://example.org/showdown/websocket")
    assert (own.login_url, own.message_gap_s > 0.6) == (LOGIN_URL, True)
    near = server_of("ws://127.0.0.1:8000/showdown/websocket", has_password=False)
    assert (near.login_url, near.message_gap_s) == (None, 0)


@pytest.mark.parametrize(
    ("address", "options", "complaint"),
    [
        ("main", {}, "where bots need its administrators' leave: .* then add --i-have-permission"),
        ("wss://sim.psim.us/showdown/websocket", {}, "sim.psim.us is Pokémon Showdown's public main server"),
        ("wss://play.pokemonshowdown.com/x", {}, "public main server"),
        ("smogon", {}, "'smogon' is no server; give local, pokeagent, main, or a wss"),
        ("https://example.org", {}, "is no server"),
        ("pokeagent", {"username": "Anna"}, "begin with PAC"),
        ("pokeagent", {"has_password": False}, "the environment variable SHOWDOWN_PASSWORD"),
    ],
)
def test_a_server_that_cannot_be_played_on_gets_one_sentence(
    address: str, options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        server_of(address, **options)


@pytest.mark.parametrize("name", ["", "1234", "a" * 19, "Anna_B", "An,na", "An|na", " Anna", "An\nna"])
def test_names_that_no_server_takes_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--username"):
        check_username(name)


def test_a_format_without_a_ladder_is_refused_with_the_nearest() -> None:
    check_ladder(LIST, "gen1ou", "here")
    with pytest.raises(ServerError, match=r"here has no ladder for 'gen1o', but 2 others; did you mean gen1ou\?"):
        check_ladder(LIST, "gen1o", "here")
    with pytest.raises(ServerError, match="'gen9customgame'"):  # known, but for challenges only
        check_ladder(LIST, "gen9customgame", "here")


def test_every_refusal_is_one_of_ours() -> None:
    assert issubclass(LoginRefusedError, GemmaMetamonError)
