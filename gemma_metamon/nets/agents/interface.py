"""What passes between an agent and its surroundings: discounts in, losses and statistics out."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gemma_metamon.nets.batch import Batch, actions_to_imitate
from gemma_metamon.nets.checks import SHARE, check, each
from gemma_metamon.nets.heads.actors import ActionDistribution
from gemma_metamon.nets.layers import masked_mean

AdvantageFrom = Literal["critic", "target"]
Baseline = Literal["policy", "state"]
WarmupOf = Literal["imitate", "wait"]


class Multigammas:
    """The discounts that are learned beside the one that acts.

    Args:
        discrete: for discrete actions, the only ones here; upstream's name.

    Raises:
        ConfigError: a discount outside 0...1, or more than 100 of them.
    """

    def __init__(self, discrete: Sequence[float] = (0.1, 0.9, 0.95, 0.97, 0.99, 0.995)) -> None:
        check("Multigammas", locals(), {"discrete": each(SHARE, most=100)})
        self.discrete = list(discrete)


class AgentLosses(NamedTuple):
    """What one batch gives to learn from; the total is actor_loss + critic_loss_weight * critic_loss.

    Attributes:
        actor_loss: scalar, the mean over the actions that count and over discounts; 0 without a gradient where the
            critics learn alone.
        critic_loss: scalar, the same, over critics too; 0 without a gradient where no critic is needed.
        stats: detached scalars to log.
    """

    actor_loss: Tensor
    critic_loss: Tensor
    stats: dict[str, Tensor]


class Encoded(NamedTuple):
    """Trajectories as the encoders make them.

    Attributes:
        tsteps: (B, T, tstep_dim), each timestep by itself.
        state: (B, T, state_dim), the battle so far, which actor and critics read.
    """

    tsteps: Tensor
    state: Tensor


class CriticView(NamedTuple):
    """What the critics say of the recorded actions.

    Attributes:
        loss: (B, L, C, G, 1).
        value: (B, L, G, 1), or (B, T, G, 1) where the last state is judged with the last action again; the critics'
            mean in their own scale, without gradient.
        of_state: the same of the state alone, whatever is done in it; None where no critic learns it.
    """

    loss: Tensor
    value: Tensor
    of_state: Tensor | None = None


class RecordedActions(NamedTuple):
    """What critics and filter say of recorded actions, (B, L) each, in the scale of the advantage.

    Attributes:
        advantage: of the action above the baseline.
        weight: that the filter gives it.
        worth: what the action was found to be worth; the baseline is `worth - advantage`.
    """

    advantage: Tensor
    weight: Tensor
    worth: Tensor


@torch.no_grad()
def policy_stats(policy: ActionDistribution, batch: Batch, counted: Tensor) -> dict[str, Tensor]:
    """Of the discount that acts. policy (B, T, G, A), counted (B, L, 1, 1) bool -> scalars.

    Agreement is with what is imitated; where a batch has labels, `label_accuracy` is that with those alone.
    """
    imitated, labelled = actions_to_imitate(batch)
    agrees = (policy.probs[:, :-1, -1].argmax(-1) == imitated).float()  # (B, L)
    counts = counted[..., 0, 0]  # (B, L)
    stats = {
        "policy_entropy": masked_mean(policy.entropy()[:, :-1, -1], counts),
        "action_accuracy": masked_mean(agrees, counts),
        "counted_share": counted.float().mean(),
    }
    if batch.labels is not None:
        stats["label_accuracy"] = masked_mean(agrees, counts & labelled)
    return stats
