"""JSON that somebody else wrote: what is wrong with it becomes a DataError, and nothing else.

Python's own reader lets NaN and Infinity pass, makes an infinity of 1e999, keeps the last of two equal names, reads
UTF-16, and ends in a RecursionError or a bare ValueError where lists lie too deep or a number has too many digits.
"""

import json
import re
import reprlib
import stat
import typing
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from gemma_metamon.errors import DataError, MissingFileError

MAX_BYTES: Final = 256 * 2**20
"""More than any file of ours but battles, which have a bound of their own, and tensors."""

MAX_SHOWN: Final = 80
"""Characters of a value that a message quotes."""

Built = TypeVar("Built")

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 2


class _TooManyDigitsError(DataError):
    """Not a fault of the text, but Python reads no integer of more than some thousand digits."""


def parse_json(content: bytes | str, *, finite: bool = True) -> Any:
    """The value that the text holds.

    Args:
        content: UTF-8.
        finite: refuses NaN, infinities and integers of more digits than Python reads. Otherwise they are left to a
            reader that checks the type and range of each number, and can name the field.

    Raises:
        DataError: "not JSON: ..." with the reason. A name that stands twice in an object is one.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"not JSON: not UTF-8 at byte {error.start}") from error
    try:
        value = _decode(text, _FINITE if finite else _LENIENT)
    except _TooManyDigitsError:
        if finite:
            raise
        value = _decode(text, _HUGE)
    if _SURROGATE.search(text):
        _require_unicode(value)
    return value


def _decode(text: str, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(text)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise DataError("not JSON: its lists and objects lie too deep in one another") from error
    except ValueError as error:  # the one that is left
        raise _TooManyDigitsError("not JSON: an integer has more digits than can be read") from error


def _require_unicode(value: Any) -> None:
    """Half of a surrogate pair can be written with JSON's escapes, but in no file and on no screen."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError("not JSON: a string holds half of a surrogate pair") from error
    except RecursionError as error:
        raise DataError("not JSON: its lists and objects lie too deep in one another") from error


def parse_json_object(content: bytes | str) -> dict[str, Any]:
    """`parse_json` of an object. Raises DataError for another value."""
    value = parse_json(content)
    if not isinstance(value, dict):
        raise DataError(f"holds {shown(value)}; expected a JSON object")
    return value


def read_json(path: Path) -> Any:
    """`parse_json` of a file. Raises MissingFileError where there is none, DataError where it is damaged."""
    content = read_bounded(path, MAX_BYTES)
    try:
        return parse_json(content)
    except DataError as error:
        raise DataError(f"{shown_path(path)} is {error}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """`parse_json_object` of a file. Raises as `read_json`."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{shown_path(path)} holds {shown(value)}; expected a JSON object")
    return value


def build_from_json(cls: type[Built], value: object) -> Built:
    """A dataclass of strings, counts and dict[str, int] from a JSON object with its fields; counts are 0 or more.

    Raises DataError naming the field that is missing, unknown or of another type.
    """
    if not isinstance(value, dict):
        raise DataError(f"found {shown(value)}; expected an object for {cls.__name__}")
    hints = typing.get_type_hints(cls)
    for name in [*hints, *value]:
        if name not in value:
            raise DataError(f"{cls.__name__}.{name} is missing")
        if name not in hints:
            raise DataError(f"{cls.__name__} has no {shown(name)}")
        expected, fits = _FIELDS[hints[name]]
        if not fits(value[name]):
            raise DataError(f"{cls.__name__}.{name} is {shown(value[name])}; expected {expected}")
    return cls(**value)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


_FIELDS: Final[dict[Any, tuple[str, Callable[[Any], bool]]]] = {
    str: ("a string", lambda value: type(value) is str),
    int: ("a count", _is_count),
    dict[str, int]: ("counts by word", lambda value: type(value) is dict and all(map(_is_count, value.values()))),
}


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """A file's content. Raises MissingFileError where there is none, DataError where it is too large or unreadable."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a folder, or a pipe, which would be waited for
            raise DataError(f"{shown_path(path)}: is no file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"no file {shown_path(path)}") from error
    except OSError as error:
        raise DataError(f"{shown_path(path)}: cannot be read ({error.strerror})") from error
    if len(content) > max_bytes:
        raise DataError(f"{shown_path(path)}: has more than {max_bytes} bytes")
    return content


def shown(value: object, *, none: str = "null") -> str:
    """A value as a message quotes it: in one line, cut where it is long; `none` is what None is called there."""
    try:
        text = none if value is None else _SHORT.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    text = text if text.isprintable() else " ".join(text.split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def on_one_line(text: object) -> str:
    """What a file or another library says, as a part of a sentence: its controls as escapes, its middle left out."""
    line = str(text)
    line = line if len(line) <= 300 else f"{line[:200]} ... {line[-90:]}"
    return _escaped(line)


def shown_path(path: Path | str | bytes) -> str:
    """A path as a message names it: what no terminal shows as its escape, a byte that is no UTF-8 as a byte."""
    return _escaped(path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else str(path))


def _escaped(text: str) -> str:
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _finite(text: str) -> float:
    value = float(text)
    if value - value:  # infinity less itself is NaN, which counts as true
        raise DataError(f"not JSON: the number {shown(text)} is too large")
    return value


def _refuse_constant(name: str) -> float:
    raise DataError(f"not JSON: {name} is no number of JSON's")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise DataError(f"not JSON: the name {shown(twice)} stands twice in one object")
    return read


class _Digits(str):
    """An integer that Python does not read; of no type that a reader asks for."""

    __slots__ = ()
    __repr__ = str.__str__


def _huge(digits: str) -> int | _Digits:
    return int(digits) if len(digits) < 1000 else _Digits(digits)


_FINITE: Final = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite, parse_constant=_refuse_constant)
_LENIENT: Final = json.JSONDecoder(object_pairs_hook=_once)
_HUGE: Final = json.JSONDecoder(object_pairs_hook=_once, parse_int=_huge)
