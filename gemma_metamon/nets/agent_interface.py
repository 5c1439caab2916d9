"""What an agent is built from, what it gives back, and which options cannot work."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, get_args

from torch import Tensor

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.critics import AmagoVersion


class HasShape(Protocol):
    """An observation's or the rl2 vector's space: anything with a shape (gymnasium's Box is one)."""

    @property
    def shape(self) -> tuple[int, ...] | None: ...


class HasN(Protocol):
    """A list of actions: anything with their number (gymnasium's Discrete is one)."""

    @property
    def n(self) -> Any: ...


class Multigammas:
    """The discounts that are learned beside the one that acts."""

    def __init__(
        self,
        discrete: Sequence[float] = (0.1, 0.9, 0.95, 0.97, 0.99, 0.995),
        continuous: Sequence[float] = (0.1, 0.9, 0.95, 0.97, 0.99, 0.995),
    ) -> None:
        self.discrete = list(discrete)
        self.continuous = list(continuous)


class AgentLosses(NamedTuple):
    """What one batch gives to learn from; the total is actor_loss + critic_loss_weight * critic_loss.

    Attributes:
        actor_loss: scalar, the mean over the actions that count and over discounts.
        critic_loss: scalar, the same, over critics too; 0 without a gradient where no critic is needed.
        stats: detached scalars to log.
    """

    actor_loss: Tensor
    critic_loss: Tensor
    stats: dict[str, Tensor]


def check_options(given: Mapping[str, Any]) -> None:
    """Refuse option values of an agent, by name, that cannot work or that contradict each other.

    Raises:
        ConfigError: names the value and what it should be.
    """
    for name in _COUNTS:
        _require(given[name] >= 1, f"{name} ({given[name]}) must be at least 1")
    for name in ("gamma", "tau"):
        _require(0.0 <= given[name] <= 1.0, f"{name} ({given[name]}) must lie in 0...1")
    for name in ("online_coeff", "offline_coeff"):
        _require(given[name] >= 0, f"{name} ({given[name]}) must not be negative")
    _require(
        given["online_coeff"] > 0 or given["offline_coeff"] > 0,
        "online_coeff and offline_coeff are both 0: the actor would learn from nothing",
    )
    _require(
        not given["fake_filter"] or given["offline_coeff"] > 0,
        "fake_filter is True, which imitates every action, but offline_coeff, the weight of imitation, is 0; "
        "set one of them otherwise",
    )
    _require(
        given["num_critics_td"] <= given["num_critics"],
        f"num_critics_td ({given['num_critics_td']}) must not be above num_critics ({given['num_critics']})",
    )
    version = given["amago_version"]
    _require(
        version in get_args(AmagoVersion),
        f"amago_version {version!r} is not one of {', '.join(get_args(AmagoVersion))}",
    )
    _require(
        version != "3.1" or given["n_step"] == 1,
        f'n_step ({given["n_step"]}) must be 1 with amago_version "3.1", which has no longer targets',
    )


_COUNTS = (
    "num_critics",
    "num_critics_td",
    "n_step",
    "num_actions_for_value_in_critic_loss",
    "num_actions_for_value_in_actor_loss",
)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
