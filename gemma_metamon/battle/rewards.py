"""What an agent is paid for a decision, from the state before it and the state after it. metamon's numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RewardFunction:
    """A weighted sum of what changed from a state to the next, and of the battle's result.

    The player's active Pokémon counts where it was in the player's team before, the opponent's where it was active
    before. A lost Pokémon counts at the decision that brings in its replacement.

    Attributes:
        name: metamon's.
        hp_weight: of the hp that the opponent lost and the player gained, as shares of a whole Pokémon.
        status_weight: of a status that the opponent got, less one that the player got.
        removed_weight: of a Pokémon that the opponent lost, less one that the player lost.
        win_reward: added when the battle is won.
        loss_reward: added when it is lost.
    """

    name: str
    hp_weight: float
    status_weight: float
    removed_weight: float
    win_reward: float
    loss_reward: float

    def __call__(self, state: BattleState, next_state: BattleState) -> float:
        """The reward of the decision that led from one state to the next."""
        reward = next_state.battle_won * self.win_reward + next_state.battle_lost * self.loss_reward
        if not (self.hp_weight or self.status_weight or self.removed_weight):
            return reward
        mine, theirs = next_state.player_active_pokemon, next_state.opponent_active_pokemon
        hp = status = 0.0
        earlier = (state.player_active_pokemon, *state.available_switches)
        mine_before = next((p for p in earlier if p.base_species == mine.base_species), None)
        if mine_before is not None:
            hp += mine.hp_pct - mine_before.hp_pct
            status -= mine_before.status == "nostatus" and mine.status != "nostatus"
        theirs_before = state.opponent_active_pokemon
        if theirs_before.base_species == theirs.base_species:
            hp += theirs_before.hp_pct - theirs.hp_pct
            status += theirs_before.status == "nostatus" and theirs.status != "nostatus"
        removed = next_state.opponents_remaining < state.opponents_remaining
        lost = len(next_state.available_switches) < len(state.available_switches)
        shaped = self.hp_weight * hp + self.status_weight * status + self.removed_weight * (removed - lost)
        return shaped + reward

    def of_battle(self, states: Sequence[BattleState]) -> npt.NDArray[np.float32]:
        """The rewards (T - 1,) of the decisions between a battle's T states."""
        return np.array([self(a, b) for a, b in pairwise(states)], dtype=np.float32)


REWARD_FUNCTIONS = {
    reward.name: reward
    for reward in (
        RewardFunction(
            name="DefaultShapedReward",
            hp_weight=1.0,
            status_weight=0.5,
            removed_weight=1.0,
            win_reward=100.0,
            loss_reward=-100.0,
        ),
        RewardFunction(
            name="AggressiveShapedReward",
            hp_weight=1.0,
            status_weight=0.0,
            removed_weight=2.0,
            win_reward=200.0,
            loss_reward=0.0,
        ),
        RewardFunction(
            name="BinaryReward",
            hp_weight=0.0,
            status_weight=0.0,
            removed_weight=0.0,
            win_reward=100.0,
            loss_reward=-100.0,
        ),
    )
}


def get_reward_function(name: str) -> RewardFunction:
    """The reward function of this name. Raises ConfigError, with the known names, where there is none."""
    if name not in REWARD_FUNCTIONS:
        raise ConfigError(f"unknown reward function {name!r}; choose one of {', '.join(REWARD_FUNCTIONS)}")
    return REWARD_FUNCTIONS[name]
