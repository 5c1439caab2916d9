"""Which of a battle's messages tell that it goes on. Chat, clocks and refusals come for ever where nothing does."""

from collections.abc import Iterable

_PROGRESS = ("|turn|", "|move|", "|switch|", "|drag|", "|cant|", "|win|", "|tie", "|start", "|poke|")


def count_progress(lines: Iterable[str]) -> int:
    """How many of these lines, as the server sends them, tell of it."""
    return sum(line.startswith(_PROGRESS) for line in lines)
