"""Ladder servers, and what is needed to log in: user names, passwords, and the login server's confirmation.

A password comes from the environment or from a file, never from an argument: arguments are visible to everyone on a
machine. A `Secret` holds it. Only one function reads it, and that function raises nothing, so that no traceback can
show it.
"""

import difflib
import http.client
import ipaddress
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from gemma_metamon.errors import ConfigError, DataError, MissingFileError, ServerError

PASSWORD_VARIABLE = "SHOWDOWN_PASSWORD"
LOGIN_URL = "https://play.pokemonshowdown.com/action.php"
LOGIN_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20
MAX_NAME = 18  # the server's limit on user names
# the server reads one message in 0.6 s, lets five more wait, and drops all others
MESSAGE_GAP_S = 0.65


class Secret:
    """A password that does not appear when the object is printed, formatted or pickled."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The password itself."""
        return self.__value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


@dataclass(frozen=True, kw_only=True)
class LadderServer:
    """Where to play.

    Attributes:
        name: as people call it.
        websocket_url: of the battle server.
        login_url: of the server that checks names and passwords; None where every name is allowed.
        message_gap_s: the shortest time between two messages that we send.
    """

    name: str
    websocket_url: str
    login_url: str | None = None
    message_gap_s: float = 0.0


class LoginRefusedError(ServerError):
    """The login server, or the battle server, refuses the name or the password: trying again will not help."""


POKEAGENT = LadderServer(
    name="pokeagent",
    websocket_url="wss://pokeagentshowdown.com/showdown/websocket",
    login_url=LOGIN_URL,
    message_gap_s=MESSAGE_GAP_S,
)
MAIN = LadderServer(
    name="main",
    websocket_url="wss://sim3.psim.us/showdown/websocket",
    login_url=LOGIN_URL,
    message_gap_s=MESSAGE_GAP_S,
)
_NAMED = {server.name: server for server in (POKEAGENT, MAIN)}
_LADDERED = 2  # the bit of formats that can be searched for
_MAIN_DOMAINS = ("psim.us", "pokemonshowdown.com")


def ladder_server(
    address: str, *, username: str, has_password: bool, has_permission: bool, login_url: str | None = None
) -> LadderServer:
    """The server of a name ("pokeagent", "main") or a ws:// or wss:// address.

    Args:
        address: the name or the address.
        username: to log in with.
        has_password: whether there is a password for it.
        has_permission: whether the administrators of the public main server allow this bot.
        login_url: a login server other than the usual one.

    Raises:
        ConfigError: any other address; the public main server without permission; a user name that the server would
            refuse; a login server to which the password would go unencrypted; a password is needed and there is none.
    """
    if login_url is not None:
        check_login_url(login_url)
    parts = urllib.parse.urlsplit(address)
    if address in _NAMED:
        server = _NAMED[address] if login_url is None else replace(_NAMED[address], login_url=login_url)
    elif parts.scheme in ("ws", "wss") and parts.hostname:
        own_login = login_url or (LOGIN_URL if has_password else None)
        gap_s = 0.0 if is_loopback(parts.hostname) else MESSAGE_GAP_S
        server = LadderServer(name=address, websocket_url=address, login_url=own_login, message_gap_s=gap_s)
    else:
        raise ConfigError(f"--server {address!r} is no server; give local, {', '.join(_NAMED)}, or a wss://… address")
    host = urllib.parse.urlsplit(server.websocket_url).hostname or ""
    if any(host == domain or host.endswith(f".{domain}") for domain in _MAIN_DOMAINS) and not has_permission:
        raise ConfigError(
            f"{host} is Pokémon Showdown's public main server, where bots need its administrators' leave: without it "
            f"the account and this machine's address may be locked; ask them first, then add --i-have-permission"
        )
    check_username(username)
    if server.name == POKEAGENT.name and not username.upper().startswith("PAC"):
        raise ConfigError(f"--username {username!r}: names on the PokéAgent ladder begin with PAC")
    if server.login_url is not None and not has_password:
        raise ConfigError(
            f"{server.name} plays with registered names only; put the password of {username!r} into the environment "
            f"variable {PASSWORD_VARIABLE}, or name a file that holds it with --password_file"
        )
    return server


def check_login_url(url: str) -> None:
    """Raises ConfigError unless the address is https, or http to this machine: others could read the password."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:  # a port that is no number, a broken IPv6 address
        raise ConfigError(f"--login_server {url!r} is no address; give https://…") from None
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise ConfigError(
            f"--login_server {url!r} is no address of a login server; give https://…, without a name in it"
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(
            f"--login_server {url!r}: over http everybody on the way could read the password; give https://… "
            "(http is for this machine alone: http://127.0.0.1:…)"
        )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine; asks no name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_username(username: str) -> None:
    """Raises ConfigError for a name that a Showdown server would refuse or change."""
    if not any(char.isascii() and char.isalpha() for char in username) or len(username) > MAX_NAME:
        raise ConfigError(f"--username {username!r}: a name has a letter in it, and at most {MAX_NAME} characters")
    if any(char in "|,_/" or not char.isprintable() for char in username) or username != username.strip():
        raise ConfigError(f"--username {username!r}: letters, digits, spaces and '-' only; the others mean something")


def check_ladder(listing: str, battle_format: str, server_name: str) -> None:
    """Raises ServerError where a server's list of formats, "...|[Gen 1] OU,e|...", has no ladder for this one.

    Args:
        listing: as the server sends it; after each comma a hexadecimal number, one bit of which means "has a ladder".
        battle_format: e.g. "gen1ou".
        server_name: for the message.
    """
    laddered = []
    for entry in listing.split("|"):
        name, comma, code = entry.rpartition(",")
        if name and comma and int(code, 16) & _LADDERED:
            laddered.append(to_id(name))
    if laddered and battle_format not in laddered:
        near = difflib.get_close_matches(battle_format, laddered, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ServerError(f"{server_name} has no ladder for {battle_format!r}, but {len(laddered)} others{meant}")


def to_id(name: str) -> str:
    """A name as Showdown compares names: ASCII letters in lower case, and digits."""
    return "".join(char for char in name.lower() if char.isascii() and char.isalnum())


MAX_PASSWORD = 1000
"""Characters, far more than any server takes."""


def read_password(path: Path | None, environ: MutableMapping[str, str] = os.environ) -> Secret | None:
    """The first line of the file, else the environment's SHOWDOWN_PASSWORD, else None.

    The variable is removed from the environment, so that no program that we start inherits it. Raises MissingFileError,
    or DataError where it is empty, unreadable or too long; the messages show nothing of the password.
    """
    from_environment = environ.pop(PASSWORD_VARIABLE, "")
    if path is None:
        if not from_environment:
            return None
        if not _is_password(from_environment):
            raise DataError(f"{PASSWORD_VARIABLE} is no password: not UTF-8, or of more than {MAX_PASSWORD} characters")
        return Secret(from_environment)
    if not path.exists():
        raise MissingFileError(f"no password file at {path}")
    secret = _first_line(path)
    if secret is None:
        raise DataError(
            f"{path} has no password in its first line, or is no text that can be read, or it has more than "
            f"{MAX_PASSWORD} characters"
        )
    return secret


def _first_line(path: Path) -> Secret | None:
    """None where it cannot be read: an exception about the encoding would hold the bytes. Reads from a pipe, too."""
    try:
        with path.open("rb") as file:
            line = file.readline(4 * MAX_PASSWORD + 8).decode("utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        return None
    return Secret(line) if line and _is_password(line) else None


def _is_password(text: str) -> bool:
    return len(text) <= MAX_PASSWORD and not any("\ud800" <= char <= "\udfff" for char in text)


def prove_name(login_url: str, username: str, password: Secret, challstr: str) -> str:
    """Logs in at the login server, and returns its confirmation, which the battle server wants to see.

    Args:
        login_url: of the login server.
        username: whose password it is.
        password: sent to the login server, and nowhere else.
        challstr: what the battle server sent for this purpose, "4|d7c4…".

    Raises:
        ConfigError: an address that `check_login_url` refuses; before anything is sent.
        LoginRefusedError: a wrong password; with the server's words.
        ServerError: it does not answer as a login server does.
    """
    check_login_url(login_url)
    assertion, refused, trouble = _ask(login_url, username, password, challstr)
    if refused:
        raise LoginRefusedError(
            f"the login server does not let {username!r} in: {refused}; look at the name, and at the password in "
            f"{PASSWORD_VARIABLE} or --password_file"
        )
    if trouble:
        raise ServerError(f"the login server {login_url} cannot be used: {trouble}")
    return assertion


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: urllib would carry a header along to any other server."""

    def redirect_request(self, *_: Any) -> None:
        return None  # urllib then raises an HTTPError with the status


def opener_for_secrets(url: str) -> urllib.request.OpenerDirector:
    """Opens requests that bear a password or a token, and sends them to this address alone.

    It follows no redirection; and what is sent to this machine goes by no proxy of the environment, which would read
    it.
    """
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _ask(login_url: str, username: str, password: Secret, challstr: str) -> tuple[str, str, str]:
    """(confirmation, why it was refused, what went wrong). Raises nothing: a traceback could show the password."""
    fields = {"act": "login", "name": username, "pass": password.reveal(), "challstr": challstr}
    try:
        request = urllib.request.Request(login_url, urllib.parse.urlencode(fields).encode())
        with opener_for_secrets(login_url).open(request, timeout=LOGIN_TIMEOUT_S) as response:
            text = response.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        error.close()
        where = f" to {error.headers['Location']!r:.100}, which is not followed" if error.headers["Location"] else ""
        return "", "", f"it answered {error.code}{where}".replace(password.reveal(), "…")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return "", "", str(error).replace(password.reveal(), "…") or type(error).__name__
    try:
        answer = json.loads(text.removeprefix("]"))
    except json.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        return "", "", "it answered with something else than JSON"
    assertion = answer.get("assertion")
    if isinstance(assertion, str) and assertion and not assertion.startswith(";"):
        return assertion, "", ""
    said = answer.get("actionerror") or (assertion.lstrip(";") if isinstance(assertion, str) else "")
    return "", str(said or "wrong password").rstrip(".").replace(password.reveal(), "…"), ""
