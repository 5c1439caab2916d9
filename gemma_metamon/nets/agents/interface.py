"""What an agent is built from, what it gives back and says of itself, and which options cannot work."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.checks import FLAG, PART, SHARE, TEXT, check, each, number, one_of, whole
from gemma_metamon.nets.heads.actors import ActionDistribution
from gemma_metamon.nets.heads.batch_filters import BatchFilter
from gemma_metamon.nets.heads.critics import AmagoVersion
from gemma_metamon.nets.layers import masked_mean

_DISCOUNTS = each(SHARE, most=100)


class Multigammas:
    """The discounts that are learned beside the one that acts."""

    def __init__(
        self,
        discrete: Sequence[float] = (0.1, 0.9, 0.95, 0.97, 0.99, 0.995),
        continuous: Sequence[float] = (0.1, 0.9, 0.95, 0.97, 0.99, 0.995),
    ) -> None:
        check("Multigammas", locals(), {"discrete": _DISCOUNTS, "continuous": _DISCOUNTS})
        self.discrete = list(discrete)
        self.continuous = list(continuous)


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


class CriticView(NamedTuple):
    """What the critics say of the recorded actions.

    Attributes:
        loss: (B, L, C, G, 1).
        value: (B, L, G, 1), or (B, T, G, 1) where the last state is judged with the last action again; the critics'
            mean in their own scale, without gradient.
    """

    loss: Tensor
    value: Tensor


def check_options(owner: str, given: Mapping[str, Any]) -> None:
    """Refuse option values of an agent, by name, that cannot work or that contradict each other.

    Args:
        owner: the agent's class.
        given: option -> value.

    Raises:
        ConfigError: names the value and what it should be.
    """
    check(owner, given, _RULES)
    _require(
        not given["fake_filter"] or given["offline_coeff"] > 0,
        "fake_filter is True, which imitates every action, but offline_coeff, the weight of imitation, is 0; "
        "set one of them otherwise",
    )
    _require(
        given["num_critics_td"] <= given["num_critics"],
        f"num_critics_td ({given['num_critics_td']}) must not be above num_critics ({given['num_critics']})",
    )
    _require(
        given["amago_version"] != "3.1" or given["n_step"] == 1,
        f'n_step ({given["n_step"]}) must be 1 with amago_version "3.1", which has no longer targets',
    )


def check_critic_type(owner: str, critic_type: Callable[..., Any], wanted: type) -> None:
    """Raises ConfigError for critics that this agent does not learn with."""
    made = getattr(critic_type, "func", critic_type)  # of a functools.partial
    if inspect.isclass(made) and not issubclass(made, wanted):
        raise ConfigError(
            f"critic_type is {made.__name__}, but {owner} learns with {wanted.__name__}; "
            f"set {owner}.critic_type = @actor_critic.{wanted.__name__}"
        )


def try_filter(owner: str, fbc_filter_func: Callable[..., Tensor] | BatchFilter) -> None:
    """So that its values are checked now, and not in the first update. Raises ConfigError for what is no filter."""
    if isinstance(fbc_filter_func, BatchFilter):  # has checked them when it was made
        return
    weights: object = fbc_filter_func(torch.zeros(1, 1))
    if not isinstance(weights, Tensor):
        raise ConfigError(
            f"{owner}.fbc_filter_func makes {type(weights).__name__} of advantages, not weights; "
            "set it to @binary_filter, @exp_filter or @leaky_relu_filter, or to a filter that is made, with ()"
        )


@torch.no_grad()
def policy_stats(policy: ActionDistribution, actions: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """Of the discount that acts. policy (B, T, G, A), actions (B, L, A), counted (B, L, 1, 1) bool -> scalars."""
    agrees = policy.probs[:, :-1, -1].argmax(-1) == actions.argmax(-1)  # (B, L)
    return {
        "policy_entropy": masked_mean(policy.entropy()[:, :-1, -1], counted[..., 0, 0]),
        "action_accuracy": masked_mean(agrees.float(), counted[..., 0, 0]),
        "counted_share": counted.float().mean(),
    }


_RULES = {
    "num_critics": whole(1, 1000),
    "num_critics_td": whole(1, 1000),
    "online_coeff": number(0, 1e6),
    "offline_coeff": number(0, 1e6),
    "gamma": SHARE,
    "reward_multiplier": number(0, 1e6, above=True),
    "tau": SHARE,
    "fake_filter": FLAG,
    "num_actions_for_value_in_critic_loss": whole(1, 10_000),
    "num_actions_for_value_in_actor_loss": whole(1, 10_000),
    "fbc_filter_func": PART,
    "popart": FLAG,
    "use_target_actor": FLAG,
    "use_multigamma": FLAG,
    "actor_type": PART,
    "critic_type": PART,
    "pass_obs_keys_to_actor": each(TEXT, most=100).or_none(),
    "critic_loss_weight": number(0, 1e6),
    "n_step": whole(1, 10_000),
    "amago_version": one_of(*get_args(AmagoVersion)),
}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
