"""Recorded battles on disk: metamon's parsed replays, one player's view of one battle per file.

`<root>/<format>/<name>.json.lz4` (an lz4 frame of UTF-8 JSON, or several) or `.json`, holding {"states": [...],
"actions": [...]}, as many of one as of the other. The last action is -1 and belongs to the terminal state; -1 elsewhere
is a choice that was not revealed.

Ours may have "labels": [...] besides, as many again: what somebody else, an expert, would have chosen in each state, -1
where nobody was asked. `actions` are still what was done, and what the states after them follow from. metamon reads the
two lists that it knows, and passes over the others.

And "thoughts": [...], as many again, of a player that says why it chooses: its words at each choice, "" where it chose
without any, and null where it did not choose itself, so that a legal choice was made for it, and at the end.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import lz4.frame

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.battle.archives import ARCHIVE_SUFFIXES, find_archives, refuse_archive, refuse_archives_in
from gemma_metamon.battle.state import BattleState
from gemma_metamon.battle.state_text import states_text
from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.strict_json import parse_json, read_bounded, shown, shown_path

MISSING_ACTION = -1
N_RECORDED_ACTIONS = 13
MAX_FILE_BYTES = 32 * 2**20
"""Of a battle's JSON. A decision takes some 5 KB, and Showdown ends a battle after 1,000 turns: a third of this."""
MAX_STATES = 5000
MAX_FRAMES = 100
_LZ4_MAGIC = b"\x04\x22\x4d\x18"
SUFFIXES = (".json.lz4", ".json")
IMPORT_HINT = "make battles of it with: gemma-metamon import-replays FILE --out DIR"
_SHOWDOWN = f"this is a Showdown replay; {IMPORT_HINT}"
_LOG_SUFFIXES = (".log", ".log.gz", ".html", ".json")
_DATE = "%m-%d-%Y-%H:%M:%S"


@dataclass(frozen=True, slots=True)
class RecordedBattle:
    """One player's view of a battle: T states and T actions in the 13-action numbering, the last one -1.

    `labels`, T more actions, are what an expert would have chosen instead; None where nobody was asked at all.
    `thoughts`, T texts, are what the player said to its choices: "" for nothing, None where the choice was not its own
    and at the end. None where the player is none that speaks.

    Raises:
        DataError: fewer than two states; actions, labels or thoughts that are not one for each state; an action out of
            its range.
    """

    states: tuple[BattleState, ...]
    actions: tuple[int, ...]
    labels: tuple[int, ...] | None = None
    thoughts: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.states) < 2:
            raise DataError(f"{len(self.states)} state(s); a battle needs a decision and the state after it")
        _require_actions("action", self.actions, len(self.states))
        if self.labels is not None:
            _require_actions("label", self.labels, len(self.states))
        if self.thoughts is not None and len(self.thoughts) != len(self.states):
            raise DataError(f"{len(self.states)} states but {len(self.thoughts)} thoughts; a battle has one per state")

    @property
    def won(self) -> bool:
        """Whether the player won."""
        return self.states[-1].battle_won


def _require_actions(kind: str, actions: Sequence[int], n_states: int) -> None:
    """Raises DataError for a list that has not one action per state, each in its range and the last one -1."""
    if len(actions) != n_states:
        raise DataError(f"{n_states} states but {len(actions)} {kind}s; a battle has one {kind} per state")
    for t, action in enumerate(actions):
        if not MISSING_ACTION <= action < N_RECORDED_ACTIONS:
            raise DataError(f"{kind} {action} at timestep {t}; expected -1 (missing) to {N_RECORDED_ACTIONS - 1}")
    if actions[-1] != MISSING_ACTION:
        raise DataError(f"the last {kind} is {actions[-1]}; the terminal state has none (-1)")


@dataclass(frozen=True, slots=True)
class BattleFileName:
    """The seven parts of a parsed replay's name. None may hold an underscore: metamon skips such a file.

    Raises:
        DataError: a part that is empty, or holds '_' or '/'.
    """

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
    data = _parse_battle_json(content)
    if (
        not isinstance(data, dict)
        or not isinstance(data.get("states"), list)
        or not isinstance(data.get("actions"), list)
    ):
        raise DataError('expected an object with the lists "states" and "actions"')
    states = data["states"]
    actions, labels = _integers("action", data["actions"]), data.get("labels")
    if len(states) > MAX_STATES:
        raise DataError(f"{len(states)} states; a battle has at most {MAX_STATES}")
    read = []
    for t, state in enumerate(states):
        if not isinstance(state, dict):
            raise DataError(f"state {t} is {shown(state)}; expected a JSON object")
        try:
            read.append(BattleState.from_dict(state))
        except DataError as error:
            raise DataError(f"state {t}: {error}") from error
    return RecordedBattle(
        tuple(read), actions, None if labels is None else _integers("label", labels), _thoughts(data.get("thoughts"))
    )


def _integers(kind: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list):
        raise DataError(f'"{kind}s" is {shown(values)}; expected a list')
    for t, value in enumerate(values):
        if type(value) is not int:
            raise DataError(f"{kind} {shown(value)} at timestep {t}; {kind}s must be integers")
    return tuple(values)


def _thoughts(values: Any) -> tuple[str | None, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list):
        raise DataError(f'"thoughts" is {shown(values)}; expected a list')
    for t, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise DataError(f"thought {shown(value)} at timestep {t}; a thought is a text, or null")
    return tuple(values)


def _parse_battle_json(content: bytes) -> Any:
    try:
        data = parse_json(content, finite=False)  # every number that is used is checked where its field is named
    except DataError as error:
        if not _is_showdown_log(content):
            raise
        raise DataError(_SHOWDOWN) from error
    if isinstance(data, dict) and "log" in data and "states" not in data:
        raise DataError(_SHOWDOWN)
    return data


def _is_showdown_log(content: bytes) -> bool:
    return content.lstrip().startswith(b"|") or b"battle-log-data" in content


def _holds_logs(*folders: Path) -> bool:
    return any(True for folder in folders for kind in ("*.log", "*.log.gz") for _ in folder.glob(kind))


def refuse_logs_in(root: Path) -> None:
    """Raises MissingFileError where a folder without battles, or one beneath it, holds Showdown logs."""
    if _holds_logs(root, *(path for path in _list_folder(root) if path.is_dir())):
        raise MissingFileError(f"{shown_path(root)} holds no battles; for its Showdown logs, {IMPORT_HINT}")


def refuse_one_format(root: Path) -> None:
    """Raises MissingFileError where the battle files lie in the folder itself, and not in one for their format."""
    if any(is_battle_file(path.name) for path in _list_folder(root)):
        raise MissingFileError(
            f"{shown_path(root)} holds the battle files of one format; give the folder that it is in, "
            f"{shown_path(root.parent)}, and --formats {shown_path(root.name)}"
        )


def dump_battle(battle: RecordedBattle) -> bytes:
    """The JSON of a battle's file; `parse_battle` reads it."""
    labels = "" if battle.labels is None else f', "labels": {json.dumps(battle.labels)}'
    thoughts = "" if battle.thoughts is None else f', "thoughts": {json.dumps(battle.thoughts)}'
    actions = json.dumps(battle.actions)
    return f'{{"states": {states_text(battle.states)}, "actions": {actions}{labels}{thoughts}}}'.encode()


def load_battle(path: Path) -> RecordedBattle:
    """The battle of a file.

    Raises:
        MissingFileError: there is no such file, or it is an archive.
        DataError: it is damaged; names the file.
    """
    return read_battle(shown_path(Path(path.name)), read_battle_file(path))


def read_battle_file(path: Path) -> bytes:
    """The content of a battle file, for `read_battle`. Raises as `load_battle` where it cannot be read."""
    refuse_archive(path)
    name = shown_path(Path(path.name))
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name}: its name is not UTF-8, which no store and no page can hold; rename it") from error
    try:
        content = read_bounded(path, MAX_FILE_BYTES)
    except MissingFileError as error:
        raise MissingFileError(f"no battle file {shown_path(path)}") from error
    return content


def read_battle(name: str, content: bytes) -> RecordedBattle:
    """The battle of a file that has been read; by its name it is compressed or not.

    Raises:
        DataError: it is damaged; names the file.
    """
    try:
        return parse_battle(decompress(content) if name.endswith(".lz4") else content)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def decompress(content: bytes) -> bytes:
    """The content of one lz4 frame, or of several one after the other. The sizes that their headers claim are not used.

    Raises:
        DataError: a frame is damaged or cut off, something follows the last one, or the content is too large.
    """
    parts: list[bytes] = []
    left, room = content, MAX_FILE_BYTES
    while left or not parts:
        if len(parts) == MAX_FRAMES:
            raise DataError(f"holds more than {MAX_FRAMES} lz4 frames")
        if parts and left[:4] != _LZ4_MAGIC:
            raise DataError(f"not a whole lz4 frame: {len(left)} bytes follow its end")
        decompressor = lz4.frame.LZ4FrameDecompressor()
        try:
            part: bytes = decompressor.decompress(left, max_length=room + 1)
        except (RuntimeError, ValueError) as error:  # a frame that is damaged, or none
            raise DataError(f"not a whole lz4 frame: {error}") from error
        if len(part) > room:
            raise DataError(f"holds more than {MAX_FILE_BYTES} bytes when decompressed")
        if not decompressor.eof:
            raise DataError("not a whole lz4 frame: it is cut off")
        parts.append(part)
        left, room = decompressor.unused_data or b"", room - len(part)
    return b"".join(parts)


def save_battle(battle: RecordedBattle, folder: Path, name: BattleFileName, *, durable: bool = True) -> Path:
    """Writes `folder/<name>.json.lz4` and returns its path. The file appears only when it is whole.

    Args:
        battle: what is written.
        folder: is made if need be.
        name: of the file.
        durable: see `written_whole`; False for a battle that can be played again.
    """
    path = folder / f"{name}.json.lz4"
    with written_whole(path, durable=durable) as staged:
        staged.write_bytes(lz4.frame.compress(dump_battle(battle)))
    return path


def find_battles(root: Path, formats: Iterable[str]) -> list[Path]:
    """The battle files of `root/<format>/`, by format and name.

    Raises:
        MissingFileError: there is no such folder, or a format has no battles in it.
        DataError: a folder cannot be read.
    """
    refuse_archive(root)
    _list_folder(root)
    found: list[Path] = []
    for battle_format in formats:
        try:
            files = sorted(path for path in _list_folder(root / battle_format) if is_battle_file(path.name))
        except MissingFileError:
            files = []
        if not files:
            archives = find_archives(root)
            for archive in archives.get(battle_format, ()):
                refuse_archive(archive)
            there = ", ".join(sorted({*formats_of_files(root), *archives})) or "none"
            expected = f"expected {root / battle_format}/*.json.lz4"
            raise MissingFileError(
                f"{root} holds no battle of format {battle_format!r} (formats there: {there}); "
                + (f"for its Showdown logs, {IMPORT_HINT}" if _holds_logs(root, root / battle_format) else expected)
            )
        found += files
    return found


def battle_stem(name: str) -> str:
    """A battle file's name without its suffix."""
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def is_battle_file(name: str) -> bool:
    """Whether a file is named like a battle file."""
    return name.endswith(SUFFIXES) and not name.startswith(".")


def list_formats(root: Path) -> Sequence[str]:
    """The formats that a folder holds battle files of.

    Raises:
        MissingFileError: there is no such folder, or it holds only archives or Showdown logs.
    """
    refuse_archive(root)
    formats = formats_of_files(root)
    if not formats:
        refuse_archives_in(root)
        refuse_logs_in(root)
        refuse_one_format(root)
    return formats


def formats_of_files(root: Path) -> Sequence[str]:
    """The formats that a folder holds battle files of; none is no error. Raises MissingFileError for no folder."""
    return sorted(
        folder.name
        for folder in _list_folder(root)
        if folder.is_dir() and any(is_battle_file(path.name) for path in folder.glob("*.json*"))
    )


def _list_folder(folder: Path) -> list[Path]:
    if folder.is_file():
        names = " or ".join(f"<format>{suffix}" for suffix in ARCHIVE_SUFFIXES)
        raise MissingFileError(
            f"{shown_path(folder)} is a file; expected a folder of battles, DIR/<format>/*.json.lz4, or {names}"
            + (f"; if it is a Showdown log, {IMPORT_HINT}" if folder.name.endswith(_LOG_SUFFIXES) else "")
        )
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"no such folder: {shown_path(folder)}") from error
    except OSError as error:
        raise DataError(f"{shown_path(folder)} cannot be read ({error.strerror})") from error
