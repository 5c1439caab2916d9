"""What a service gives to whom: how large a request may be, how many there may be, and who may ask at all."""

import hmac
import ipaddress
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cachetools import LRUCache

from gemma_metamon.errors import ConfigError
from gemma_metamon.serving.refusals import RefusedError
from gemma_metamon.showdown.accounts import is_loopback
from gemma_metamon.strict_json import read_bounded, shown, shown_path

TOKEN_VARIABLE: Final = "GEMMA_METAMON_TOKEN"
_LEAST_TOKEN: Final = 16
_CLIENTS: Final = 4096
"""Addresses whose requests are counted."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a service.

    Attributes:
        body_bytes: of a request.
        body_s: within which it must have come, and an answer must be taken.
        head_s: within which a connection must say what it asks: its headers.
        connections: at a time; one address has at most half of them. The process may have too few files for so many.
        rate: requests a second from one address, on the whole; for twice as many at once there is room. All count,
            those with a wrong token and those of no route, too; only /health and /ready do not.
        at_once: requests that may be answered at a time.
        trusted_proxy: the address or network of a proxy, which says by X-Forwarded-For from which address it passes a
            request on. None believes nobody, and an address is that of the connection: anybody can send that header.
    """

    body_bytes: int = 8 * 2**20
    body_s: float = 30.0
    head_s: float = 10.0
    connections: int = 800
    rate: float = 500.0
    at_once: int = 512
    trusted_proxy: str | None = None

    def __post_init__(self) -> None:
        if self.trusted_proxy is None:
            return
        try:
            ipaddress.ip_network(self.trusted_proxy)
        except ValueError as error:
            raise ConfigError(
                f"--trusted_proxy {shown(self.trusted_proxy)} is no address or network; give one as 127.0.0.1 or "
                "10.0.0.0/8"
            ) from error

    def trusts(self, client: str) -> bool:
        """Whether this is the address of the proxy, which has the connections of all who come through it."""
        if self.trusted_proxy is None:
            return False
        try:
            return ipaddress.ip_address(client) in ipaddress.ip_network(self.trusted_proxy)
        except ValueError:
            return False


class Gate:
    """Lets requests in, or refuses them. All calls come from one event loop.

    Args:
        limits: within which.
        token: that a request must bear; None asks for none.
        host: at which the service listens.

    Attributes:
        inside: requests that are being answered, the one that asks for room among them.
    """

    def __init__(self, limits: Limits, token: str | None = None, host: str = "127.0.0.1") -> None:
        self.limits = limits
        self._asks_by_host = token is None and is_loopback(host)
        self.inside = 0
        self._token = None if token is None else token.encode()
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(_CLIENTS)

    def require_no_foreign_page(self, host: str, origins: Sequence[str]) -> None:
        """Raises RefusedError (403) for what a page of somebody else's lets a browser of this machine send.

        Args:
            host: the request's header `Host`; "" without one, which every browser sends. Its name may be one that its
                owner has pointed here: without a token it must be this machine's own.
            origins: its headers `Origin`, by which a browser says whose page it is that asks.
        """
        for origin in origins:
            if origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
                raise RefusedError(
                    403, f"Origin is {shown(origin)}, a page of another address than {shown(host)}; ask from no page"
                )
        if self._asks_by_host and host and not is_loopback(_name_of(host)):
            raise RefusedError(
                403,
                f"Host is {shown(host)}, and without a token only this machine is answered; ask localhost or 127.0.0.1 "
                "(a proxy must send one of them as Host), or serve with a token",
            )

    def require_token(self, authorization: str) -> None:
        """Raises RefusedError (401) for a header that does not bear the token, in the same time whatever it holds."""
        if self._token is None:
            return
        kind, _, given = authorization.partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        if kind.lower() != "bearer" or not same:
            raise RefusedError(401, "Authorization bears no valid token; send `Authorization: Bearer TOKEN`")

    def require_room(self, client: str) -> None:
        """Raises RefusedError: 429 for a client that asks too often, 503 where too many are being answered.

        Args:
            client: its address; `who` says which are one client.
        """
        client = who(client)
        now, burst = time.monotonic(), max(1.0, 2 * self.limits.rate)
        left, at = self._buckets.get(client, (burst, now))
        left = min(burst, left + (now - at) * self.limits.rate)
        if left < 1:
            wait_s = (1 - left) / self.limits.rate
            self._buckets[client] = (left, now)
            raise RefusedError(
                429, f"more than {self.limits.rate:g} requests a second; ask again later", retry_after_s=wait_s
            )
        self._buckets[client] = (left - 1, now)
        if self.inside > self.limits.at_once:
            raise RefusedError(
                503, f"{self.limits.at_once} requests are being answered, as many as may be; ask again", retry_after_s=1
            )


def _name_of(host: str) -> str:
    """The name or address in a header `Host`, without its port; "" of what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def who(client: str) -> str:
    """Who comes from an address. Of IPv6 a network of 64 bits is one client: whoever has one address has them all."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:  # of a proxy's header
        return client[:100]
    if address.version == 4:
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


def read_token(path: Path | None) -> str | None:
    """The token, from a file, or else from the environment; None where there is none.

    Raises:
        MissingFileError, DataError: a file that cannot be read.
        ConfigError: what can be no token. It is not repeated.
    """
    if path is None:
        token, source = os.environ.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
        if not token:
            return None
    else:
        token, source = read_bounded(path, 4096).decode("utf-8", "replace").strip(), shown_path(path)
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{source} holds no token of {_LEAST_TOKEN} or more letters and digits, no spaces; make one")
    return token


def require_safe_host(host: str, token: str | None, *, is_open: bool) -> None:
    """Raises ConfigError for an address that others can reach, without a token, unless that is wanted."""
    if token is not None or is_open or is_loopback(host):
        return
    raise ConfigError(
        f"--host {host} can be reached from other machines, and no token is asked for; put one into {TOKEN_VARIABLE} "
        "or a file named by --token_file, or say --open"
    )
