"""What of a battle an agent is shown, and as which ids: the part of a run's identity that its data depends on."""

from dataclasses import dataclass

from gemma_metamon.battle.actions import ActionSpace, get_action_space
from gemma_metamon.battle.observations import ObservationSpace, get_observation_space
from gemma_metamon.battle.rewards import RewardFunction, get_reward_function
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
