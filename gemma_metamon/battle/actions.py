"""What an agent may do, and what it is told at a decision about the one before: `rl2_of`.

Recorded actions always use the 13-action numbering:

| action | meaning |
|---|---|
| 0-3 | the active Pokémon's moves, by name (recharge and Struggle are 0) |
| 4-8 | the available switches, by name |
| 9-12 | the moves 0-3, terastallising |
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.replays import N_RECORDED_ACTIONS
from gemma_metamon.battle.state import MAX_MOVES, BattleState
from gemma_metamon.errors import ConfigError

FIRST_SWITCH = 4
FIRST_TERA = 9


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """The first `n_actions` of the 13 recorded ones.

    Where the last four are missing, a move that terastallises counts as the move itself.
    """

    name: str
    n_actions: int

    @property
    def n(self) -> int:
        """`n_actions`, under the name that gymnasium's discrete spaces have for it."""
        return self.n_actions

    def from_recorded(self, action: int) -> int:
        """The action of this space that stands for a recorded one; -1 (not recorded) stays -1."""
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


def rl2_of(
    reward: float | npt.NDArray[np.float32], action: int | npt.NDArray[np.int64], n_actions: int
) -> npt.NDArray[np.float32]:
    """What AMAGO calls rl2: the reward of a decision and its action, one-hot. The next decision is made knowing them.

    Training makes it of all decisions of a window at once, playing and explaining of one. At a battle's first state,
    before which nothing was decided, it is all zeros instead.

    Args:
        reward: (...), not multiplied; a single number has no dimension.
        action: (...), in the action space's numbering; one that was not recorded (-1) is shown as action 0, as AMAGO
            is shown it.
        n_actions: A, how many actions there are.

    Returns:
        (..., 1 + A).
    """
    rl2: npt.NDArray[np.float32] = _unpaid(n_actions).take(np.maximum(action, 0), axis=0)  # copies, even one row
    rl2[..., 0] = reward
    return rl2


@cache
def _unpaid(n_actions: int) -> npt.NDArray[np.float32]:
    """(A, 1 + A), the rl2 of each action with reward 0."""
    return np.eye(n_actions, 1 + n_actions, 1, dtype=np.float32)


ACTION_SPACES = {
    space.name: space
    for space in (
        ActionSpace(name="DefaultActionSpace", n_actions=N_RECORDED_ACTIONS),
        ActionSpace(name="MinimalActionSpace", n_actions=FIRST_TERA),
    )
}


def get_action_space(name: str) -> ActionSpace:
    """The action space of this name. Raises ConfigError, with the known names, where there is none."""
    if name not in ACTION_SPACES:
        raise ConfigError(f"unknown action space {name!r}; choose one of {', '.join(ACTION_SPACES)}")
    return ACTION_SPACES[name]
