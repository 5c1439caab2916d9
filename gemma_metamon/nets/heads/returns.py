"""Returns and how critics speak of them: bins, labels, and targets over one step, several, or all mixed."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.checks import Rule, check, number, whole
from gemma_metamon.nets.layers import symexp, symlog

LabelType = Literal["twohot", "hlgauss"]
RETURN = number(-1e9, 1e9)
NARROWEST = 1e-6
"""Bins closer than this, on the scale on which they are even, are told apart by rounding errors."""


@dataclass(frozen=True, kw_only=True)
class ReturnBins:
    """Support of the distributional critics, in multiplied reward (reward_multiplier already applied).

    The bins are evenly spaced from min_return to max_return; with use_symlog their symlogs are.

    Raises:
        ConfigError: bounds that are not in order, or too close for so many bins.
    """

    min_return: float = -100_000.0
    max_return: float = 100_000.0
    output_bins: int = 128
    use_symlog: bool = True

    def __post_init__(self) -> None:
        check("NCriticsTwoHot", vars(self), {"output_bins": whole(2, 65_536)})
        if not self.min_return < self.max_return:
            raise ConfigError(
                f"NCriticsTwoHot.min_return ({self.min_return}) must be below max_return ({self.max_return})"
            )
        with torch.device("cpu"):  # "meta" could not compare
            apart = bool((self.values().diff() > NARROWEST).all())
        if not apart:
            raise ConfigError(
                f"NCriticsTwoHot.output_bins = {self.output_bins}: so many bins between min_return "
                f"({self.min_return}) and max_return ({self.max_return}) are too close; take fewer bins, or bounds "
                "that are further apart"
            )

    def within(self) -> Rule:
        """What a return between the bounds is."""
        return number(self.min_return, self.max_return)

    def squash(self, returns: Tensor) -> Tensor:
        """From returns to the scale on which the bins are even."""
        return symlog(returns) if self.use_symlog else returns

    def unsquash(self, squashed: Tensor) -> Tensor:
        """The inverse of squash."""
        return symexp(squashed) if self.use_symlog else squashed

    def values(self) -> Tensor:
        """(output_bins,), the bins' positions on the squashed scale."""
        # on the CPU whatever the default device: an agent may be made on "meta" to be counted
        low, high = self.squash(torch.tensor([self.min_return, self.max_return], device="cpu")).tolist()
        return torch.linspace(low, high, self.output_bins)


def two_hot(returns: Tensor, bins: ReturnBins, bin_values: Tensor) -> Tensor:
    """(..., 1) -> (..., output_bins): weight on two neighbouring bins, so that their mean is the return.

    A return beyond the range puts all weight on the end bin; NaN gives NaN, so that it is not taken for a large one.
    """
    squashed = bins.squash(returns)
    above = torch.searchsorted(bin_values, squashed.contiguous(), right=True)  # how many bins are not above the return
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=bins.output_bins - 1)
    low, high = bin_values[below], bin_values[above]
    weight_above = torch.where(above > below, (squashed - low) / (high - low), squashed.where(squashed.isnan(), 0.0))
    labels = squashed.new_zeros(*squashed.shape[:-1], bins.output_bins)
    return labels.scatter_add(-1, below, 1.0 - weight_above).scatter_add(-1, above, weight_above)


def hl_gauss(returns: Tensor, bins: ReturnBins, bin_values: Tensor, sigma: float) -> Tensor:
    """(..., 1) -> (..., output_bins): a Gaussian around the return, `sigma` bin widths wide, integrated over each bin.

    The labels of HL-Gauss (arXiv 2403.03950). Far outside the range nearly nothing of it falls into a bin and the row
    is (nearly) zero.
    """
    width = bin_values[1] - bin_values[0]
    edges = torch.cat((bin_values - width / 2, bin_values[-1:] + width / 2))
    mass = torch.special.ndtr((edges - bins.squash(returns)) / (sigma * width)).diff(dim=-1)
    labels: Tensor = mass / mass.sum(-1, keepdim=True).clamp(min=1e-8)
    return labels


def expected_return(log_probs: Tensor, bins: ReturnBins, bin_values: Tensor) -> Tensor:
    """Log-probabilities of the bins (..., output_bins) -> (..., 1), the return that their mean stands for."""
    # no matrix product: under autocast that would round returns to bfloat16
    return bins.unsquash((log_probs.exp() * bin_values).sum(-1, keepdim=True))


def nstep_return(rewards: Tensor, dones: Tensor, next_q: Tensor, gamma: Tensor, n: int, real: Tensor) -> Tensor:
    """Targets r[t] + gamma r[t+1] + ... + gamma^k next_q[t+k-1]; k is n, or fewer where battle or data end.

    Args:
        rewards: (B, L, 1, G, 1), multiplied.
        dones: the same shape, float, 1 where the battle ended.
        next_q: the same shape; next_q[t] is the value of the state after action t.
        gamma: (G, 1).
        n: how many rewards at most.
        real: (B, L, 1, 1, 1) float, 0 on padding. A padded start gives gamma * next_q (and counts nowhere).
    """
    L = rewards.shape[1]
    reached = real.expand_as(rewards)  # 1 where step t + i exists and no battle ended before it
    total = torch.zeros_like(rewards)
    bootstrap = gamma * next_q
    for i in range(min(n, L)):
        r, d, q, valid = (F.pad(x[:, i:], (0, 0) * 3 + (0, i)) for x in (rewards, dones, next_q, real))
        reached = reached * valid
        total = total + reached * gamma**i * r
        survived = reached * (1.0 - d)
        bootstrap = torch.where(reached > 0, gamma ** (i + 1) * survived * q, bootstrap)
        reached = survived
    return total + bootstrap


def lambda_return(
    rewards: Tensor, dones: Tensor, next_q: Tensor, gamma: Tensor, lambda_: float, real: Tensor
) -> Tensor:
    """The targets of TD(lambda), from the last step back (Sutton and Barto, 2018, chapter 12).

    G[t] = r[t] + gamma * ((1 - lambda) * next_q[t] + lambda * G[t+1]); without what follows r[t] where the battle ended
    with it, and with next_q[t] alone in the brackets where the data end. So 0 gives the targets of one step, and 1 all
    rewards that are recorded.

    Args:
        rewards: (B, L, 1, G, 1), multiplied.
        dones: the same shape, float, 1 where the battle ended.
        next_q: the same shape; next_q[t] is the value of the state after action t.
        gamma: (G, 1).
        lambda_: from 0 to 1.
        real: (B, L, 1, 1, 1) float, 0 on padding, where the target is 0 (and counts nowhere).
    """
    target = torch.zeros_like(rewards)
    following = next_q[:, -1]
    for t in reversed(range(rewards.shape[1])):
        if t + 1 < rewards.shape[1]:
            following = torch.where(real[:, t + 1] > 0, target[:, t + 1], next_q[:, t])
        ahead = (1.0 - lambda_) * next_q[:, t] + lambda_ * following
        target[:, t] = torch.where(real[:, t] > 0, rewards[:, t] + gamma * (1.0 - dones[:, t]) * ahead, 0.0)
    return target
