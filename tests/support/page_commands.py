"""What the pages tell a reader to type: the commands in their blocks, and what stands between their backticks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
_BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"gemma-metamon|examples/custom_\w+\.py")  # these examples are the command, with one name more
_SCRIPT = re.compile(r"(?:scripts|examples)/[\w/]+\.(?:py|sh)")
_ENDS = {"|", "&&", "||", ";", ">", "&", "2>&1"}


def spans(page: Path) -> list[str]:
    """What stands between backticks outside of blocks, each on one line."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def lines(page: Path) -> Iterator[str]:
    """Each line of each block, continued lines joined."""
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        yield from re.sub(r" *\\\n\s*", " ", block).splitlines()


def words_of(line: str) -> list[str]:
    """As a shell takes a line apart; none where it is no command of a shell's."""
    try:
        return shlex.split(line.removeprefix("$ "), comments=True)
    except ValueError:  # a quote that nothing closes: prose, or what a program printed
        return []


def arguments(line: str) -> list[str] | None:
    """What follows `gemma-metamon`, or another name of it, up to the shell's next sign; None where it is not there."""
    words = words_of(line)
    for place, word in enumerate(words):
        if _COMMAND.fullmatch(word) or words[max(place - 1, 0) : place + 1] == ["-m", "gemma_metamon"]:
            rest = words[place + 1 :]
            return rest[: next((end for end, sign in enumerate(rest) if sign in _ENDS), len(rest))]
    return None


def script_calls(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each script that the page runs or names, but for those that are `gemma-metamon`, and the flags it is given."""
    for line in [*lines(page), *spans(page)]:
        words = words_of(line)
        for place, word in enumerate(words):
            if _SCRIPT.fullmatch(word) and not _COMMAND.fullmatch(word):
                yield word, flags(words[place + 1 :])


def flags(words: list[str]) -> list[str]:
    """The long flags among some words, without their values."""
    return [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
