"""What a sweep tries: a file of gin-like lines, each a binding or a flag of `train` with the values that it may have.

    # learning
    MetamonAMAGOExperiment.learning_rate = log(1e-4, 1e-2)     a float, drawn by its logarithm
    TformerTrajEncoder.dropout_ff = uniform(0.0, 0.2)          a float
    TformerTrajEncoder.n_layers = integer(1, 4)                both ends may be drawn
    MultiTaskAgent.fbc_filter_func = choice("@exp_filter", "@binary_filter")
    MultiTaskAgent.tau = 0.005                                 one value, for every trial
    --batch_size_per_gpu = log_integer(4, 64)

Nothing of it is run: values are Python's literals, and a text that begins with @ or % is gin's reference or macro.
"""

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.strict_json import MAX_SHOWN, read_bounded, shown, shown_path

MOST_BYTES: Final = 100_000
MOST_CHOICES: Final = 1000
_BINDING: Final = re.compile(r"(?:[A-Za-z_]\w*[./])*[A-Za-z_]\w*\.[A-Za-z_]\w*")
_FLAG: Final = re.compile(r"--[A-Za-z][\w-]*")
_RANGES: Final = ("uniform", "log", "integer", "log_integer")

Kind = Literal["uniform", "log", "integer", "log_integer", "choice"]


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that a sweep changes.

    Attributes:
        name: "Name.parameter" of gin, or "--flag" of train.
        kind: how it is drawn; a single value is a choice of one.
        low: of a range, both ends may be drawn.
        high: of a range.
        choices: as gin or the command line would write them.
    """

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()

    @property
    def is_fixed(self) -> bool:
        """Whether every trial has the same."""
        return len(self.choices) == 1

    @property
    def is_flag(self) -> bool:
        """Whether it is a flag of train, and no binding of gin."""
        return self.name.startswith("--")

    @property
    def is_whole(self) -> bool:
        """Whether what is drawn is a whole number."""
        return self.kind in ("integer", "log_integer")

    @property
    def is_log(self) -> bool:
        """Whether it is drawn by its logarithm."""
        return self.kind in ("log", "log_integer")

    def ends(self) -> tuple[str, ...]:
        """Values that show whether the others can be, too: both ends of a range, or every choice."""
        return self.choices if self.kind == "choice" else (self.written(self.low), self.written(self.high))

    def written(self, value: float) -> str:
        """A number of a range as gin or the command line writes it."""
        return str(int(value)) if self.is_whole else repr(float(value))


def read_space(path: Path) -> tuple[Dimension, ...]:
    """The dimensions of a sweep file, in its order.

    Raises:
        MissingFileError: there is no such file.
        DataError: a line that is none of the above; the message names it.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no sweep file {shown_path(path)}; docs/guides/before_a_run.md shows one")
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown_path(path)} is no text in UTF-8 ({error.reason})") from error
    return parse_space(text, shown_path(path))


def parse_space(text: str, source: str) -> tuple[Dimension, ...]:
    """As `read_space`, of a text; `source` is what errors call it.

    Raises:
        DataError: as `read_space`.
    """
    found: dict[str, Dimension] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"line {number} of {source}"
        statement = line.strip()
        if not statement or statement.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in statement.partition("="))
        if not equals or not (_BINDING.fullmatch(name) or _FLAG.fullmatch(name)):
            raise DataError(f"{where} is {shown(statement)}; write Name.parameter = VALUES, or --flag = VALUES")
        if name.startswith("--"):
            name = f"--{name[2:].replace('-', '_')}"
        if name in found:
            raise DataError(f"{where} gives {name} a second time; delete one of them")
        found[name] = _read_values(name, value, where)
    if all(dimension.is_fixed for dimension in found.values()):
        wanted = ", ".join(f"{kind}(LOW, HIGH)" for kind in _RANGES)
        raise DataError(f"{source} leaves nothing to try; give some line {wanted} or choice(A, B, ...)")
    return tuple(found.values())


def _read_values(name: str, text: str, where: str) -> Dimension:
    try:
        node = ast.parse(text, mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            kind, values = node.func.id, [ast.literal_eval(argument) for argument in node.args]
        else:
            kind, values = "choice", [ast.literal_eval(node)]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        wanted = "literals, such as log(1e-4, 1e-2) or choice('a', None, 3)"
        raise DataError(f"{where}: {shown(text)} cannot be read; write {wanted}") from error
    if kind == "choice":
        return Dimension(name=name, kind="choice", choices=_choices(name, values, where))
    if kind not in _RANGES:
        raise DataError(f"{where}: there is no {shown(kind)}; use {', '.join(_RANGES)} or choice")
    whole = kind in ("integer", "log_integer")
    types: tuple[type, ...] = (int,) if whole else (int, float)
    if len(values) != 2 or any(type(value) not in types for value in values):
        raise DataError(f"{where}: {kind} takes two {'whole ' if whole else ''}numbers, the lowest and the highest")
    low, high = float(values[0]), float(values[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(f"{where}: {kind}({low:g}, {high:g}) is no range; the first must be below the second")
    if kind in ("log", "log_integer") and low <= 0:
        raise DataError(f"{where}: {kind} begins at {low:g}; its logarithm wants a number above 0")
    if whole and max(abs(low), abs(high)) > 2**53:
        raise DataError(f"{where}: {kind} takes no number beyond {2**53}")
    return Dimension(name=name, kind=kind, low=low, high=high)  # type: ignore[arg-type]  # of _RANGES


def _choices(name: str, values: list[Any], where: str) -> tuple[str, ...]:
    if not 1 <= len(values) <= MOST_CHOICES:
        raise DataError(f"{where} has {len(values)} choices; give 1 to {MOST_CHOICES}")
    written = tuple(_as_written(value, is_flag=name.startswith("--")) for value in values)
    if len(set(written)) < len(written):
        raise DataError(f"{where} has one choice twice; delete one of them")
    if any(not text or not text.isprintable() for text in written):
        raise DataError(f"{where} has a choice that is empty or cannot be printed")
    return written


def _as_written(value: Any, *, is_flag: bool) -> str:
    """A literal as gin writes it, or as the command line does."""
    if isinstance(value, str):
        return value if is_flag or value[:1] in ("@", "%") else repr(value)
    return str(value) if is_flag else repr(value)


def as_arguments(dimensions: tuple[Dimension, ...], values: Mapping[str, str]) -> list[str]:
    """The arguments of train that set each dimension: `values` has those that are not fixed."""
    arguments = []
    for dimension in dimensions:
        value = dimension.choices[0] if dimension.is_fixed else values[dimension.name]
        if dimension.is_flag:
            arguments.append(f"{dimension.name}={value}")
        else:
            arguments += ["--gin_override", f"{dimension.name} = {value}"]
    return arguments


def short_names(dimensions: tuple[Dimension, ...]) -> dict[str, str]:
    """Of what is not fixed: its last part where that tells it from the others, else the whole name."""
    varied = [dimension.name for dimension in dimensions if not dimension.is_fixed]
    last = {name: name.removeprefix("--").rpartition(".")[2][:MAX_SHOWN] for name in varied}
    return {name: short if list(last.values()).count(short) == 1 else name for name, short in last.items()}
