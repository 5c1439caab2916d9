"""What an agent may do.

Recorded actions always use the 13-action numbering:

| action | meaning |
|---|---|
| 0-3 | the active Pokémon's moves, by name (recharge and Struggle are 0) |
| 4-8 | the available switches, by name |
| 9-12 | the moves 0-3, terastallising |
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.replays import N_RECORDED_ACTIONS
from gemma_metamon.battle.state import MAX_MOVES, BattleState
from gemma_metamon.errors import ConfigError

FIRST_SWITCH = 4
FIRST_TERA = 9


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """The first `n_actions` of the 13; without the last four, a terastallised move counts as the plain move."""

    name: str
    n_actions: int

    @property
    def n(self) -> int:
        return self.n_actions

    def from_recorded(self, action: int) -> int:
        """The action of this space for one of the 13; -1 (missing) stays -1."""
        return action - FIRST_TERA if action >= self.n_actions else action

    def legal(self, state: BattleState) -> npt.NDArray[np.bool_]:
        """(n_actions,), True where the recorded state allows the action.

        This is metamon's rule, not the simulator's: it knows neither disabled moves nor trapping.
        """
        legal = np.zeros(N_RECORDED_ACTIONS, dtype=bool)
        legal[FIRST_SWITCH : FIRST_SWITCH + len(state.switches)] = True
        if not state.forced_switch:
            n_moves = min(len(state.player_active_pokemon.moves), MAX_MOVES)
            legal[:n_moves] = True
            legal[FIRST_TERA : FIRST_TERA + n_moves] = state.can_tera
        return legal[: self.n_actions]


ACTION_SPACES = {
    space.name: space
    for space in (
        ActionSpace(name="DefaultActionSpace", n_actions=N_RECORDED_ACTIONS),
        ActionSpace(name="MinimalActionSpace", n_actions=FIRST_TERA),
    )
}


def get_action_space(name: str) -> ActionSpace:
    """Raises ConfigError with the known names where there is no such space."""
    if name not in ACTION_SPACES:
        raise ConfigError(f"unknown action space {name!r}; choose one of {', '.join(ACTION_SPACES)}")
    return ACTION_SPACES[name]
