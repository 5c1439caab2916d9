"""How much a body may hold, looked at before its parts are: a list of millions costs its reader half a minute."""

from typing import Any, Final

from gemma_metamon.errors import DataError
from gemma_metamon.strict_json import shown

MOST_LINES: Final = 50_000
"""Of a log. Those of `record` in scripts/load_serve.py have 10 to 18 a turn, and a battle has 1,000 turns at most."""
LINE_CHARACTERS: Final = 32 * 1024
"""Of a line, and of a request. Those of `record` have below 3,000."""
REQUEST_LEVELS: Final = 32
"""So deep may the parts of a request lie in one another. Those of the simulator's lie in 6."""
NAME_CHARACTERS: Final = 64
"""Of a player's name. Showdown gives 18."""


def require_at_most(name: str, value: Any, most: int, mend: str) -> None:
    """Raises DataError for a list of more than `most`; what is no list is left to its reader."""
    if isinstance(value, list) and len(value) > most:
        raise DataError(f"{name} has {len(value)} of them; give at most {most}, {mend}")


def lines_of(log: str | list[str]) -> list[str]:
    """The lines of a log, which may come as one text, or several in one. Raises DataError for too many, or too long."""
    parts = [log] if isinstance(log, str) else log
    count = len(parts) + sum(part.count("\n") for part in parts)
    if count > MOST_LINES:
        raise DataError(f"log has {count} lines; give at most {MOST_LINES}, those of one battle")
    lines = [line for part in parts for line in part.split("\n")]
    for i, line in enumerate(lines):
        if len(line) > LINE_CHARACTERS:
            raise DataError(
                f"log, line {i + 1} is {shown(line)} of {len(line)} characters; give at most {LINE_CHARACTERS}, as the "
                "simulator does"
            )
    return lines


def require_small_request(request: dict[str, Any]) -> None:
    """Raises DataError for one that is larger than any of the simulator's: it is remembered, and compared."""
    size, waiting = 0, list[tuple[Any, int]]([(request, 1)])
    while waiting:
        value, level = waiting.pop()
        size += len(value) if isinstance(value, (str, list, dict)) else 1
        if size > LINE_CHARACTERS or level > REQUEST_LEVELS:
            raise DataError(
                f"request has more than {LINE_CHARACTERS} characters or {REQUEST_LEVELS} levels; give it as the "
                "simulator sends it"
            )
        if isinstance(value, list):
            waiting += [(each, level + 1) for each in value]
        elif isinstance(value, dict):
            waiting += [(each, level + 1) for pair in value.items() for each in pair]
