"""Recorded battles on disk: metamon's parsed replays, one player's view of one battle per file.

`<root>/<format>/<name>.json.lz4` (an lz4 frame of UTF-8 JSON) or `.json`, holding {"states": [...], "actions": [...]},
as many of one as of the other. The last action is -1 and belongs to the terminal state; -1 elsewhere is a choice that
was not revealed.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import lz4.frame

from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.whole_files import written_whole

MISSING_ACTION = -1
N_RECORDED_ACTIONS = 13
SUFFIXES = (".json.lz4", ".json")
IMPORT_HINT = "make battles of it with: gemma-metamon import-replays FILE --out DIR"
_SHOWDOWN = f"this is a Showdown replay; {IMPORT_HINT}"
_DATE = "%m-%d-%Y-%H:%M:%S"


@dataclass(frozen=True, slots=True)
class RecordedBattle:
    """One player's view of a battle: T states and T actions in the 13-action numbering, the last one -1."""

    states: tuple[BattleState, ...]
    actions: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.states) != len(self.actions):
            raise DataError(
                f"{len(self.states)} states but {len(self.actions)} actions; a battle has one action per state"
            )
        if len(self.states) < 2:
            raise DataError(f"{len(self.states)} state(s); a battle needs a decision and the state after it")
        for t, action in enumerate(self.actions):
            if not MISSING_ACTION <= action < N_RECORDED_ACTIONS:
                raise DataError(f"action {action} at timestep {t}; expected -1 (missing) to {N_RECORDED_ACTIONS - 1}")
        if self.actions[-1] != MISSING_ACTION:
            raise DataError(f"the last action is {self.actions[-1]}; the terminal state has none (-1)")

    @property
    def won(self) -> bool:
        return self.states[-1].battle_won


@dataclass(frozen=True, slots=True)
class BattleFileName:
    """The seven parts of a parsed replay's name. None may hold an underscore: metamon skips such a file."""

    battle_id: str
    rating: int | None
    player: str
    opponent: str
    played_at: datetime
    won: bool

    def __post_init__(self) -> None:
        for part in (self.battle_id, self.player, self.opponent):
            if not part or "_" in part or "/" in part:
                raise DataError(f"{part!r} cannot be part of a battle file's name: empty, or with '_' or '/' in it")

    def __str__(self) -> str:
        rating = "Unrated" if self.rating is None else str(self.rating)
        result = "WIN" if self.won else "LOSS"
        return "_".join(
            [self.battle_id, rating, self.player, "vs", self.opponent, self.played_at.strftime(_DATE), result]
        )

    @classmethod
    def parse(cls, name: str) -> "BattleFileName":
        """Raises DataError unless the name (with or without its suffix) has metamon's seven parts."""
        parts = battle_stem(name).split("_")
        if len(parts) != 7 or parts[3] != "vs" or parts[6] not in ("WIN", "LOSS"):
            raise DataError(f"{name!r} is not named BATTLE_RATING_PLAYER_vs_OPPONENT_DATE_WIN|LOSS")
        battle_id, rating, player, _, opponent, date, result = parts
        if rating != "Unrated" and not re.fullmatch(r"\d+", rating):
            raise DataError(f"{name!r} has rating {rating!r}; expected an integer or Unrated")
        try:
            played_at = datetime.strptime(date, _DATE if ":" in date else "%m-%d-%Y")
        except ValueError as error:
            raise DataError(f"{name!r} has date {date!r}; expected MM-DD-YYYY or MM-DD-YYYY-HH:MM:SS") from error
        return cls(
            battle_id, None if rating == "Unrated" else int(rating), player, opponent, played_at, result == "WIN"
        )


def parse_battle(content: bytes) -> RecordedBattle:
    """A battle from the JSON of its file. Raises DataError saying what is wrong with it."""
    try:
        data = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(_SHOWDOWN if _is_showdown_log(content) else f"not JSON: {error}") from error
    if isinstance(data, dict) and "log" in data and "states" not in data:
        raise DataError(_SHOWDOWN)
    if (
        not isinstance(data, dict)
        or not isinstance(data.get("states"), list)
        or not isinstance(data.get("actions"), list)
    ):
        raise DataError('expected an object with the lists "states" and "actions"')
    actions = data["actions"]
    if not all(type(action) is int for action in actions):
        raise DataError("actions must be integers")
    for t, state in enumerate(data["states"]):
        if not isinstance(state, dict):
            raise DataError(f"state {t} is {type(state).__name__}, not an object")
    return RecordedBattle(tuple(BattleState.from_dict(state) for state in data["states"]), tuple(actions))


def _is_showdown_log(content: bytes) -> bool:
    return content.lstrip().startswith(b"|") or b"battle-log-data" in content


def _holds_logs(root: Path, battle_format: str) -> bool:
    return any(path for folder in (root, root / battle_format) for path in folder.glob("*.log"))


def dump_battle(battle: RecordedBattle) -> bytes:
    return json.dumps(
        {"states": [state.to_dict() for state in battle.states], "actions": list(battle.actions)}
    ).encode()


def load_battle(path: Path) -> RecordedBattle:
    """Raises MissingFileError where there is no such file, DataError (naming the file) where it is damaged."""
    if not path.is_file():
        raise MissingFileError(f"no battle file {path}")
    content = path.read_bytes()
    try:
        if path.name.endswith(".lz4"):
            content = lz4.frame.decompress(content)
        return parse_battle(content)
    except RuntimeError as error:  # what lz4 raises for a frame that is cut off or is none
        raise DataError(f"{path.name}: not a whole lz4 frame: {error}") from error
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error


def save_battle(battle: RecordedBattle, folder: Path, name: BattleFileName) -> Path:
    """Writes `folder/<name>.json.lz4` under another name first, so that a reader never meets half a file."""
    path = folder / f"{name}.json.lz4"
    with written_whole(path) as staged:
        staged.write_bytes(lz4.frame.compress(dump_battle(battle)))
    return path


def find_battles(root: Path, formats: Iterable[str]) -> list[Path]:
    """The battle files of `root/<format>/` in a stable order.

    Raises MissingFileError where the folder does not exist or a format has no battle in it.
    """
    _require_folder(root)
    found: list[Path] = []
    for battle_format in formats:
        files = sorted(p for p in (root / battle_format).glob("*.json*") if is_battle_file(p.name))
        if not files:
            there = ", ".join(list_formats(root)) or "none"
            expected = f"expected {root / battle_format}/*.json.lz4"
            raise MissingFileError(
                f"{root} holds no battle of format {battle_format!r} (formats there: {there}); "
                + (f"for its Showdown logs, {IMPORT_HINT}" if _holds_logs(root, battle_format) else expected)
            )
        found += files
    return found


def battle_stem(name: str) -> str:
    """A battle file's name without its suffix."""
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def is_battle_file(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")


def list_formats(root: Path) -> Sequence[str]:
    """The formats that a folder holds battles of. Raises MissingFileError where there is no such folder."""
    _require_folder(root)
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir() and any(folder.glob("*.json*")))


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        raise MissingFileError(f"no such folder: {root}")
