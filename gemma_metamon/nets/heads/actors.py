"""From a battle's state to a distribution over actions, one per discount.

The last discount is the one that acts. Parameter names are AMAGO's and metamon's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.checks import DROPOUT, FLAG, LAYERS, WIDTH, check, whole
from gemma_metamon.nets.layers import ACTIVATION, MLP, NORMALIZATION, Normalization, activation_function
from gemma_metamon.strict_json import shown

# torch clamps probabilities to this distance from 0 and 1 before it takes logarithms; the recorded numbers carry it
_EPS = torch.finfo(torch.float32).eps


_ACTOR_RULES = {"n_layers": LAYERS, "d_hidden": WIDTH, "activation": ACTIVATION, "dropout_p": DROPOUT}
_RESIDUAL_RULES = {
    "feature_dim": WIDTH,
    "residual_ff_dim": WIDTH,
    "residual_blocks": whole(0, 128),
    "activation": ACTIVATION,
    "normalization": NORMALIZATION,
    "dropout_p": DROPOUT,
}


class ActionDistribution(NamedTuple):
    """What the actor would do, (B, T, G, A): B battles, T timesteps, G discounts, A actions.

    Attributes:
        probs: sum to 1; an illegal action keeps a probability near clip_prob_low, so that its logarithm is finite.
        logits: the logarithms of probs, clamped a rounding error away from those of 0 and 1.
    """

    probs: Tensor
    logits: Tensor

    def normalized(self) -> "ActionDistribution":
        """As MultiTaskAgent uses it: the clamped logarithms normalised once more."""
        logits = self.logits - self.logits.logsumexp(-1, keepdim=True)
        return ActionDistribution(logits.softmax(-1), logits)

    def log_prob(self, action: Tensor) -> Tensor:
        """Of action indices (..., G) -> (..., G)."""
        return self.logits.gather(-1, action[..., None]).squeeze(-1)

    def entropy(self) -> Tensor:
        """(..., G), in nats."""
        return -(self.probs * self.logits).sum(-1)


class Discrete:
    """Network outputs to probabilities, clipped so that no action is ever certain or impossible.

    Args:
        d_action: A, how many actions.
        clip_prob_low: probabilities below are raised to it.
        clip_prob_high: probabilities above are lowered to it.

    Raises:
        ConfigError: bounds that are not in order, within 0...1.
    """

    def __init__(self, d_action: int, clip_prob_low: float = 0.001, clip_prob_high: float = 0.99) -> None:
        if not 0.0 <= clip_prob_low < clip_prob_high <= 1.0:
            raise ConfigError(
                f"clip_prob_low ({clip_prob_low}) must be below clip_prob_high ({clip_prob_high}), in 0...1"
            )
        self.d_action = d_action
        self.clip_prob_low = clip_prob_low
        self.clip_prob_high = clip_prob_high

    def __call__(self, outputs: Tensor) -> ActionDistribution:
        """(..., A) -> a distribution. A clipped entry passes a gradient on only through the sum."""
        probs = self.clip(outputs.softmax(-1))
        probs = probs / probs.sum(-1, keepdim=True)
        return ActionDistribution(probs, probs.clamp(_EPS, 1.0 - _EPS).log())

    def clip(self, probs: Tensor) -> Tensor:
        """Clipped and divided by the sum, a constant for the gradient. Also softens a recorded one-hot action."""
        clipped = probs.clamp(self.clip_prob_low, self.clip_prob_high)
        return clipped / clipped.sum(-1, keepdim=True).detach()


class ActorHead(nn.Module):
    """What all actors share: a network of G * A outputs, laid out (G, A), made a distribution.

    Args:
        state_dim: width of the state.
        action_dim: A, how many actions.
        discrete: must be True.
        gammas: the discounts; G = how many.
        continuous_dist_type: must be None.
        discrete_dist_type: makes the distribution; `Discrete`.
        mask_illegal_actions: give illegal actions no weight before the clipping.

    Raises:
        ConfigError: actions that are no list, or a distribution for such.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        gammas: Sequence[float] | Tensor,
        continuous_dist_type: Any,
        discrete_dist_type: Callable[..., Discrete],
        mask_illegal_actions: bool,
    ) -> None:
        super().__init__()
        if not discrete:
            raise ConfigError("actors have a fixed list of actions to choose from: discrete must be True")
        check(type(self).__name__, locals(), {"mask_illegal_actions": FLAG})
        if continuous_dist_type is not None:
            raise ConfigError(
                f"{type(self).__name__}.continuous_dist_type = {shown(continuous_dist_type, none='None')} has no use: "
                "the actions are discrete"
            )
        self.state_dim = state_dim
        self.action_dim = action_dim
        self.num_gammas = len(gammas)
        self.policy_dist = discrete_dist_type(d_action=action_dim)
        self.mask_illegal_actions = mask_illegal_actions

    def network(self, state: Tensor) -> Tensor:
        """(B, T, state_dim) -> (B, T, G * A)."""
        raise NotImplementedError

    def forward(self, state: Tensor, obs: Mapping[str, Tensor] | None = None) -> ActionDistribution:
        """States (B, T, state_dim) -> the distribution over actions.

        Args:
            state: what the trajectory encoder gave.
            obs: the observations named by the agent's pass_obs_keys_to_actor. A masked actor needs `illegal_actions`
                (B, T, A), True = illegal; where everything is illegal nothing is masked.

        Raises:
            ConfigError: a masked actor is not told what is illegal.
        """
        outputs = self.network(state).float().view(*state.shape[:-1], self.num_gammas, self.action_dim)  # (B, T, G, A)
        if self.mask_illegal_actions:
            if obs is None or "illegal_actions" not in obs:
                raise ConfigError(
                    f"{type(self).__name__} masks illegal actions, but pass_obs_keys_to_actor has no "
                    "'illegal_actions'; add it there, or set mask_illegal_actions = False"
                )
            outputs = outputs.masked_fill(avoidable_actions(obs["illegal_actions"])[..., None, :], -torch.inf)
        return self.policy_dist(outputs)


def avoidable_actions(illegal_actions: Tensor) -> Tensor:
    """(..., A) -> (..., A), True on illegal actions, but nowhere in a row that has no legal one."""
    return illegal_actions & ~illegal_actions.all(-1, keepdim=True)


class Actor(ActorHead):
    """An MLP.

    Args:
        state_dim: width of the state.
        action_dim: A, how many actions.
        discrete: must be True.
        gammas: the discounts; G = how many.
        n_layers: hidden layers.
        d_hidden: their width.
        activation: leaky_relu, relu or gelu.
        dropout_p: dropout after each hidden layer.
        continuous_dist_type: accepted because upstream has it; must be None.
        discrete_dist_type: makes the distribution.
        mask_illegal_actions: give illegal actions no weight before the clipping.

    Raises:
        ConfigError: a value that breaks its rule.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        gammas: Sequence[float] | Tensor,
        n_layers: int = 2,
        d_hidden: int = 256,
        activation: str = "leaky_relu",
        dropout_p: float = 0.0,
        continuous_dist_type: Any = None,
        discrete_dist_type: Callable[..., Discrete] = Discrete,
        *,
        mask_illegal_actions: bool = False,
    ) -> None:
        super().__init__(
            state_dim, action_dim, discrete, gammas, continuous_dist_type, discrete_dist_type, mask_illegal_actions
        )
        check(type(self).__name__, locals(), _ACTOR_RULES)
        self.base = MLP(state_dim, d_hidden, n_layers, action_dim * self.num_gammas, activation, dropout_p)

    def network(self, state: Tensor) -> Tensor:
        """(B, T, state_dim) -> (B, T, G * A)."""
        out: Tensor = self.base(state)
        return out


class MetamonMaskedActor(Actor):
    """Actor that gives illegal actions no weight before the clipping (metamon's default).

    Args: as of Actor, but for `discrete_dist_type`, which is Discrete.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        gammas: Sequence[float] | Tensor,
        n_layers: int = 2,
        d_hidden: int = 256,
        activation: str = "leaky_relu",
        dropout_p: float = 0.0,
        continuous_dist_type: Any = None,
        mask_illegal_actions: bool = True,
    ) -> None:
        super().__init__(
            state_dim,
            action_dim,
            discrete,
            gammas,
            n_layers=n_layers,
            d_hidden=d_hidden,
            activation=activation,
            dropout_p=dropout_p,
            continuous_dist_type=continuous_dist_type,
            mask_illegal_actions=mask_illegal_actions,
        )


class ActivationLayer(nn.Module):
    """An activation as a layer, without parameters."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.function = activation_function(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, which stays."""
        return self.function(x)


class ResidualActor(ActorHead):
    """Residual blocks x + norm(linear(act(norm(linear x)))) after an MLP with one hidden layer.

    Args:
        state_dim: width of the state.
        action_dim: A, how many actions.
        discrete: must be True.
        gammas: the discounts; G = how many.
        feature_dim: width between the blocks.
        residual_ff_dim: width inside a block.
        residual_blocks: how many blocks.
        activation: leaky_relu, relu or gelu.
        normalization: layer, rmsnorm, unitball, unitball-detach or none.
        dropout_p: dropout in the first MLP.
        continuous_dist_type: accepted because upstream has it; must be None.
        discrete_dist_type: makes the distribution.
        mask_illegal_actions: give illegal actions no weight before the clipping.

    Raises:
        ConfigError: a value that breaks its rule.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        gammas: Sequence[float] | Tensor,
        feature_dim: int = 256,
        residual_ff_dim: int = 512,
        residual_blocks: int = 2,
        activation: str = "leaky_relu",
        normalization: str = "layer",
        dropout_p: float = 0.0,
        continuous_dist_type: Any = None,
        discrete_dist_type: Callable[..., Discrete] = Discrete,
        *,
        mask_illegal_actions: bool = False,
    ) -> None:
        super().__init__(
            state_dim, action_dim, discrete, gammas, continuous_dist_type, discrete_dist_type, mask_illegal_actions
        )
        check(type(self).__name__, locals(), _RESIDUAL_RULES)
        self.inp = MLP(state_dim, feature_dim, 1, feature_dim, activation, dropout_p)
        self.residual_blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(feature_dim, residual_ff_dim),
                Normalization(normalization, residual_ff_dim),
                ActivationLayer(activation),
                nn.Linear(residual_ff_dim, feature_dim),
                Normalization(normalization, feature_dim),
            )
            for _ in range(residual_blocks)
        )
        self.out = nn.Linear(feature_dim, action_dim * self.num_gammas)

    def network(self, state: Tensor) -> Tensor:
        """(B, T, state_dim) -> (B, T, G * A)."""
        x = self.inp(state)
        for block in self.residual_blocks:
            x = x + block(x)
        out: Tensor = self.out(x)
        return out


class MetamonMaskedResidualActor(ResidualActor):
    """ResidualActor that gives illegal actions no weight before the clipping.

    Args: as of ResidualActor, but for `discrete_dist_type`, which is Discrete.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        gammas: Sequence[float] | Tensor,
        feature_dim: int = 256,
        residual_ff_dim: int = 512,
        residual_blocks: int = 2,
        activation: str = "leaky_relu",
        normalization: str = "layer",
        dropout_p: float = 0.0,
        continuous_dist_type: Any = None,
        mask_illegal_actions: bool = True,
    ) -> None:
        super().__init__(
            state_dim,
            action_dim,
            discrete,
            gammas,
            feature_dim=feature_dim,
            residual_ff_dim=residual_ff_dim,
            residual_blocks=residual_blocks,
            activation=activation,
            normalization=normalization,
            dropout_p=dropout_p,
            continuous_dist_type=continuous_dist_type,
            mask_illegal_actions=mask_illegal_actions,
        )
