"""A reward of one's own, under a name that every command of `gemma-metamon` then knows.

This file is the command: `python examples/custom_reward.py train --reward_function TempoReward --run_name first ...`.
A run records the name of its reward, so play and resume it by this command, too.
"""

import sys
from dataclasses import dataclass

from gemma_metamon.battle.rewards import REWARD_FUNCTIONS, RewardFunction
from gemma_metamon.battle.state import BattleState
from gemma_metamon.commands import main


@dataclass(frozen=True, kw_only=True)
class TempoReward(RewardFunction):
    """Pays for what changed, as its parent does, and for being the one that is not forced to switch.

    Attributes:
        tempo_weight: taken off at each decision after which the player has to send somebody in.
    """

    tempo_weight: float

    def __call__(self, state: BattleState, next_state: BattleState) -> float:
        """The reward of the decision that led from one state to the next."""
        return super().__call__(state, next_state) - self.tempo_weight * next_state.forced_switch


REWARD_FUNCTIONS["TempoReward"] = TempoReward(
    name="TempoReward",
    hp_weight=1.0,
    status_weight=0.5,
    removed_weight=1.0,
    win_reward=100.0,  # with reward_multiplier 10 inside the critics' bins of -1100 to 1100
    loss_reward=-100.0,
    tempo_weight=0.5,
)

if __name__ == "__main__":
    sys.exit(main())
