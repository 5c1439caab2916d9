"""Chats answered by a model of ours, those that come together in one batch where nothing is drawn."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jinja2
import torch

from gemma_metamon.errors import DataError
from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.tokenizers import END_OF_TURN, START_OF_TURN, encode_prompts
from gemma_metamon.serving.chat_bodies import MOST_IMAGES, ChatAsked, Said, read_chat_asked
from gemma_metamon.serving.pictures import opened
from gemma_metamon.showdown.players.policies import Policy
from gemma_metamon.strict_json import on_one_line, shown

if TYPE_CHECKING:
    from gemma_metamon.vision.models import SeeingModel

MOST_AT_ONCE: Final = 16
MOST_TOKENS: Final = 2048
"""Of an answer, unless a service is told otherwise: the model answers nobody else meanwhile."""


@dataclass
class _Prompt:
    ids: list[int]
    pixels: torch.Tensor | None
    asked: ChatAsked
    most: int


@dataclass(frozen=True)
class Written:
    """An answer: its text, its subwords, and whether the bound cut it off."""

    text: str
    tokens: int
    cut: bool


class _Places:
    """So many of them. Who takes several waits until all are free, and is overtaken by nobody who takes any."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        held = 0
        try:
            if count:
                async with self._turn:
                    while held < count:
                        await self._free.acquire()
                        held += 1
            yield
        finally:
            for _ in range(held):
                self._free.release()


class Writer:
    """Answers chats. All calls come from one event loop; the model is used in its policy's thread.

    Args:
        chat: the model.
        policy: the one that plays with it.
        name: which requests must call it by.
        gather_s: how long the first chat of a batch waits for others.
        most_tokens: of an answer, that may be asked for.
    """

    def __init__(
        self,
        chat: ChatModel,
        policy: Policy[Any, Any],
        name: str,
        gather_s: float = 0.0,
        most_tokens: int = MOST_TOKENS,
    ) -> None:
        self._chat, self._policy, self._name = chat, policy, name
        self._gather_s, self._most_tokens = gather_s, most_tokens
        self._seeing: SeeingModel | None = _seeing(chat)
        self._marks = _marks(chat, self._seeing)
        self._most_characters = chat.context * max(map(len, chat.tokenizer.get_vocab()))  # no subword has more
        self._waiting: list[tuple[_Prompt, asyncio.Future[Written]]] = []
        self._work: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._images = _Places(MOST_IMAGES)

    async def complete(self, content: bytes) -> tuple[dict[str, Any], int, int]:
        """The body of an answer to a body, and how many subwords were read and written.

        Raises:
            DataError: a chat that cannot be answered.
        """
        # in a thread, so that others are answered meanwhile; one at a time, so that memory for one is enough
        async with self._reading:
            asked = await asyncio.to_thread(self._asked, content)
        async with self._images.taken(sum(len(said.images) for said in asked.messages)):
            async with self._reading:
                prompt = await asyncio.to_thread(self._read, asked)
            written = await self._in_next_batch(prompt)
        n_read = len(prompt.ids)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": written.text},
            "finish_reason": "length" if written.cut else "stop",
            "logprobs": None,
        }
        usage = {
            "prompt_tokens": n_read,
            "completion_tokens": written.tokens,
            "total_tokens": n_read + written.tokens,
        }
        body = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._name,
            "choices": [choice],
            "usage": usage,
        }
        return body, n_read, written.tokens

    def _asked(self, content: bytes) -> ChatAsked:
        asked = read_chat_asked(content, self._most_tokens)
        if asked.model != self._name:
            raise DataError(f"model is {shown(asked.model)}; the one that is served is {self._name}")
        return asked

    def _read(self, asked: ChatAsked) -> _Prompt:
        for i, said in enumerate(asked.messages):
            marks = [mark for mark in self._marks if mark in said.text]
            if marks:
                raise DataError(f"messages[{i}] holds {marks[0]}, a mark of the model's own; leave it out")
        characters = sum(len(said.text.strip()) for said in asked.messages)
        if characters > self._most_characters:  # which are known at once; millions of subwords take half a minute
            raise DataError(
                f"messages has {characters} characters, and the model's context is {self._chat.context} subwords, the "
                "answer included; send less"
            )
        images = [image for said in asked.messages for image in said.images]
        if images and self._seeing is None:
            raise DataError(f"messages holds an image, and {self._name} does not see; serve vlm:DIR for that")
        pictures = opened(images)
        try:
            if self._seeing is None:
                chat = [{"role": said.role, "content": said.text} for said in asked.messages]
                (ids,) = encode_prompts(self._chat.tokenizer, [chat])
            else:
                ids = self._seeing.prompt_ids([_seen(said) for said in asked.messages])
        except jinja2.TemplateError as error:
            raise DataError(f"messages are none that the model's template takes: {on_one_line(error)}") from error
        room = self._chat.context - len(ids)
        if room < 1:
            raise DataError(
                f"messages has {len(ids)} subwords, and the model's context is {self._chat.context}, the answer "
                "included; send less"
            )
        seen = [] if self._seeing is None else [self._seeing.look([picture]) for picture in pictures]
        pixels = torch.cat(seen) if seen else None
        return _Prompt(ids, pixels, asked, min(asked.most, room))

    async def _in_next_batch(self, prompt: _Prompt) -> Written:
        answer: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._waiting.append((prompt, answer))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        await asyncio.sleep(self._gather_s)
        while self._waiting:
            batch = self._next_batch()
            try:
                written = await self._policy.ask_in_policy_thread(self._write, [prompt for prompt, _ in batch])
            except Exception as error:  # noqa: BLE001 it belongs to those who wait for it
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), own in zip(batch, written, strict=True):
                if not answer.done():
                    answer.set_result(own)

    def _next_batch(self) -> list[tuple[_Prompt, "asyncio.Future[Written]"]]:
        """The first that waits, and all that can be written beside it: nothing is drawn, and all see or none does."""
        first, *others = self._waiting
        batch, left = [first], list[tuple[_Prompt, asyncio.Future[Written]]]()
        for each in others:
            fits = not first[0].asked.temperature and not each[0].asked.temperature
            fits = fits and (first[0].pixels is None) == (each[0].pixels is None) and len(batch) < MOST_AT_ONCE
            (batch if fits else left).append(each)
        self._waiting = left
        return batch

    def _write(self, prompts: Sequence[_Prompt]) -> list[Written]:
        chat, asked = self._chat, prompts[0].asked
        width = max(len(prompt.ids) for prompt in prompts)
        pad = chat.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(prompt.ids)) + prompt.ids for prompt in prompts], device=chat.device)
        mask = torch.tensor(
            [[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts], device=chat.device
        )
        seen = [prompt.pixels for prompt in prompts if prompt.pixels is not None]
        inputs = chat.inputs_of(ids, seen) if seen or self._seeing is None else {"input_ids": ids}
        drawing: dict[str, Any] = {"do_sample": False}
        if asked.temperature:
            drawing = {"do_sample": True, "temperature": asked.temperature, "top_p": asked.top_p, "top_k": 0}
        with torch.inference_mode(), torch.random.fork_rng():
            if asked.seed is None:
                torch.seed()
            else:
                torch.manual_seed(asked.seed)
            rows = chat.model.generate(
                **inputs, attention_mask=mask, max_new_tokens=max(prompt.most for prompt in prompts), **drawing
            )
        return [self._written(row, prompt.most) for row, prompt in zip(rows[:, width:].tolist(), prompts, strict=True)]

    def _written(self, ids: Sequence[int], most: int) -> Written:
        ends = self._chat.gemma.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        length = next((i for i, subword in enumerate(ids[:most]) if subword in ends), None)
        own = list(ids[: most if length is None else length])
        return Written(str(self._chat.tokenizer.decode(own, skip_special_tokens=True)), len(own), length is None)


def _seeing(chat: ChatModel) -> "SeeingModel | None":
    try:
        from gemma_metamon.vision.models import SeeingModel
    except ImportError:  # without the extra `vision` no model sees
        return None
    return chat if isinstance(chat, SeeingModel) else None


def _marks(chat: ChatModel, seeing: "SeeingModel | None") -> list[str]:
    """What has a meaning of its own in a prompt, so that it must not come from outside."""
    marks = {START_OF_TURN, END_OF_TURN, *map(str, chat.tokenizer.all_special_tokens)}
    if seeing is not None:
        marks |= {str(getattr(chat.tokenizer, name)) for name in ("boi_token", "eoi_token", "image_token")}
    return sorted(marks)


def _seen(said: Said) -> dict[str, Any]:
    parts = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in said.parts]
    return {"role": said.role, "content": parts}
