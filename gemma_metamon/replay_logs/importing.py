"""Files of Showdown's battles into recorded battles on disk, and the count of what could not be told."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemma_metamon.battle.replays import BattleFileName, RecordedBattle, dump_battle, parse_battle, save_battle
from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.replay_logs.asks import find_asks
from gemma_metamon.replay_logs.knowledge import read_team
from gemma_metamon.replay_logs.lines import SIDES, other
from gemma_metamon.replay_logs.own_log import own_view
from gemma_metamon.replay_logs.server_logs import add_sets, read_sets
from gemma_metamon.replay_logs.sources import ReplayLog, read_replay
from gemma_metamon.replay_logs.views import told_view

SUFFIXES = (".log", ".json", ".html", ".htm")
_LONGEST_NAME = 24


@dataclass(kw_only=True)
class Imported:
    """What came of it.

    Attributes:
        battles: that gave at least one file.
        files: one per view.
        exact: those of the files that come from their player's own requests.
        decisions: in all files; `missing` counts by kind those of them whose choice the log does not tell.
        set_aside: reason -> how many logs.
        first_set_aside: reason -> the first log it was met in.
    """

    battles: int = 0
    files: int = 0
    exact: int = 0
    decisions: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[str] = field(default_factory=Counter)
    first_set_aside: dict[str, Path] = field(default_factory=dict)

    @property
    def known(self) -> int:
        """Decisions whose choice the log tells."""
        return self.decisions - self.missing.total()


def is_log_file(name: str) -> bool:
    """Whether a file is one of Showdown's replays or logs, by its name; compressed with gzip, too."""
    return name.lower().removesuffix(".gz").endswith(SUFFIXES)


def find_logs(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and all logs in the folders that are. Raises MissingFileError for what is neither."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if is_log_file(p.name) and p.is_file())
            if not inside:
                raise MissingFileError(
                    f"{path} holds no Showdown log: expected files *{', *'.join(SUFFIXES)}, or these with .gz"
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise MissingFileError(f"no such file or folder: {path}")
    return found


def import_replays(logs: Iterable[Path], out: Path, on_log: Callable[[], Any] | None = None) -> Imported:
    """Writes `out/<format>/*.json.lz4`, a file for each view of each battle. `on_log` is called after each log."""
    imported = Imported()
    written: set[str] = set()
    for path in logs:
        try:
            _import(path, out, imported, written)
        except DataError as error:
            imported.set_aside[str(error)] += 1
            imported.first_set_aside.setdefault(str(error), path)
        if on_log is not None:
            on_log()
    return imported


def read_views(log: ReplayLog) -> tuple[dict[str, RecordedBattle], Counter[str]]:
    """Both sides' views, those of a side that never decided anything left out, and the choices that are not told.

    Raises DataError where the battle cannot be followed.
    """
    missing: Counter[str] = Counter()
    views: dict[str, RecordedBattle] = {}
    try:
        teams = {side: read_team(log.lines, side, log.gen) for side in SIDES}
        for side, team in teams.items():
            add_sets(team, read_sets(log.beside, side), side)
        asks = find_asks(log.lines)
        for side in SIDES:
            if side == log.requests:
                view = own_view(log, side, teams[side].on_field, missing)
            else:
                view = told_view(log, side, asks, teams, missing)
            if view is not None:
                views[side] = parse_battle(dump_battle(view))  # what is written is what the readers take
    except DataError:
        raise
    except Exception as error:  # a log may hold anything, and poke-env meets it in many ways
        raise DataError(f"a battle that poke-env cannot follow ({type(error).__name__})") from error
    return views, missing


def _import(path: Path, out: Path, imported: Imported, written: set[str]) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    log = read_replay(content, path.name)
    views, missing = read_views(log)
    if not views:
        raise DataError("ended before anything was chosen")
    names = {side: _file_name(log, side) for side in views}
    if log.battle_id in written:
        raise DataError("the same battle once more")
    for side, view in views.items():
        save_battle(view, out / log.battle_format, names[side])
        imported.decisions += len(view.actions) - 1
    written.add(log.battle_id)
    imported.battles += 1
    imported.files += len(views)
    imported.exact += log.requests in views
    imported.missing += missing


def _file_name(log: ReplayLog, side: str) -> BattleFileName:
    words = {name: _name_word(log.players[name]) or name for name in SIDES}
    if words["p1"] == words["p2"]:  # else a tie's two views would have one name
        words = {name: f"{word}-{name}" for name, word in words.items()}
    return BattleFileName(
        battle_id=log.battle_id,
        rating=log.ratings[side],
        player=words[side],
        opponent=words[other(side)],
        played_at=log.played_at,
        won=log.winner == side,
    )


def _name_word(name: str) -> str:
    """A user name as a part of a file's name, in which metamon allows no underscore."""
    return "".join(char for char in name if char.isalnum() or char == "-")[:_LONGEST_NAME]
