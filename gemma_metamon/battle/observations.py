"""What an agent can see of a state: all of metamon's observation spaces, by its names of them."""

from difflib import get_close_matches

from gemma_metamon.battle.observation_groups import GroupedSpace
from gemma_metamon.battle.observation_lines import LineSpace
from gemma_metamon.battle.observation_space import ObservationSpace, OpponentMemory
from gemma_metamon.errors import ConfigError

__all__ = ["OBSERVATION_SPACES", "ObservationSpace", "OpponentMemory", "get_observation_space"]

OBSERVATION_SPACES: dict[str, ObservationSpace] = {
    space.name: space
    for space in (
        LineSpace(name="DefaultObservationSpace"),
        LineSpace(name="ExpandedObservationSpace", expanded=True),
        LineSpace(name="TeamPreviewObservationSpace", expanded=True, team_preview=True),
        LineSpace(name="OpponentMoveObservationSpace", expanded=True, team_preview=True, opponent_moves=True),
        GroupedSpace(name="GroupedObservationSpace"),
        LineSpace(name="PAC-ExpandedObservationSpace", expanded=True, hides_own_tera=True),
        LineSpace(name="PAC-TeamPreviewObservationSpace", expanded=True, team_preview=True, hides_own_tera=True),
        LineSpace(
            name="PAC-OpponentMoveObservationSpace",
            expanded=True,
            team_preview=True,
            opponent_moves=True,
            hides_own_tera=True,
        ),
    )
}


def get_observation_space(name: str) -> ObservationSpace:
    """The observation space of this name. Raises ConfigError, with the known names, where there is none."""
    if name not in OBSERVATION_SPACES:
        near = get_close_matches(name, OBSERVATION_SPACES, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"unknown observation space {name!r}{meant or ';'} choose one of {', '.join(OBSERVATION_SPACES)}"
        )
    return OBSERVATION_SPACES[name]
