"""Teams to play with: this project's own, or the files of a user's folder, and a repeatable choice among them.

A team file is Showdown's export text. As in metamon, its name ends in `.<format>_team`, wherever in the folder it lies;
`.txt` files directly in the folder, or in `<folder>/<format>/`, are read too.
"""

import random
from importlib import resources
from pathlib import Path

from poke_env.teambuilder import ConstantTeambuilder, Teambuilder

from gemma_metamon.battle.state import TEAM_SIZE
from gemma_metamon.errors import DataError, MissingFileError


class SeededTeambuilder(Teambuilder):
    """A random team for every battle; the same seed gives the same teams in the same order."""

    def __init__(self, teams: list[str], seed: int) -> None:
        if not teams:
            raise DataError("no team to choose from")
        self._teams = teams
        self._random = random.Random(seed)

    def yield_team(self) -> str:
        return self._random.choice(self._teams)


def load_teams(battle_format: str, team_dir: Path | None = None) -> list[str]:
    """The packed teams of a format, in the order of their files' paths.

    Raises MissingFileError where there is no folder or no team for the format, DataError (naming the file) where a
    file does not hold one to six Pokémon with moves. Whether a team is legal is the simulator's to say.
    """
    files = _own_files(battle_format) if team_dir is None else _user_files(battle_format, team_dir)
    return [pack_team(path.read_text(encoding="utf-8"), where=str(path)) for path in files]


def pack_team(text: str, *, where: str = "the team") -> str:
    """Showdown's one-line form of an exported (or already packed) team."""
    text = text.replace("\r\n", "\n").strip()
    if "|" not in text:
        lines = [line.strip() for line in text.split("\n") if not line.startswith("===")]
        # poke-env takes every further blank line for one more Pokémon, and the server then refuses the team
        blocks = [block.strip() for block in "\n".join(lines).split("\n\n") if block.strip()]
        text = "\n\n".join(blocks)
    try:
        team = ConstantTeambuilder(text)
    except (ValueError, KeyError, IndexError) as error:  # what poke-env's parser meets in a text that is no team
        raise DataError(f"{where} is not a Showdown team: {type(error).__name__}: {error}") from error
    if not 1 <= len(team.team) <= TEAM_SIZE or not all(pokemon.moves for pokemon in team.team):
        raise DataError(
            f"{where} has {len(team.team)} Pokémon, {sum(not p.moves for p in team.team)} of them without moves; "
            f"expected one to {TEAM_SIZE} in Showdown's export format"
        )
    return team.packed_team


def own_formats() -> list[str]:
    """The formats that this project brings teams for."""
    return sorted(entry.name for entry in resources.files("gemma_metamon.teams").iterdir() if entry.name[:3] == "gen")


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
    if not folder.is_dir():
        raise MissingFileError(f"no such folder: {folder}")
    suffix = f".{battle_format}_team"
    files = {*folder.rglob(f"*{suffix}"), *folder.glob("*.txt"), *(folder / battle_format).glob("*.txt")}
    if not files:
        raise MissingFileError(f"{folder} holds no team file for {battle_format!r}: expected NAME{suffix} or NAME.txt")
    return sorted(files)
