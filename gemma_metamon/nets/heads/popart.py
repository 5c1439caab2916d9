"""PopArt: running statistics of the returns, one pair per discount (arXiv 1809.04474)."""

import torch
from torch import Tensor, distributed, nn

from gemma_metamon.nets.checks import FLAG, check, number

_RULES = {"beta": number(1e-6, 1), "init_nu": number(0, 1e12), "enabled": FLAG}


class PopArtLayer(nn.Module):
    """Mean and spread of the value targets, and the affine map that keeps old outputs right when they move.

    All state is a buffer of shape (G, 1): mu, nu (mean of squares), w, b, _t (updates so far, plus 1). Values have
    their discounts on the second-last axis.

    Args:
        gammas: G, how many discounts.
        beta: step of the running means once many updates have been made; early steps are larger.
        init_nu: nu before the first update.
        enabled: False makes every method the identity; the buffers stay, so that weights fit both.

    Raises:
        ConfigError: a value that breaks its rule.
    """

    mu: Tensor
    nu: Tensor
    w: Tensor
    b: Tensor
    _t: Tensor

    def __init__(self, gammas: int, beta: float = 5e-4, init_nu: float = 100.0, enabled: bool = True) -> None:
        super().__init__()
        check("PopArtLayer", locals(), _RULES)
        self.register_buffer("mu", torch.zeros(gammas, 1))
        self.register_buffer("nu", torch.full((gammas, 1), init_nu))
        self.register_buffer("w", torch.ones(gammas, 1))
        self.register_buffer("b", torch.zeros(gammas, 1))
        self.register_buffer("_t", torch.ones(gammas, 1))
        self.beta = beta
        self.enabled = enabled

    @property
    def sigma(self) -> Tensor:
        """(G, 1), the spread: at least 0.01, at most 1e4."""
        return (self.nu - self.mu.square()).clamp(1e-4, 1e8).sqrt()

    def normalize_values(self, values: Tensor) -> Tensor:
        """(values - mu) / sigma."""
        return (values - self.mu) / self.sigma if self.enabled else values

    def forward(self, x: Tensor, normalized: bool = True) -> Tensor:
        """A raw critic output as normalised value, or with `normalized=False` in the unit of the returns."""
        if not self.enabled:
            return x
        value = self.w * x + self.b
        return value if normalized else self.sigma * value + self.mu

    @torch.no_grad()
    def update_stats(self, values: Tensor, counted: Tensor) -> None:
        """Move the statistics towards `values` (B, L, 1, G, 1) where `counted` (the same shape, bool) is True.

        Processes that train together count their values together, so that each ends with the same statistics. Where
        nothing is counted nothing moves (AMAGO's statistics become NaN there), nor does what is not finite count.
        """
        if not self.enabled:
            return
        values = torch.where(counted, values, 0.0)
        sums = torch.stack([counted.to(values.dtype), values, values.square()]).sum((1, 2, 3))  # (3, G, 1)
        sums = torch.where(sums.isfinite().all(), sums, 0.0)  # the update will be left out, in every process
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        total, value, square = sums  # (G, 1) each
        moved = total > 0
        self._t += moved
        # larger steps at first, so that the initial statistics are soon forgotten
        step = torch.where(moved, self.beta / (1.0 - (1.0 - self.beta) ** self._t), 0.0)
        old_mu, old_sigma = self.mu.clone(), self.sigma
        self.mu.lerp_(value / total.clamp(min=1), step)
        self.nu.lerp_(square / total.clamp(min=1), step)
        sigma = self.sigma
        self.w.mul_(old_sigma / sigma)
        self.b.copy_((old_sigma * self.b + old_mu - self.mu) / sigma)
