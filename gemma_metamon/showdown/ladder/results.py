"""A ladder run's counts, and its folder: a line per battle in results.jsonl, and each battle's log as it is played.

    results.jsonl            a LadderRow of results/schema.py per battle, written when it ends
    replays/NAME.log         the messages that the server sent about the battle, one per line
    replays/NAME.html        the same as a web page, where a function that makes pages is given
    battles/FORMAT/...       the battles as metamon's parsed replays, to train on

A log without a line in results.jsonl is of a battle that was going on when the process ended: the next one resumes it.
"""

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from gemma_metamon.atomic_files import append_whole, written_whole
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.protocol import protocol_lines
from gemma_metamon.results.schema import NEWER, LadderRow
from gemma_metamon.strict_json import UnknownFieldError, parse_json_object, read_dataclass

logger = logging.getLogger(__name__)
FINISHED = ("won", "lost", "tied")
# why a battle is unfinished that may still go on at the server: the next process resumes it
STOPPED, LOST = "stopped by hand", "the connection was lost for good"
_STAMP = re.compile(r"-\d{8}T\d{6}(-\d+)?$")
# messages that only one player gets, or that are about the room
_NOT_LOGGED = ("|request|", "|sentchoice|", "|error|", "|deinit", "|expire|", "|noinit|")


@dataclass
class Summary:
    """What this run did. Battles of earlier runs in the same folder are counted in `Results.finished` only.

    Attributes:
        results: how many battles were "won", "lost", "tied" and "unfinished".
        decisions: how many were asked for.
        fallbacks: decisions that were not the player's own.
        refused: choices that the server refused.
        rejoins: how often a battle's whole log was sent again.
        cuts: how often the connection was lost.
        teams_refused: the server's reason for each team that it refused.
        rating: the newest; None before the first.
    """

    results: Counter[str] = field(default_factory=Counter)
    decisions: int = 0
    fallbacks: int = 0
    refused: int = 0
    rejoins: int = 0
    cuts: int = 0
    teams_refused: list[str] = field(default_factory=list)
    rating: int | None = None

    @property
    def finished(self) -> int:
        """How many battles were played to their end."""
        return sum(self.results[result] for result in FINISHED)


@dataclass(frozen=True)
class Outcome:
    """What a battle's log says about it.

    Attributes:
        players: the names of both, p1 first; fewer where the log lacks them.
        started: when the server began the battle, in its seconds since 1970, as text; None where the log lacks it.
        turns: begun so far.
        rated: whether it counts for the ladder.
        winner: the name; "" after a tie, None before the end.
        ratings: (before, after) by the player's name.
    """

    players: tuple[str, ...]
    started: str | None
    turns: int
    rated: bool
    winner: str | None
    ratings: dict[str, tuple[int, int]]


def read_outcome(lines: list[str]) -> Outcome:
    """The outcome that these messages tell; a damaged line is skipped."""
    players: dict[str, str] = {}
    started, turns, rated, winner = None, 0, False, None
    ratings: dict[str, tuple[int, int]] = {}
    for line in lines:
        _, kind, *rest = [*line.split("|", 3), "", ""]
        if kind == "player" and rest[0] in ("p1", "p2") and rest[1]:
            players.setdefault(rest[0], rest[1].split("|")[0])
        elif kind == "t:" and started is None and rest[0].isdigit():
            started = rest[0]
        elif kind == "turn" and rest[0].isdigit():
            turns = int(rest[0])
        elif kind == "rated":
            rated = True
        elif kind == "tie":
            winner = ""
        elif kind == "win" and rest[0] in players.values():
            winner = rest[0]
        elif kind == "raw":
            ratings |= _read_rating(line)
    return Outcome(tuple(players.values()), started, turns, rated, winner, ratings)


def _read_rating(line: str) -> dict[str, tuple[int, int]]:
    """Of "|raw|Anna's rating: 1000 &rarr; <strong>1045</strong>…"."""
    name, told, numbers = line.removeprefix("|raw|").partition("'s rating: ")
    before, arrow, after = numbers.partition(" &rarr; <strong>")
    after = after.partition("<")[0]
    return {name: (int(before), int(after))} if told and arrow and before.isdigit() and after.isdigit() else {}


class BattleLog:
    """A battle's log, in memory and on disk. Without a path it is kept in memory only.

    A full disk must not lose a battle: lines that cannot be written are written with later ones, after one warning.
    """

    def __init__(self, path: Path | None, lines: Iterable[str] = ()) -> None:
        self.path = path
        self.lines = list(lines)
        self._outcome: Outcome | None = None  # of the present lines, once it was asked for
        self._behind = False  # the file lacks some of the lines

    @property
    def outcome(self) -> Outcome:
        """What the lines say; they are read again only after they have changed."""
        if self._outcome is None:
            self._outcome = read_outcome(self.lines)
        return self._outcome

    def add(self, lines: list[str]) -> None:
        """Appends the server's messages to the log, without those that are for one player only."""
        kept = [line for line in lines if line and not line.startswith(_NOT_LOGGED)]
        if kept:
            self.lines += kept
            self._outcome = None
            self._write(kept)

    def replace(self, lines: list[str]) -> None:
        """The server has sent the whole log again: it takes the place of what was logged."""
        self.lines = [line for line in lines if line and not line.startswith(_NOT_LOGGED)]
        self._outcome = None
        self._write(None)

    def _write(self, added: list[str] | None) -> None:
        """Appends these lines to the file; None, or lines missing from before, writes all of them anew."""
        if self.path is None:
            return
        try:
            if added is None or self._behind:
                with written_whole(self.path) as staged:
                    staged.write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")
            else:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("".join(f"{line}\n" for line in added))
            self._behind = False
        except OSError as error:
            if not self._behind:
                logger.warning("%s lacks some lines for now: %s", self.path, error.strerror)
            self._behind = True


class Results:
    """The folder of one player in one format, for one process at a time. Call `close` at the end.

    `rows` holds the lines of results.jsonl by the name of the battle's log without ".log".

    Args:
        folder: made where it does not exist.
        page: makes a web page from a log's text and a title.

    Raises:
        ConfigError: another process plays into the same folder.
        DataError: results.jsonl has a line that only a newer version of this package knows.
    """

    def __init__(self, folder: Path, page: Callable[[str, str], str] | None = None) -> None:
        self.folder = folder
        self._page = page
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(f"another process plays into {folder}; wait for it, or choose another --out") from None
        self._path = folder / "results.jsonl"
        self._unwritten: list[str] = []
        try:
            self.rows = self._load()
        except BaseException:
            self.close()
            raise

    @property
    def logs(self) -> Path:
        """The folder of the battles' logs."""
        return self.folder / "replays"

    @property
    def finished(self) -> int:
        """How many battles were played to their end, including those of earlier runs."""
        return sum(row.result in FINISHED for row in self.rows.values())

    def new_log(self, tag: str) -> BattleLog:
        """A log in a new file: the tag alone is no unique name, for a restarted server numbers battles from 1 again."""
        stem = f"{tag}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
        path, copy = self.logs / f"{stem}.log", 1
        while path.exists():
            copy += 1
            path = self.logs / f"{stem}-{copy}.log"
        path.touch()
        return BattleLog(path)

    def interrupted(self) -> list[tuple[str, BattleLog]]:
        """(tag, log) of every battle that has no final result yet: an earlier process did not see its end."""
        found = []
        for path in sorted(self.logs.glob("battle-*.log")):
            row = self.rows.get(path.stem)
            if row is None or row.reason in (STOPPED, LOST):
                lines = protocol_lines(path.read_bytes().decode(errors="replace"))
                found.append((_STAMP.sub("", path.stem), BattleLog(path, lines)))
        return found

    def write(self, log: BattleLog, row: LadderRow) -> bool:
        """Writes the battle's result, and its page. Of two results of one log the later one counts.

        Returns:
            False where it could not be written: it is then written with the next one, or by `write_rest`.
        """
        if log.path is None:
            return True
        self._write_page(log, log.path.with_suffix(".html"), row)
        self.rows[log.path.stem] = row
        self._unwritten.append(json.dumps(asdict(row)) + "\n")
        try:
            self.write_rest()
        except OSError as error:
            logger.warning("the result of %s is not written down yet: %s", log.path.stem, error.strerror)
            return False
        return True

    def write_rest(self) -> None:
        """Writes the results that could not be written before. Raises OSError where it fails again."""
        if self._unwritten:
            append_whole(self._path, "".join(self._unwritten))
            self._unwritten.clear()

    def _write_page(self, log: BattleLog, path: Path, row: LadderRow) -> None:
        if self._page is None:
            return
        try:
            page = self._page("\n".join(log.lines), f"{row.username} vs {row.opponent}: {row.result}")
            with written_whole(path) as staged:
                staged.write_text(page, encoding="utf-8")
        except Exception as error:  # noqa: BLE001 the result counts, with or without a page
            logger.warning("no page of %s: %s: %s", log.path, type(error).__name__, error)

    def close(self) -> None:
        """Lets other processes use the folder."""
        self._lock.release()

    def _load(self) -> dict[str, LadderRow]:
        """Log's name, without its end -> its row. A damaged line is skipped, with a warning."""
        rows: dict[str, LadderRow] = {}
        if not self._path.exists():
            return rows
        text = self._path.read_text(encoding="utf-8", errors="replace")
        if text and not text.endswith("\n"):  # the process ended while writing; the log is still there
            append_whole(self._path, "\n")
        for line in text.splitlines():
            try:
                row = read_dataclass(LadderRow, parse_json_object(line))
            except UnknownFieldError as error:  # without its line, the battle would be played on
                raise DataError(f"{self._path}: {error}; {NEWER}") from error
            except DataError as error:
                logger.warning("%s has a line that is no result (%s): %.60s", self._path, error, line)
                continue
            rows[Path(row.log).stem] = row
        return rows
