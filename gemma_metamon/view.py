"""What of a battle an agent is shown, and as which ids: the part of a run's identity that its data depends on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.actions import ActionSpace, get_action_space, rl2_of
from gemma_metamon.battle.observations import ObservationSpace, get_observation_space
from gemma_metamon.battle.rewards import RewardFunction, get_reward_function
from gemma_metamon.battle.state import BattleState
from gemma_metamon.text.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class BattleView:
    """What the agent sees, may do and is paid for, and the words that it knows."""

    obs_space: ObservationSpace
    action_space: ActionSpace
    reward_function: RewardFunction
    vocabulary: Vocabulary

    @classmethod
    def default(cls) -> "BattleView":
        """What `gemma-metamon train` takes where it is told nothing else."""
        return cls.from_names(
            obs_space="TeamPreviewObservationSpace",
            action_space="DefaultActionSpace",
            reward_function="DefaultShapedReward",
        )

    @classmethod
    def from_names(
        cls, *, obs_space: str, action_space: str, reward_function: str, vocabulary: Vocabulary | None = None
    ) -> "BattleView":
        """Raises ConfigError for an unknown name. Without a vocabulary, the packaged one."""
        return cls(
            obs_space=get_observation_space(obs_space),
            action_space=get_action_space(action_space),
            reward_function=get_reward_function(reward_function),
            vocabulary=Vocabulary.default() if vocabulary is None else vocabulary,
        )

    def rl2_at(self, state: BattleState, before: BattleState | None, action: int | None) -> npt.NDArray[np.float32]:
        """What the agent is told in a state about the decision that led to it.

        Args:
            state: the one that the agent decides in now.
            before: the state of its last decision; None at its first.
            action: what it did there, in the 13-action numbering or the action space's; None at its first.

        Returns:
            (1 + A,), see `rl2_of`; zeros at the first decision.
        """
        n_actions = self.action_space.n_actions
        if before is None or action is None:
            return np.zeros(1 + n_actions, dtype=np.float32)
        return rl2_of(self.reward_function(before, state), self.action_space.from_recorded(action), n_actions)
