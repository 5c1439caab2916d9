"""A look at chat data before it is paid for: is every row a chat, is its answer legal, does it leak between files?

A file is read once, a row at a time; of each row two 64-bit numbers are kept. What is wrong with a row sets it aside,
with its place and the reason; the others are counted.
"""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.extras import require_extra
from gemma_metamon.language.data.row_files import ARROW, JSON_LINES, PARQUET, read_table
from gemma_metamon.language.data.rows import RESULTS, number_of
from gemma_metamon.language.telling.answers import AnswerError, parse_answer
from gemma_metamon.language.telling.json_answers import parse_json_answer
from gemma_metamon.language.telling.prompts import BLANK
from gemma_metamon.strict_json import on_one_line, parse_json, shown, shown_path, why_no_picture

MAX_LINE_BYTES: Final = 4 * 2**20
"""Of a row: a thousand times a usual one."""
MAX_EXAMPLES: Final = 3
_ROLES: Final = {"user": "user", "assistant": "assistant", "model": "assistant", "system": "system"}
Messages = list[dict[str, str]]


class RowError(DataError):
    """What is wrong with a row.

    Args:
        kind: of fault, in a few words; faults are counted by it.
        detail: what was found.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


@dataclass
class FileCheck:
    """What a file of rows holds.

    Attributes:
        path: the file.
        rows: that are right.
        wrong: how many are not, by kind of fault.
        examples: of each kind the first few, each with its line.
        labelled: rows whose answer is an expert's label.
        without_battle: rows that name no battle, as Gemini's shape does not: their answers' legality is not known.
        results: rows by result.
        formats: rows by format.
        marks: of each row, equal where the chats are, pictures included.
        battles: of each row that names one, equal where the battles are.
        pictures: that rows name, each looked at once: name -> its bytes' number, 0 for one that shows nothing.
    """

    path: Path
    rows: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    labelled: int = 0
    without_battle: int = 0
    results: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    marks: "array[int]" = field(default_factory=lambda: array("Q"))
    battles: "array[int]" = field(default_factory=lambda: array("Q"))
    pictures: dict[str, int] = field(default_factory=dict)

    @property
    def n_battles(self) -> int:
        """Different ones."""
        return len(np.unique(self.battles))

    def complain(self, place: str, error: RowError) -> None:
        """Counts a row that is wrong."""
        self.wrong[error.kind] += 1
        examples = self.examples.setdefault(error.kind, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(f"{place}: {on_one_line(error)}")


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Two files that have battles or chats in common."""

    first: Path
    second: Path
    battles: int
    chats: int


def check_file(path: Path, on_chat: Callable[[Messages], Any], on_wrong: Callable[[str, str], Any]) -> FileCheck:
    """Looks at every row of a file.

    Args:
        path: .jsonl, .arrow or .parquet.
        on_chat: is given the messages of each row that is right.
        on_wrong: is given the place and the reason of each that is not.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it has another suffix.
        DataError: it cannot be read as a table at all.
    """
    check = FileCheck(path)
    for place, _, messages in checked_rows(check):
        if isinstance(messages, RowError):
            check.complain(place, messages)
            on_wrong(place, str(messages))
            continue
        check.rows += 1
        on_chat(messages)
    return check


def checked_rows(check: FileCheck) -> "Iterator[tuple[str, Mapping[str, Any], Messages | RowError]]":
    """The place of each row of the check's file, the row, and its messages or what is wrong with it.

    What a right row tells besides is counted by the check. Raises as `check_file`.
    """
    for place, row in read_rows(check.path):
        if isinstance(row, RowError):
            yield place, {}, row
            continue
        found: Messages | RowError
        try:
            found = check_row(row, check)
        except RowError as error:
            found = error
        yield place, row, found


def check_row(row: Mapping[str, Any], check: FileCheck) -> Messages:
    """The messages of a row; what else it tells is counted. Raises RowError where something is wrong with it."""
    if "contents" in row:
        messages = _gemini_messages(row)
        check.without_battle += 1
    else:
        messages = _messages(row.get("messages"))
        _check_facts(row, messages)
        players = sorted(str(row.get(name) or "") for name in ("player", "opponent"))
        check.battles.append(number_of("\n".join([row["battle_id"], *players])))
        check.labelled += row.get("labelled") is True
        check.results[row["result"]] += 1
        check.formats[str(row.get("format") or "?")] += 1
    seen = _check_pictures(row, check) if "images" in row else []
    if messages[-2]["content"] != BLANK and 0 not in seen:  # blank ones are equal on purpose
        said = "\n".join(f"{m['role']}\n{m['content']}" for m in messages)
        check.marks.append(number_of(f"{said}{seen or ''}"))
    return messages


def _check_pictures(row: Mapping[str, Any], check: FileCheck) -> list[int]:
    """The numbers of a row's pictures, of which there are as many as places for them in its chat."""
    names = row["images"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise RowError("a picture is wrong", f"images is {shown(names)}; expected the names of files")
    contents = [message["content"] for message in row["messages"] if isinstance(message["content"], list)]
    places = sum(part.get("type") == "image" for content in contents for part in content)
    if places != len(names):
        raise RowError("a picture is wrong", f"{len(names)} images, and {places} places for one in the messages")
    for name in names:
        if name not in check.pictures:
            check.pictures[name] = _number_of_picture(check.path.parent / name)
    return [check.pictures[name] for name in names]


def _number_of_picture(path: Path) -> int:
    require_extra("vision", "a file of rows with pictures")
    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(BytesIO(content)) as image:
            colours = image.convert("RGB").getextrema()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RowError("a picture is wrong", f"{shown_path(path)} cannot be read ({why_no_picture(error)})") from error
    blank = all(least == most for least, most in colours)
    return 0 if blank else number_of(content.hex())


def find_duplicates(checks: list[FileCheck]) -> int:
    """How many rows of all files are equal to an earlier one."""
    marks = np.concatenate([np.array(check.marks, np.uint64) for check in checks])
    return len(marks) - len(np.unique(marks))


def find_overlaps(checks: list[FileCheck]) -> list[Overlap]:
    """The pairs of files that share a battle, whichever player's view, or a chat: what is trained on is then tested."""
    unique = [(check.path, np.unique(check.battles), np.unique(check.marks)) for check in checks]
    overlaps = []
    for (first, battles, marks), (second, others, other_marks) in combinations(unique, 2):
        shared = len(np.intersect1d(battles, others)), len(np.intersect1d(marks, other_marks))
        if any(shared):
            overlaps.append(Overlap(first=first, second=second, battles=shared[0], chats=shared[1]))
    return overlaps


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The place of each row, and the row: a mapping, or the RowError that stands for it.

    Raises:
        MissingFileError: no such file.
        ConfigError: a suffix of no chat data.
        DataError: a table that cannot be read.
    """
    if not path.is_file():
        raise MissingFileError(f"no file {shown_path(path)}; make one with gemma-metamon chat export or vlm export")
    if path.suffix == JSON_LINES:
        yield from _lines(path)
        return
    if path.suffix not in (ARROW, PARQUET):
        raise ConfigError(f"{shown_path(path)} ends in no {JSON_LINES}, {ARROW} or {PARQUET}; chat data does")
    try:
        for number, row in enumerate(read_table(path), 1):
            yield f"{path.name} row {number}", {name: value for name, value in row.items() if value is not None}
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{shown_path(path)} cannot be read as a table: {on_one_line(error)}") from error


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"{path.name} line {number}"
            if len(line) > MAX_LINE_BYTES:
                yield place, RowError("no JSON object", f"the line has more than {MAX_LINE_BYTES} bytes")
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)
                continue
            try:
                row = parse_json(line)
            except DataError as error:
                yield place, RowError("no JSON object", str(error))
                continue
            if isinstance(row, dict):
                yield place, row
            else:
                yield place, RowError("no JSON object", f"the line holds {shown(row)}")


def _messages(value: object) -> Messages:
    """A chat that begins with the system or the user, and ends with the assistant; user and assistant take turns."""
    if value is None:
        raise RowError("no chat", "the row has no messages, a list of a user's and an assistant's message")
    if not isinstance(value, list) or len(value) < 2:
        raise RowError("no chat", f"messages is {shown(value)}; expected a list of a user's and an assistant's message")
    messages = []
    for i, message in enumerate(value):
        role = message.get("role") if isinstance(message, dict) else None
        content = _text_of(message.get("content")) if isinstance(message, dict) else None
        if role not in ("system", "user", "assistant"):
            raise RowError("no chat", f"message {i + 1} is of {shown(role)}; expected system, user or assistant")
        if not isinstance(content, str) or not content.strip():
            raise RowError("no chat", f"message {i + 1} holds {shown(content)}; expected a text")
        messages.append({"role": str(role), "content": content})
    said = [message["role"] for message in messages]
    turns = said[1:] if said[0] == "system" else said
    if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
        raise RowError("no chat", f"the roles are {', '.join(said)[:80]}; expected user and assistant in turns")
    return messages


def _text_of(content: object) -> object:
    """The words of a message, which may stand in parts between pictures; what is no such list as it is."""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return content
    texts = [part.get("text") for part in content if part.get("type") == "text"]
    known = all(part.get("type") in ("text", "image") for part in content)
    return "\n".join(map(str, texts)) if known and all(isinstance(text, str) for text in texts) else content


def _gemini_messages(row: Mapping[str, Any]) -> Messages:
    told = []
    contents = row["contents"] if isinstance(row["contents"], list) else [row["contents"]]
    for entry in ([row["systemInstruction"]] if "systemInstruction" in row else []) + contents:
        parts = entry.get("parts") if isinstance(entry, dict) else None
        if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
            raise RowError("no chat", f"contents holds {shown(entry)}; expected a role and parts")
        texts = [part.get("text") for part in parts]
        text = "".join(texts) if all(isinstance(text, str) for text in texts) else None
        told.append({"role": _ROLES.get(entry.get("role")), "content": text})
    return _messages(told)


def _check_facts(row: Mapping[str, Any], messages: Messages) -> None:
    """What a row of ours tells of its battle, and whether its answer is one of the legal choices."""
    for name, kind, expected in (
        ("battle_id", str, "a text"),
        ("turn", int, "a whole number"),
        ("legal", list, "a list of choices"),
        ("result", str, f"one of {', '.join(RESULTS)}"),
    ):
        if type(row.get(name)) is not kind:
            raise RowError("a field is wrong", f"{name} is {shown(row.get(name))}; expected {expected}")
    legal = row["legal"]
    if row["result"] not in RESULTS:
        raise RowError("a field is wrong", f"result is {shown(row['result'])}; expected one of {', '.join(RESULTS)}")
    if not legal or not all(isinstance(choice, str) for choice in legal) or len(set(legal)) < len(legal):
        raise RowError("a field is wrong", f"legal is {shown(legal)}; expected different choices, at least one")
    advantages = row.get("advantages")
    if advantages is not None and not _are_numbers(advantages, len(legal)):
        raise RowError("a field is wrong", f"advantages is {shown(advantages)}; expected a number of each legal choice")
    try:
        parse = parse_json_answer if "images" in row else parse_answer
        action = parse(messages[-1]["content"], dict(enumerate(legal)))
    except AnswerError as error:
        raise RowError("the answer is not legal", str(error)) from error
    if row.get("choice", legal[action]) != legal[action]:
        raise RowError("the answer is not legal", f"choice is {shown(row['choice'])}, the answer {legal[action]}")


def _are_numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(each) in (int, float) and math.isfinite(each) for each in value)
    )
