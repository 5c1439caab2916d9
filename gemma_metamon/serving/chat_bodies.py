"""The body of `POST /v1/chat/completions`, as OpenAI's clients write it. What is not offered is refused by name."""

import base64
import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gemma_metamon.errors import DataError
from gemma_metamon.serving.bounds import require_at_most
from gemma_metamon.strict_json import parse_json_object, read_dataclass, shown

MOST_MESSAGES: Final = 1000
MOST_PARTS: Final = 1000
MOST_IMAGES: Final = 32
USUAL_TOKENS: Final = 512
_DATA_URL: Final = re.compile(r"data:image/(?:png|jpeg|webp);base64,")
_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# these say nothing of the answer
_PASSED_OVER: Final = {"user", "metadata", "store", "stream_options", "service_tier", "safety_identifier"}
# these change nothing at these values
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1, None),
    "stream": (False, None),
    "presence_penalty": (0, None),
    "frequency_penalty": (0, None),
    "logprobs": (False, None),
    "stop": (None, []),
    "tools": (None, []),
    "response_format": (None, {"type": "text"}),
}


@dataclass(frozen=True)
class Said:
    """One message: its role, its words, and its images as files' contents, in order: "" and an image stand alone."""

    role: str
    parts: tuple[str | bytes, ...]

    @property
    def text(self) -> str:
        """Its words alone."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def images(self) -> list[bytes]:
        """Its images alone."""
        return [part for part in self.parts if isinstance(part, bytes)]


@dataclass(frozen=True, kw_only=True)
class ChatAsked:
    """An answer that is wanted.

    Attributes:
        model: whose.
        messages: up to where it answers.
        most: its subwords at most.
        temperature: 0 takes the most probable subword.
        top_p: draws among the most probable subwords that have this share together.
        seed: of the draws; None draws anew each time.
    """

    model: str
    messages: list[Said]
    most: int = USUAL_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class _Body:
    model: str
    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    n: Any = field(default=None)
    stream: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    logprobs: Any = None
    stop: Any = None
    tools: Any = None
    response_format: Any = None


def read_chat_asked(content: bytes, most_tokens: int) -> ChatAsked:
    """What a body asks.

    Args:
        content: the body.
        most_tokens: of an answer, that may be asked for.

    Raises:
        DataError: one sentence with the field, its value and what was expected.
    """
    try:
        given = parse_json_object(content)
        require_at_most("messages", given.get("messages"), MOST_MESSAGES, "the last of the chat")
        body = read_dataclass(_Body, {name: value for name, value in given.items() if name not in _PASSED_OVER})
    except DataError as error:
        raise DataError(f"the body: {error}") from error
    for name, neutral in _NEUTRAL.items():
        value = getattr(body, name)
        if not any(type(value) is type(each) and value == each for each in (*neutral, *map(_as_float, neutral))):
            raise DataError(f"{name} is {shown(value)}, which is not offered here; leave it out")
    temperature, top_p = _or(body.temperature, 0.0), _or(body.top_p, 1.0)
    if not (math.isfinite(temperature) and 0 <= temperature <= 2):
        raise DataError(f"temperature is {shown(body.temperature)}; it must be within 0 to 2")
    if not 0 < top_p <= 1:
        raise DataError(f"top_p is {shown(body.top_p)}; it must be above 0 and at most 1")
    if not 1 <= len(body.messages) <= MOST_MESSAGES:
        raise DataError(f"messages has {len(body.messages)} of them; give 1 to {MOST_MESSAGES}")
    messages = [_said(message, f"messages[{i}]") for i, message in enumerate(body.messages)]
    if messages[-1].role != "user":
        raise DataError(f"messages ends with one of {messages[-1].role}; let the last one be the user's")
    if sum(len(said.images) for said in messages) > MOST_IMAGES:
        raise DataError(f"messages has more than {MOST_IMAGES} images; send fewer")
    seed = None if body.seed is None else body.seed % 2**63
    return ChatAsked(
        model=body.model,
        messages=messages,
        most=_most(body, most_tokens),
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )


def _most(body: _Body, most_tokens: int) -> int:
    most = body.max_completion_tokens if body.max_tokens is None else body.max_tokens
    if most is None:
        return min(USUAL_TOKENS, most_tokens)
    if most < 1:
        raise DataError(f"max_tokens is {shown(most)}; it must be at least 1")
    if most > most_tokens:
        raise DataError(
            f"max_tokens is {shown(most)}, and this service answers with at most {most_tokens}; ask for no more, or "
            "serve with another --max_tokens"
        )
    return most


def _said(message: dict[str, Any], where: str) -> Said:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f"{where}.role is {shown(role)}; give system, user or assistant")
    if isinstance(content, str):
        return Said(_ROLES[role], (content,))
    if not isinstance(content, list) or not content:
        raise DataError(f"{where}.content is {shown(content)}; give a text, or a list of parts")
    require_at_most(f"{where}.content", content, MOST_PARTS, "several texts in one")
    return Said(_ROLES[role], tuple(_part(part, f"{where}.content[{i}]") for i, part in enumerate(content)))


def _part(part: Any, where: str) -> str | bytes:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind != "image_url":
        raise DataError(f"{where} is {shown(part)}; give a part of type text or image_url")
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given
    opened = _DATA_URL.match(url) if isinstance(url, str) else None
    if opened is None or not isinstance(url, str):
        raise DataError(
            f"{where}.image_url is {shown(url)}; send the image itself, as data:image/png;base64,... (or jpeg, webp)"
        )
    try:
        return base64.b64decode(url[opened.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{where}.image_url is no base64 ({error}); encode the image anew") from error


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value


def _as_float(value: Any) -> Any:
    return float(value) if type(value) is int else value
