"""Chat data as a trainer needs it: read whole, checked row by row, in subwords."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemma_metamon.errors import DataError
from gemma_metamon.language.data.validation import FileCheck, Messages, RowError, checked_rows
from gemma_metamon.language.telling.prompts import BLANK, HISTORY, SYSTEM_REASONING
from gemma_metamon.language.tokenizers import encode_answers, encode_prompts
from gemma_metamon.strict_json import shown_path

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Chat:
    """A decision.

    Attributes:
        messages: the chat, with its answer at the end.
        legal: the names of the legal choices; empty for a row in Gemini's shape, which does not tell them.
        choice: the one that was made; "" where the row does not tell.
        advantages: of each legal choice, as critics see it; empty where the row does not tell.
        earned: what the battle gave after the answer that a model drew; None of recorded decisions.
        in_json: whether answers are JSON objects, as those to pictures are.
    """

    messages: Messages
    legal: tuple[str, ...] = ()
    choice: str = ""
    advantages: tuple[float, ...] = ()
    earned: float | None = None
    in_json: bool = False


@dataclass(frozen=True, kw_only=True)
class PromptForm:
    """How the prompts are told that a model was trained on: it is to play with the same.

    Attributes:
        history: decisions before that are told.
        reasoning: whether its answers say why.
        blank: whether the battle is left out.
    """

    history: int = HISTORY
    reasoning: bool = False
    blank: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """A chat in subwords.

    Attributes:
        chat: in words.
        prompt: up to the answer.
        answer: with the mark that ends it.
        pictures: that are in it.
        row: its number in the data, from 1; 0 of a chat that is not of any.
    """

    chat: Chat
    prompt: list[int]
    answer: list[int]
    pictures: tuple[Path, ...] = ()
    row: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def read_chats(path: Path) -> list[Chat]:
    """The chats of a file of `chat export`.

    Raises:
        MissingFileError: no such file.
        ConfigError: another suffix than chat data has.
        DataError: a row that is no chat, or whose answer is not legal; or no row at all.
    """
    chats = []
    for place, row, messages in sound_rows(path):
        if "images" in row:
            raise DataError(f"{place} has pictures; give rows of gemma-metamon chat export, in words")
        told = tuple(row.get("legal", ())), str(row.get("choice", "")), tuple(row.get("advantages") or ())
        chats.append(Chat(messages, *told))
    if not chats:
        raise DataError(f"{shown_path(path)} holds no chat; make one with gemma-metamon chat export")
    return chats


def sound_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any], Messages]]:
    """Of each row of a file of chat data: where it stands, its fields, and its chat.

    Raises:
        MissingFileError: no such file.
        ConfigError: another suffix than chat data has.
        DataError: a row that is no chat, or whose answer is not legal.
    """
    for named, row, messages in checked_rows(FileCheck(path)):
        place = f"{shown_path(path)}, {named.removeprefix(path.name).strip()}"
        if isinstance(messages, RowError):
            raise DataError(
                f"{place}: {messages}; see all that is wrong with gemma-metamon chat validate"
            ) from messages
        yield place, row, messages


def form_of(chats: Sequence[Chat]) -> PromptForm:
    """How these chats are told."""
    told = (sum(line.startswith("Turn ") for line in chat.messages[-2]["content"].splitlines()) for chat in chats)
    first = chats[0].messages
    return PromptForm(
        history=max(told),
        reasoning=first[0]["content"] == SYSTEM_REASONING,
        blank=first[-2]["content"] == BLANK,
    )


def encode(tokenizer: Any, chats: Sequence[Chat], context: int) -> tuple[list[Example], int]:
    """The chats in subwords, and how many were set aside because they are longer than the context."""
    fitting: list[Example] = []
    for first in range(0, len(chats), _BATCH):
        batch = chats[first : first + _BATCH]
        prompts = encode_prompts(tokenizer, [chat.messages[:-1] for chat in batch])
        answers = encode_answers(tokenizer, [chat.messages[-1]["content"] for chat in batch])
        for row, told in enumerate(zip(batch, prompts, answers, strict=True), first + 1):
            example = Example(*told, row=row)
            if len(example) <= context:
                fitting.append(example)
    return fitting, len(chats) - len(fitting)
