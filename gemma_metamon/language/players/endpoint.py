"""Calls of an OpenAI-compatible endpoint: in time, with retries, within bounds, and never with its key in a word of it.

The calls themselves are made by OpenAI's own client, which knows what to try again and how long to wait (Retry-After
included). What comes back is read here, and as somebody else's: a page, half an answer or nothing may come from what
only looks like an endpoint.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import openai

from gemma_metamon.errors import ConfigError, DataError, ServerError
from gemma_metamon.language.players.settings import KEY_VARIABLE, ChatSettings
from gemma_metamon.results.schema import ChatUsageRow
from gemma_metamon.strict_json import on_one_line, parse_json_object

# they tell of every call, and some of what is in it
for _talker in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
    logging.getLogger(_talker).setLevel(logging.WARNING)

PATIENCE: Final = 3
"""So many calls may fail one after the other, each with its retries; then the endpoint is not asked any more."""
_FEW_RETRIES: Final = 2
"""Of the first call, for which somebody waits."""
_MAX_ANSWER: Final = 100_000
"""Characters of an answer that are read."""
_GREETING: Final = [{"role": "user", "content": "Answer with the one word: ready"}]


class NoAnswerError(ServerError):
    """The endpoint gave no answer. `lasting` says whether it would refuse every other call, too."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class NotAskedError(NoAnswerError):
    """The endpoint is not asked any more; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a model said: its answer, what it thought before it apart from that, and whether it was cut off."""

    text: str
    thought: str = ""
    cut: bool = False


@dataclass
class Usage:
    """What was taken so far; see `ChatUsageRow`."""

    decisions: int = 0
    calls: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    repairs: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)


class Endpoint:
    """One model, asked for all battles of its player. All calls come from one event loop.

    Args:
        settings: which model, and how it is asked.

    Raises:
        ConfigError: as `ChatSettings.read_key`.
    """

    def __init__(self, settings: ChatSettings) -> None:
        self.settings = settings
        self.usage = Usage()
        self.ended: str | None = None
        self._key = settings.read_key()
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=settings.url, timeout=settings.timeout_s, max_retries=settings.retries
        )
        # kept, for each copy would look at this machine anew at its first call
        self._impatient_client = self._client.with_options(max_retries=min(settings.retries, _FEW_RETRIES))
        self.close = self._client.close  # of the client alone, so that it can be called when this is gone
        self._gate = asyncio.Semaphore(settings.at_once)
        self._length_field = "max_tokens"
        self._failures = 0
        self._failed_at = 0.0

    def row(self) -> ChatUsageRow:
        """For results.json."""
        return ChatUsageRow(
            **{**vars(self.usage), "fallbacks": dict(self.usage.fallbacks.most_common())}, ended=self.ended
        )

    async def check(self) -> None:
        """One small call, before battles that need hundreds: an address, a key or a model that is wrong is told here.

        Raises:
            ServerError: there is no answer.
            ConfigError: the endpoint does not count tokens, and they are to be bounded.
        """
        tokens_before = self.usage.prompt_tokens
        try:
            await self._call(self._impatient_client, _GREETING, tokens=16)
        except NoAnswerError as error:
            if "max_completion_tokens" not in str(error):
                raise
            self._length_field = "max_completion_tokens"  # as OpenAI's own models that think want it
            await self._call(self._impatient_client, _GREETING, tokens=16)
        if self.settings.max_tokens is not None and self.usage.prompt_tokens == tokens_before:
            raise ConfigError(f"{self.settings.name} does not say how many tokens it took; bound its max_calls instead")

    async def ask(self, messages: Sequence[dict[str, str]]) -> Answer:
        """The model's answer to these messages.

        Raises:
            NotAskedError: it may not be asked any more, as `ended` says.
            NoAnswerError: none came.
        """
        async with self._gate:
            self._look_at_bounds()
            if self.ended is not None:
                raise NotAskedError(self.ended)
            began_at = time.monotonic()
            try:
                answer = await self._call(self._client, messages, tokens=self.settings.answer_tokens)
            except NoAnswerError as error:
                self._note_failure(began_at, error)
                raise
            self._failures = 0
            return answer

    def _look_at_bounds(self) -> None:
        tokens = self.usage.prompt_tokens + self.usage.completion_tokens
        for name, taken in (("max_calls", self.usage.calls), ("max_tokens", tokens)):
            bound = getattr(self.settings, name)
            if bound is not None and taken >= bound and self.ended is None:
                self.ended = f"{self.settings.name} has taken its {name}={bound}"

    def _note_failure(self, began_at: float, error: NoAnswerError) -> None:
        """Of calls that failed side by side, the first alone counts: it is one and the same failure."""
        if began_at >= self._failed_at:
            self._failures += 1
            self._failed_at = time.monotonic()
        if self.ended is None and (error.lasting or self._failures >= PATIENCE):
            self.ended = str(error)

    async def _call(self, client: openai.AsyncOpenAI, messages: Sequence[dict[str, str]], *, tokens: int) -> Answer:
        body: dict[str, Any] = {"messages": list(messages), "model": self.settings.model, self._length_field: tokens}
        if self.settings.temperature is not None:
            body["temperature"] = self.settings.temperature
        self.usage.calls += 1
        try:
            # what its own reader makes of a page or of other JSON is no error, but some text or empty fields
            raw = await asyncio.wait_for(
                client.chat.completions.with_raw_response.create(**body), self.settings.timeout_s
            )
        except (asyncio.TimeoutError, openai.APITimeoutError):
            raise self._error(
                f"did not answer within {self.settings.timeout_s:g} s; give it longer by timeout_s, or look whether it "
                "works"
            ) from None
        except openai.APIStatusError as error:
            self._count_retries(error.request)
            raise self._refusal(error) from None
        except openai.APIConnectionError as error:
            self._count_retries(error.request)
            why = self._hidden(error.__cause__ or error) or type(error.__cause__).__name__
            raise self._error(f"cannot be reached, or cuts the connection ({why}); does it run, and there?") from None
        except openai.OpenAIError as error:
            raise self._error(f"cannot be asked: {self._hidden(error)}") from None
        self._count_retries(raw.http_request)
        return self._read(raw.text)

    def _count_retries(self, request: Any) -> None:
        taken = int(request.headers.get("x-stainless-retry-count", 0))
        self.usage.retries += taken
        self.usage.calls += taken

    def _read(self, text: str) -> Answer:
        """Of the body of a response."""
        try:
            content = parse_json_object(text)
        except DataError:
            kind = "with a page" if text.lstrip()[:1] == "<" else "with what is no JSON"
            raise self._error(f"answers {kind}, as no chat endpoint does; {_ENDS}", lasting=True) from None
        usage = content.get("usage")
        if isinstance(usage, dict):
            self.usage.prompt_tokens += _count(usage.get("prompt_tokens"))
            self.usage.completion_tokens += _count(usage.get("completion_tokens"))
        choices = content.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        message = first.get("message") if isinstance(first, dict) else None
        if not isinstance(first, dict) or not isinstance(message, dict):
            raise self._error(f"answers with JSON that is no chat completion, {self._hidden(text)}; {_ENDS}")
        return Answer(
            text=self._without_key(_text(message, "content")),
            thought=self._without_key(next(filter(None, (_text(message, name) for name in _THOUGHTS)), "")),
            cut=first.get("finish_reason") == "length",
        )

    def _refusal(self, error: openai.APIStatusError) -> NoAnswerError:
        """What a status says, in the words of whoever gave it."""
        code, said = error.status_code, self._hidden(_message(error))
        if code in (401, 403):
            variable = self.settings.key_from or KEY_VARIABLE
            if self._key is not None:
                return self._error(f"refuses the key in {variable} ({code}); put one there that it takes", lasting=True)
            mend = f"put one into {variable}"
            if self.settings.url.startswith("http:"):
                mend += f", and for http, where others may read it, say that it may be sent: key_from={variable}"
            return self._error(f"wants a key ({code}), and was sent none; {mend}", lasting=True)
        if code == 404:
            return self._error(f"has no such model, or is no chat endpoint (404: {said}); {_ENDS}", lasting=True)
        if code == 429:
            return self._error(f"is asked for too much (429: {said}); give fewer at_once, or look at your quota")
        if code >= 500:
            return self._error(f"fails ({code}: {said})")
        return self._error(f"refuses what it is asked ({code}: {said})")

    def _error(self, what: str, *, lasting: bool = False) -> NoAnswerError:
        return NoAnswerError(f"{self.settings.name} {what}", lasting=lasting)

    def _hidden(self, text: object) -> str:
        return on_one_line(self._without_key(str(text)))

    def _without_key(self, text: str) -> str:
        """What an endpoint says may repeat the key that it was sent; half of a surrogate pair can be in no file."""
        text = text if self._key is None else text.replace(self._key, "[key]")
        return text.encode("utf-8", "replace").decode()


_ENDS: Final = "the address ends before /chat/completions, as in http://127.0.0.1:8080/v1"
_THOUGHTS: Final = ("reasoning_content", "reasoning")
"""Where servers put what a model thought before its answer."""


def _text(message: dict[str, Any], name: str) -> str:
    """Of one field; "" where there is none, as of an answer that is all thinking."""
    value = message.get(name)
    return value[:_MAX_ANSWER] if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**40 else 0


def _message(error: openai.APIStatusError) -> str:
    """The message in the body's "error" object, or the body itself."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return said if isinstance(said, str) else error.response.text
