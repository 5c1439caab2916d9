"""A chat model behind an OpenAI-compatible endpoint: where it is, how it is asked, and how much it may take."""

import os
import re
from dataclasses import dataclass, fields
from typing import Final
from urllib.parse import urlsplit

from gemma_metamon.errors import ConfigError
from gemma_metamon.language.telling.prompts import HISTORY
from gemma_metamon.showdown.accounts import is_loopback
from gemma_metamon.strict_json import shown

KEY_VARIABLE: Final = "OPENAI_API_KEY"
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,99}")


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """Of one player. Two of equal settings are the same player.

    Attributes:
        model: as the endpoint calls it, "gemma-3-4b-it".
        url: of the endpoint, up to where "/chat/completions" follows: "http://127.0.0.1:8080/v1".
        reasoning: whether the answer is to say why.
        history: how many decisions before are told with each.
        temperature: of its answers; None leaves it to the endpoint, which some models insist on.
        answer_tokens: the most of one answer, its thinking included.
        timeout_s: for an answer, with everything that is tried again meanwhile.
        retries: how often a call is tried again that was refused for now (429), failed (5xx) or was cut.
        at_once: calls at a time.
        max_calls: in all, those that are tried again included; None sets no bound.
        max_tokens: in all, of prompts and answers, as the endpoint counts them; None sets no bound. Both bounds are
            looked at before a call, so that those under way at the time come on top.
        key_from: the environment variable that holds the key; "" is OPENAI_API_KEY, which is sent by https and to
            this machine alone.

    Raises:
        ConfigError: on construction, for a value that cannot work. An address with a key in it is not repeated.
    """

    model: str
    url: str
    reasoning: bool = True
    history: int = HISTORY
    temperature: float | None = None
    answer_tokens: int = 1024
    timeout_s: float = 60.0
    retries: int = 4
    at_once: int = 8
    max_calls: int | None = None
    max_tokens: int | None = None
    key_from: str = ""

    def __post_init__(self) -> None:
        if not self.model or not self.model.isprintable() or len(self.model) > 200:
            raise ConfigError(f"model {shown(self.model)}: a chat model has a name, as in chat:gemma-3-4b-it@URL")
        _require_url(self.url)
        if self.key_from and not _VARIABLE.fullmatch(self.key_from):
            raise ConfigError(
                "key_from names no environment variable (capitals, digits and underscores, as in GEMINI_API_KEY); the "
                "key itself does not belong on a command line, where everybody on this machine can read it"
            )
        for name in ("answer_tokens", "at_once", "max_calls", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}; it must be at least 1")
        for name in ("history", "retries"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigError(f"{name}={getattr(self, name)}; it must be within 0 to 100")
        if not 0 < self.timeout_s <= 3600:
            raise ConfigError(f"timeout_s={self.timeout_s:g}; it must be above 0 and at most 3600")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ConfigError(f"temperature={self.temperature:g}; a chat model's is from 0 to 2")

    @property
    def name(self) -> str:
        """The player's label: its model, its endpoint, and what is not as usual. It holds no key."""
        usual = {field.name: field.default for field in fields(self)}
        said = [f"{name}={_written(value)}" for name, value in vars(self).items() if value != usual[name]][2:]
        return f"chat:{self.model}@{self.url}" + (f"({', '.join(said)})" if said else "")

    def read_key(self) -> str | None:
        """The key, from the environment; None where none is to be sent.

        Raises ConfigError where `key_from` names a variable that is not set.
        """
        key = os.environ.get(self.key_from or KEY_VARIABLE, "").strip()
        if self.key_from and not key:
            raise ConfigError(f"{self.name}: the environment variable {self.key_from} is not set; put the key there")
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"the key in {self.key_from or KEY_VARIABLE} holds what no key can; set it again")
        return key if key and (self.key_from or _is_safe(self.url)) else None


def _require_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            "an endpoint's address holds no key, user, '?' or '#': put the key into the environment variable "
            f"{KEY_VARIABLE}, and leave it out of the address"
        )
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{shown(url)} is no endpoint's address; write it as in chat:MODEL@http://127.0.0.1:8080/v1")


def _is_safe(url: str) -> bool:
    """Whether nobody reads on the way."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
