"""JSON that somebody else wrote: what is wrong with it becomes a DataError, and nothing else.

Python's own reader lets NaN and Infinity pass, makes an infinity of 1e999, keeps the last of two equal names, reads
UTF-16, and ends in a RecursionError or a bare ValueError where lists lie too deep or a number has too many digits.
"""

import dataclasses
import functools
import json
import re
import reprlib
import stat
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, TypeVar

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


class UnknownFieldError(DataError):
    """A field that a dataclass does not have: misspelled, or of a newer version of this package."""


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


def read_dataclass(cls: type[Built], value: object) -> Built:
    """A dataclass from a JSON object, as `parse_json` gives it: each field has the type that it is annotated with.

    Fields may be str, bool, int (never a bool), float (a whole number may be one), Count, None, Any, Literal, lists,
    tuples (a JSON list), dict[str, ...], other dataclasses, and unions of these. A field with a default may be missing.

    Raises:
        DataError: a field that is missing, unknown, or of another type. It is named by its place, as in
            "pairs[1].wins is True; expected a count". So is a dataclass that refuses its fields with a DataError.
    """
    return typing.cast("Built", _read(_options(cls), value, None))


Count: TypeAlias = Annotated[int, "a count"]
"""An int that is 0 or more, and that JSON readers of all languages hold exactly."""


_Where: TypeAlias = "tuple[_Where, str | int] | None"
"""A place in the file: what it lies in, and its name or number there; None is the whole. A text only where it is told,
because most are never."""


class _Option(typing.NamedTuple):
    """One of the types that a field may have, taken apart: once, and not for every value.

    `inner` are the options of what lies in a list, an object or a tuple, for each of its arguments.
    """

    hint: Any
    accepts: Callable[[Any], bool]
    origin: Any
    inner: tuple[Any, ...]


_Field: TypeAlias = "tuple[tuple[_Option, ...], bool]"
"""The types that a field may have, and whether it must be there."""


def _read(options: tuple[_Option, ...], value: Any, where: _Where) -> Any:
    """The value as one of these types has it; `where` is its place."""
    chosen = next((option for option in options if option.accepts(value)), None)
    if chosen is None:
        expected = " or ".join(_described(option.hint) for option in options)
        raise DataError(f"{_told(where) or 'it'} is {shown(value)}; expected {expected}")
    origin, inner = chosen.origin, chosen.inner
    if origin is None:
        return value
    if origin is _FIELDS:
        return _build(chosen.hint, _read_fields(_fields_of(chosen.hint), value, where), where)
    if origin is dict:
        return {key: _read(inner[1], entry, (where, key)) for key, entry in value.items()}
    if origin is list:
        return [_read(inner[0], entry, (where, i)) for i, entry in enumerate(value)]
    each = inner if len(inner) == len(value) else inner[:1] * len(value)
    return tuple(_read(own, entry, (where, i)) for i, (own, entry) in enumerate(zip(each, value, strict=True)))


def _build(cls: Any, fields: dict[str, Any], where: _Where) -> Any:
    try:
        return cls(**fields)
    except DataError as error:
        if where is None:
            raise
        raise DataError(f"{_told(where)}: {error}") from error


def _read_fields(fields: Mapping[str, _Field], value: dict[str, Any], where: _Where) -> dict[str, Any]:
    for name, (_, needed) in fields.items():
        if needed and name not in value:
            raise DataError(f"{_told((where, name))} is missing")
    for name in value:
        if name not in fields:
            raise UnknownFieldError(f"{_told((where, name))} is unknown")
    return {name: _read(fields[name][0], entry, (where, name)) for name, entry in value.items()}


@functools.cache
def _fields_of(cls: Any) -> dict[str, _Field]:
    hints = typing.get_type_hints(cls, include_extras=True)
    absent = dataclasses.MISSING
    fields = [field for field in dataclasses.fields(cls) if field.init]
    return {
        field.name: (_options(hints[field.name]), field.default is field.default_factory is absent) for field in fields
    }


def _told(where: _Where) -> str:
    """A place as a message names it, "pairs[1].wins"; "" for the whole."""
    parts = list[str | int]()
    while where is not None:
        where, part = where
        parts.append(part)
    told = ""
    for part in reversed(parts):
        if isinstance(part, int):
            told = f"{told}[{part}]"
        elif part.isidentifier():
            told = f"{told}.{part}" if told else part
        else:
            told = f"{told}[{shown(part)}]"
    return told


def _options(hint: Any) -> tuple[_Option, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return tuple(map(_option, typing.get_args(hint) if is_union else (hint,)))


def _option(hint: Any) -> _Option:
    """What lies in a list or an object is not looked at by `accepts`."""
    if hint in _SCALARS:
        return _Option(hint, _SCALARS[hint][1], None, ())
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return _Option(hint, functools.partial(_is_one_of, args), None, ())
    if origin is None:
        return _Option(hint, lambda value: type(value) is dict, _FIELDS if dataclasses.is_dataclass(hint) else None, ())
    if origin is tuple and args[1:] == (...,):
        return _Option(hint, lambda value: type(value) is list, tuple, (_options(args[0]),))
    inner = tuple(map(_options, args))
    if origin is tuple:
        return _Option(hint, lambda value: type(value) is list and len(value) == len(args), tuple, inner)
    kind = list if origin is list else dict
    return _Option(hint, lambda value: type(value) is kind, kind, inner)


def _is_one_of(options: tuple[Any, ...], value: Any) -> bool:
    return any(type(value) is type(option) and value == option for option in options)


def _described(hint: Any) -> str:
    if hint in _SCALARS:
        return _SCALARS[hint][0]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(map(shown, args))
    if origin is tuple and args[1:] != (...,):
        return f"a list of {len(args)}"
    return "a list" if origin in (list, tuple) else "an object"


_FIELDS: Final = object()
"""Stands for the origin of a dataclass, as `list` is that of `list[str]`."""
_SCALARS: Final[dict[Any, tuple[str, Callable[[Any], bool]]]] = {
    Any: ("anything", lambda value: True),
    types.NoneType: ("null", lambda value: value is None),
    str: ("a string", lambda value: type(value) is str),
    bool: ("true or false", lambda value: type(value) is bool),
    int: ("a whole number", lambda value: type(value) is int),
    float: ("a number", lambda value: type(value) is float or (type(value) is int and abs(value) < 2**53)),
    Count: ("a count", lambda value: type(value) is int and 0 <= value < 2**53),
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


def why_no_picture(error: Exception) -> str:
    """Why a picture cannot be read, as a part of a sentence that names its file."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # it says which object in memory
        return "it is no picture of a known kind"
    return on_one_line(error.strerror if isinstance(error, OSError) and error.strerror else error)


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
