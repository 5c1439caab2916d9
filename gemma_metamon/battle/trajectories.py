"""A recorded battle as arrays: what the agent saw, did and was paid, timestep by timestep."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.actions import ActionSpace
from gemma_metamon.battle.observations import ObservationSpace
from gemma_metamon.battle.replays import MISSING_ACTION, RecordedBattle
from gemma_metamon.battle.rewards import RewardFunction


@dataclass(frozen=True, slots=True)
class Trajectory:
    """T states, T - 1 decisions, W words, N numbers, A actions.

    Attributes:
        words: (T, W) str.
        numbers: (T, N) float32.
        rewards: (T - 1,) float32.
        dones: (T - 1,) bool, True at the last decision only.
        chosen: (T - 1,) int64 in the action space's numbering, -1 where the choice was not revealed.
        legal: (T - 1, A) bool, True where the recorded state allows the action.
    """

    words: npt.NDArray[np.str_]
    numbers: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float32]
    dones: npt.NDArray[np.bool_]
    chosen: npt.NDArray[np.int64]
    legal: npt.NDArray[np.bool_]

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """(T - 1,), True where the choice was not revealed."""
        missing: npt.NDArray[np.bool_] = self.chosen == MISSING_ACTION
        return missing


def observe_trajectory(
    battle: RecordedBattle, space: ObservationSpace, actions: ActionSpace, reward: RewardFunction
) -> Trajectory:
    words, numbers = space.observe_battle(battle.states)
    dones = np.zeros(len(battle.states) - 1, dtype=bool)
    dones[-1] = True
    return Trajectory(
        words=words,
        numbers=numbers,
        rewards=reward.of_battle(battle.states),
        dones=dones,
        chosen=np.array([actions.from_recorded(action) for action in battle.actions[:-1]]),
        legal=np.stack([actions.legal(state) for state in battle.states[:-1]]),
    )
