"""Teams to play with: this project's own, or the files of a user's folder, and a repeatable choice among them.

A team file holds what Showdown exports, packs or backs up. As in metamon, its name ends in `.<format>_team`, wherever
in the folder it lies; `.txt` files directly in the folder, or in `<folder>/<format>/`, are read too. The simulator
itself reads them: what is sent is its `Teams.pack(Teams.import(text))`, or the packed line as it was found.
"""

import logging
import random
from collections import Counter
from functools import lru_cache
from importlib import resources
from pathlib import Path

from poke_env.teambuilder import Teambuilder

from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.showdown.simulator.installation import generate_teams
from gemma_metamon.showdown.simulator.team_texts import TeamText, pack_teams, split_teams

logger = logging.getLogger(__name__)
# a backup of a thousand teams is about a megabyte
MAX_FILE_BYTES = 2**25


class SeededTeambuilder(Teambuilder):
    """A random team for every battle, sent as it is; the same seed gives the same teams in the same order.

    Raises DataError where there is no team.
    """

    def __init__(self, teams: list[str], seed: int) -> None:
        if not teams:
            raise DataError("no team to choose from")
        self._teams = teams
        self._random = random.Random(seed)

    def yield_team(self) -> str:
        """The next battle's team, packed."""
        return self._random.choice(self._teams)


def load_teams(battle_format: str, team_dir: Path | None = None) -> list[str]:
    """The packed teams of a format, in the order of their files' paths and in a file's own.

    Teams that a backup keeps for another format are left out, which a warning counts. Raises MissingFileError where
    there is no folder or no team file for the format; DataError (naming the file) where a file cannot be read, holds
    something else than teams of one to six Pokémon with moves, or holds none for the format that its name says.
    Whether a team is legal is the simulator's to say.
    """
    files = _own_files(battle_format) if team_dir is None else _user_files(battle_format, team_dir)
    teams: list[tuple[str, TeamText]] = []
    left_out: Counter[str] = Counter()
    for path in files:
        found = split_teams(_read(path))
        if not found:
            raise DataError(f"{path} holds no Pokémon; expected a team as Showdown exports, packs or backs it up")
        fitting = [team for team in found if team.is_for(battle_format)]
        others = Counter(team.battle_format for team in found if not team.is_for(battle_format))
        if not fitting and path.name.endswith(f".{battle_format}_team"):
            raise DataError(
                f"{path} is named for {battle_format}, but its header says {_counts(others)}; change one of the two"
            )
        teams += [(str(path), team) for team in fitting]
        left_out += others
    if not teams:
        raise DataError(
            f"{team_dir} holds no team for {battle_format!r}: the headers of its teams say {_counts(left_out)}; "
            f"write [{battle_format}] there, or choose another format"
        )
    if left_out:
        logger.warning(
            "%d teams for %s in %s; left out for their headers: %s",
            len(teams),
            battle_format,
            team_dir,
            _counts(left_out),
        )
    return pack_teams(teams)


@lru_cache(maxsize=16)
def random_teams(battle_format: str, count: int, *, seed: int) -> tuple[str, ...]:
    """Packed teams of a format that gives them out, such as gen9randombattle; the same seed gives the same teams.

    Raises ServerError for a format to which teams are brought.
    """
    draws = random.Random(seed)
    return tuple(generate_teams(battle_format, [f"sodium,{draws.getrandbits(128):032x}" for _ in range(count)]))


def own_formats() -> list[str]:
    """The formats that this project brings teams for."""
    return sorted(entry.name for entry in resources.files("gemma_metamon.teams").iterdir() if entry.name[:3] == "gen")


def _read(path: Path) -> str:
    """Raises DataError for what is no readable text."""
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a link to {path.readlink()}, which is not there; mend the link, or take it away")
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is named like a team, but is no file; rename it")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); mend its permissions, or take it away") from error
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MiB, which no file of teams is; take it away")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _no_utf8(path, error.start) from error
    if "\0" in text:  # UTF-16 without its mark reads as UTF-8
        raise _no_utf8(path, content.index(0))
    return text


def _no_utf8(path: Path, byte: int) -> DataError:
    return DataError(f"{path} is not UTF-8 text (at byte {byte}); save it as UTF-8, or take it away")


def _counts(formats: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(formats.items()))


def _own_files(battle_format: str) -> list[Path]:
    with resources.as_file(resources.files("gemma_metamon.teams")) as folder:
        files = sorted((folder / battle_format).glob(f"*.{battle_format}_team"))
    if not files:
        raise MissingFileError(
            f"no team for format {battle_format!r} comes with gemma_metamon (there are {', '.join(own_formats())}); "
            f"give a folder of your own with --team_dir"
        )
    return files


def _user_files(battle_format: str, folder: Path) -> list[Path]:
    if folder.is_file():
        raise MissingFileError(f"{folder} is a file; give the folder that it lies in ({folder.parent})")
    if not folder.is_dir():
        raise MissingFileError(f"no such folder: {folder}")
    suffix = f".{battle_format}_team"
    files = {*folder.rglob(f"*{suffix}"), *folder.glob("*.txt"), *(folder / battle_format).glob("*.txt")}
    if not files:
        raise MissingFileError(f"{folder} holds no team file for {battle_format!r}: expected NAME{suffix} or NAME.txt")
    return sorted(files)
