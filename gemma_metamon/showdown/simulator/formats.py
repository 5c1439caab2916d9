"""Which battle formats can be played: the simulator says what a format is, before anything else is started.

The states and the 13 actions hold one Pokémon against one, of teams of at most six.
"""

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gemma_metamon.battle.state import TEAM_SIZE
from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.simulator.installation import ask_simulator
from gemma_metamon.showdown.simulator.teams import load_teams


@dataclass(frozen=True, kw_only=True)
class BattleFormat:
    """A format as the simulator has it.

    Attributes:
        id: "gen9ou".
        name: "[Gen 9] OU".
        game_type: "singles", "doubles", "triples", "multi" or "freeforall".
        gives_teams: random battles and the like; nobody brings a team.
        max_team_size: the most Pokémon of a team.
        best_of: battles of a match.
    """

    id: str
    name: str
    game_type: str
    gives_teams: bool
    max_team_size: int
    best_of: int


def find_format(name: str) -> BattleFormat:
    """The singles format of that id or name.

    Raises:
        ConfigError: one that the simulator does not know (with the nearest), or that the states cannot hold.
        MissingDependencyError, ServerError: as of `installation.ensure_installed`.
    """
    found = describe_format(name)
    if found is None:
        raise ConfigError(f"--format {name!r}: the simulator has no such format{_nearest(name)}")
    require_singles(found)
    return found


def require_singles(found: BattleFormat) -> None:
    """Raises ConfigError for a format that the states and actions cannot hold."""
    if found.game_type != "singles":
        raise ConfigError(
            f"--format {found.id} is no singles format ({found.game_type}); states and actions hold one Pokémon "
            f"against one: play a singles format, such as gen9ou"
        )
    if found.best_of > 1:
        raise ConfigError(f"--format {found.id} plays matches of {found.best_of} battles; play a format of single ones")
    if found.gives_teams and found.max_team_size > TEAM_SIZE:
        raise ConfigError(
            f"--format {found.id} gives out teams of up to {found.max_team_size} Pokémon; states hold {TEAM_SIZE}: "
            f"play another format"
        )


def find_teams(name: str, team_dir: Path | None) -> tuple[str, list[str]]:
    """A format's id, and the packed teams to play it with: none where the format gives them out.

    Raises as `find_format` and `teams.load_teams`; ConfigError for a team_dir where teams are given out.
    """
    found = find_format(name)
    if not found.gives_teams:
        return found.id, load_teams(found.id, team_dir)
    refuse_own_teams(found, team_dir)
    return found.id, []


def refuse_own_teams(found: BattleFormat, team_dir: Path | None) -> None:
    """Raises ConfigError where teams are brought to a format that gives them out."""
    if team_dir is not None:
        raise ConfigError(f"--format {found.id} gives out its teams; play it without those of {team_dir}")


@lru_cache(maxsize=64)
def describe_format(name: str) -> BattleFormat | None:
    """What the simulator says of a format; None where it knows none of that id or name."""
    answer = _ask(name)
    if "known" in answer:
        return None
    return BattleFormat(
        id=answer["id"],
        name=answer["name"],
        game_type=answer["gameType"],
        gives_teams=answer["givesTeams"],
        max_team_size=answer["maxTeamSize"],
        best_of=answer["bestOf"],
    )


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), _ask(name)["known"], n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ", such as gen1ou or gen9ou"


def _ask(name: str) -> dict[str, Any]:
    answer: dict[str, Any] = ask_simulator(f"say what format {name!r} is", "formats.js", given=name)
    return answer
