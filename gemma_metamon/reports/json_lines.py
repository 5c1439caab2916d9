"""Files with a JSON object on each line."""

import json
from pathlib import Path
from typing import Any

from gemma_metamon.errors import DataError


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file. Raises DataError, with the line's number, for a line that holds none.

    A last line without its end is left out: whoever wrote it was stopped, or is still writing.
    """
    read = []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number} of {path} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"line {number} of {path} holds a {type(value).__name__}; expected an object")
        read.append(value)
    return read
