"""Files with a JSON object on each line."""

from pathlib import Path
from typing import Any, TypeVar

from gemma_metamon.errors import DataError
from gemma_metamon.strict_json import MAX_BYTES, parse_json, read_bounded, read_dataclass, shown, shown_path

Row = TypeVar("Row")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file. Raises DataError, with the line's number, for a line that holds none.

    A last line without its end is left out: whoever wrote it was stopped, or is still writing. NaN is let through: the
    losses of a run that diverged are to be seen.
    """
    read = []
    *lines, _ = read_bounded(path, MAX_BYTES).split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            value = parse_json(line, finite=False)
        except DataError as error:
            raise DataError(f"line {number} of {shown_path(path)} is {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"line {number} of {shown_path(path)} holds {shown(value)}; expected an object")
        read.append(value)
    return read


def read_rows(cls: type[Row], path: Path) -> list[Row]:
    """`read_json_lines`, each line as this dataclass. Raises DataError naming the line and the field, too."""
    rows = []
    for number, value in enumerate(read_json_lines(path), start=1):
        try:
            rows.append(read_dataclass(cls, value))
        except DataError as error:
            raise DataError(f"line {number} of {shown_path(path)} cannot be read: {error}") from error
    return rows
