"""Weights of filtered behaviour cloning: how much each recorded action is imitated, by its advantage.

Binary and exponential weights are those of critic-regularised regression (arXiv 2006.15134). The advantage's unit is
that of the multiplied reward (10 x reward by default). All take advantages of any shape.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.checks import FLAG, check, number

_ADVANTAGE = number(-1e9, 1e9)
WEIGHT = number(0, 1e9)
_EXP_RULES = {
    "beta": number(0, 1e6),
    "clip_adv_low": _ADVANTAGE.or_none(),
    "clip_adv_high": _ADVANTAGE.or_none(),
    "clip_weights_low": WEIGHT.or_none(),
    "clip_weights_high": WEIGHT.or_none(),
}
_LEAKY_RELU_RULES = {
    "beta": number(1e-6, 1e6),
    "tau": _ADVANTAGE,
    "neg_slope": number(0, 1e6),
    "target_f0": number(-1e6, 1e6),
    "clip_weights_low": WEIGHT.or_none(),
    "clip_weights_high": WEIGHT.or_none(),
    "add_binary": FLAG,
}


def binary_filter(adv: Tensor, threshold: float = 0.0) -> Tensor:
    """1 where the advantage is above the threshold, else 0 (an advantage of exactly the threshold gives 0).

    Raises:
        ConfigError: a threshold that breaks its rule.
    """
    check("binary_filter", locals(), {"threshold": _ADVANTAGE})
    return (adv > threshold).to(adv.dtype)


def exp_filter(
    adv: Tensor,
    beta: float = 1.0,
    clip_adv_low: float | None = None,
    clip_adv_high: float | None = None,
    clip_weights_low: float | None = 1e-7,
    clip_weights_high: float | None = None,
) -> Tensor:
    """exp(beta * advantage), advantage and weight each clipped where a bound is given.

    Args:
        adv: advantages of any shape.
        beta: the larger, the pickier.
        clip_adv_low: advantages below are raised to it; None for none.
        clip_adv_high: advantages above are lowered to it; None for none.
        clip_weights_low: the smallest weight; None leaves small ones as they are.
        clip_weights_high: the largest weight; None leaves large ones as they are.

    Raises:
        ConfigError: a value that breaks its rule, or bounds that are not in order.
    """
    check("exp_filter", locals(), _EXP_RULES)
    require_order("exp_filter", clip_adv_low=clip_adv_low, clip_adv_high=clip_adv_high)
    require_order("exp_filter", clip_weights_low=clip_weights_low, clip_weights_high=clip_weights_high)
    return clip(torch.exp(beta * clip(adv, clip_adv_low, clip_adv_high)), clip_weights_low, clip_weights_high)


def leaky_relu_filter(
    adv: Tensor,
    beta: float = 2.0,
    tau: float = 1e-2,
    neg_slope: float = 0.05,
    target_f0: float = 1e-2,
    clip_weights_low: float | None = 1e-7,
    clip_weights_high: float | None = 10.0,
    add_binary: bool = True,
) -> Tensor:
    """A ramp of slope 1/beta above `tau` and neg_slope/beta below it, `target_f0` at 0.

    Args:
        adv: advantages of any shape.
        beta: the larger, the flatter.
        tau: the advantage at which the slope changes.
        neg_slope: the slope below it, as a share of that above.
        target_f0: the weight of an advantage of 0, before the clipping.
        clip_weights_low: the smallest weight; None leaves small ones as they are.
        clip_weights_high: the largest weight before the binary term; None leaves large ones as they are.
        add_binary: add binary_filter's 1 after the clipping, so that the largest weight is clip_weights_high + 1.
            AMAGO 3.1 has no such term: `amago_version = "3.1"` of the agent leaves it out.

    Raises:
        ConfigError: a value that breaks its rule, or bounds that are not in order.
    """
    check("leaky_relu_filter", locals(), _LEAKY_RELU_RULES)
    require_order("leaky_relu_filter", clip_weights_low=clip_weights_low, clip_weights_high=clip_weights_high)
    ramp = target_f0 + neg_slope * tau / beta + F.leaky_relu((adv - tau) / beta, neg_slope)
    weights = clip(ramp, clip_weights_low, clip_weights_high)
    return weights + binary_filter(adv) if add_binary else weights


def clip(x: Tensor, low: float | None, high: float | None) -> Tensor:
    """Within the bounds that are given."""
    return x if low is None and high is None else x.clamp(low, high)


def require_order(owner: str, **bounds: float | None) -> None:
    """Raise ConfigError where the first of two bounds is above the second."""
    (low_name, low), (high_name, high) = bounds.items()
    if low is not None and high is not None and low > high:
        raise ConfigError(f"{owner}.{low_name} ({low}) must not be above {high_name} ({high})")
