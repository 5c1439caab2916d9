"""Several members' policies over the same actions, made one: by their mean, or by a vote.

Shapes: M members, n battles, A actions. `probs` (M, n, A): 0 on illegal actions, and each row sums to 1, or to 0 where
none of a member's own actions is legal, which then has no say. `weights` (M,), above 0.
"""

import torch
from torch import Tensor

_SAME_VOTES = 1e-6
"""Share of all votes within which two counts are the same: sums of weights are rounded."""


def tempered(probs: Tensor, *, made_at: float, temperature: float) -> Tensor:
    """What a policy of temperature `made_at` is at another one, at most that high; at 0 its most probable action alone.

    Shape: (..., A) -> (..., A). At `made_at` itself they come back as they are.
    """
    if temperature == made_at:
        return probs
    if temperature == 0:
        return torch.zeros_like(probs).scatter(-1, probs.argmax(-1, keepdim=True), 1.0)
    return (probs.log() * (made_at / temperature)).softmax(-1)


def mean_policy(probs: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean, (n, A); of one member, its own probabilities to the last bit."""
    return (_shares(probs, weights)[..., None] * probs).sum(0)


def count_votes(choices: Tensor, probs: Tensor, weights: Tensor) -> Tensor:
    """The weight of the members that chose each action, as shares of 1: choices (M, n) -> (n, A)."""
    shares = _shares(probs, weights)  # (M, n)
    return torch.zeros_like(probs[0]).scatter_add(-1, choices.T, shares.T)


def elect(votes: Tensor, mean: Tensor) -> Tensor:
    """The action with the most votes, (n,) long; among those with equally many, the one of the highest mean."""
    leads = votes >= votes.amax(-1, keepdim=True) - _SAME_VOTES
    return mean.masked_fill(~leads, -1.0).argmax(-1)


def drawn(probs: Tensor, at: Tensor) -> Tensor:
    """An action from each row's probabilities: (n, A), and `at` (n,) float64 in [0, 1), drawn evenly -> (n,) long.

    The same number gives the same action, whatever the other rows are. One of probability 0 is never drawn.
    """
    cumulative = probs.double().cumsum(-1)
    actions = torch.searchsorted(cumulative, (at * cumulative[:, -1])[:, None], right=True)[:, 0]
    last = (probs > 0).long().cumsum(-1).argmax(-1)  # a product may be rounded up to the whole
    return torch.minimum(actions, last)


def _shares(probs: Tensor, weights: Tensor) -> Tensor:
    """(M, n): each member's part of the weight of those that have a say in a battle; 0 everywhere if nobody has."""
    have_say = weights[:, None] * (probs.sum(-1) > 0)
    return have_say / have_say.sum(0).clamp(min=torch.finfo(probs.dtype).tiny)
