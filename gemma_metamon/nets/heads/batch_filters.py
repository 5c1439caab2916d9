"""Filters that weigh a recorded action by how its advantage compares with the others of the batch, or of many battles.

Those of `filters` look at one advantage at a time. These z-score or rank all of a batch first, so that their options
mean the same whatever the size of the rewards, and `ISAdvantageFilter` can weigh whole battles besides. Names, defaults
and numbers are those of metamon 1.6.0; a .gin file writes them with (): `@custom_agent.ISAdvantageFilter()`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.batch import Batch, padded_timesteps
from gemma_metamon.nets.checks import SHARE, check, number, whole
from gemma_metamon.nets.heads.filters import WEIGHT, clip, require_order

_EXP_RULES = {
    "beta": number(0, 1e6),
    "eps": number(0, 1, above=True),
    "clip_weights_low": WEIGHT.or_none(),
    "clip_weights_high": WEIGHT.or_none(),
}
_SEQUENCE_RULES = {
    "clip_delta": number(0, 100),
    "seq_p_low": SHARE.or_none(),
    "seq_p_full": SHARE.or_none(),
    "seq_floor": SHARE,
    "seq_floor_warmup_steps": whole(0, 1_000_000_000),
    "seq_buffer_size": whole(1, 10_000_000),
    "seq_warmup": whole(0, 10_000_000),
}


class AboutBatch(NamedTuple):
    """What a filter is told of a batch besides the advantages (B, T, G, 1); it reads as many timesteps as those have.

    Attributes:
        real: (B, T, 1, 1) bool, True on a state that is no padding.
        recorded: (B, T, 1, 1) bool, True on a real state in which it is known what was chosen.
        log_ratio: (B, T, G, 1) without gradient, added to the exponent within +-clip_delta: log pi_frozen - log pi_data
            of the recorded actions. None for agents that estimate none.
    """

    real: Tensor
    recorded: Tensor
    log_ratio: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch) -> "AboutBatch":
        """What a batch says of itself, without a log_ratio."""
        real = ~padded_timesteps(batch.rl2s)[..., None, None]
        missing = batch.obs.get("missing_action_mask")
        return cls(real, real if missing is None else real & ~missing[..., None])


class Weighed(NamedTuple):
    """The weights (B, T, G, 1) of behaviour cloning, and detached scalars to log."""

    weights: Tensor
    stats: dict[str, Tensor]


class BatchFilter(nn.Module):
    """Called with advantages (B, T, G, 1) and `AboutBatch`; gives `Weighed`.

    What one remembers is a buffer that no state_dict has, since upstream's checkpoints do not hold it; it moves in
    training mode only, and is saved with the optimizer's state. Among several processes it is the main one's.
    """

    def forward(self, adv: Tensor, about: AboutBatch) -> Weighed:
        """Advantages (B, T, G, 1) -> weights of the same shape."""
        raise NotImplementedError


class BatchNormalizedExpFilter(BatchFilter):
    """exp(beta * z), clipped: z is the advantage's distance from the batch's mean, in standard deviations.

    Mean and deviation are taken over the recorded positions alone, of all discounts together, in each process by
    itself.

    Args:
        beta: the larger, the pickier.
        eps: added to the standard deviation.
        clip_weights_low: the smallest weight; None leaves small ones as they are.
        clip_weights_high: the largest weight; None leaves large ones as they are.

    Raises:
        ConfigError: a value that breaks its rule, or bounds that are not in order.
    """

    def __init__(
        self,
        beta: float = 1.0,
        eps: float = 1e-8,
        clip_weights_low: float | None = 1e-7,
        clip_weights_high: float | None = 100.0,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check(owner, locals(), _EXP_RULES)
        require_order(owner, clip_weights_low=clip_weights_low, clip_weights_high=clip_weights_high)
        self.beta = beta
        self.eps = eps
        self.clip_weights_low = clip_weights_low
        self.clip_weights_high = clip_weights_high

    def forward(self, adv: Tensor, about: AboutBatch) -> Weighed:
        """Advantages (B, T, G, 1) -> weights of the same shape; nothing is logged."""
        exponent = self._exponent(adv, about)
        return Weighed(clip(exponent.exp(), self.clip_weights_low, self.clip_weights_high), {})

    def _exponent(self, adv: Tensor, about: AboutBatch) -> Tensor:
        return self.beta * z_scores(adv, _like(adv, about.recorded), self.eps)


class ISAdvantageFilter(BatchNormalizedExpFilter):
    """BatchNormalizedExpFilter with a correction of the data's policy, times a weight of the whole battle.

    A battle's weight grows with the rank that its mean advantage has among those of the battles seen lately: a sigmoid
    around the middle between two percentiles, from (nearly) a floor at the lower one to (nearly) 1 at the upper one.
    The floor itself comes down from 1 over the first batches, and all battles weigh 1 until enough have been seen.

    As upstream counts, a battle's mean includes choices that were not recorded, and the state after the last choice.

    Args:
        beta, eps, clip_weights_low, clip_weights_high: see BatchNormalizedExpFilter; a battle's weight comes after the
            clipping.
        clip_delta: the correction's largest size in the exponent, either way; see AboutBatch.log_ratio.
        seq_p_low: the percentile (0 to 1) at which a battle has hardly more than the floor; None weighs no battles.
        seq_p_full: the percentile at which it has nearly 1.
        seq_floor: the smallest weight of a battle, once it has come down.
        seq_floor_warmup_steps: batches over which it comes down.
        seq_buffer_size: how many battles are remembered.
        seq_warmup: how many must be, before they are weighed.

    Raises:
        ConfigError: as BatchNormalizedExpFilter; percentiles that are not in order, or one alone;
            a seq_warmup above seq_buffer_size.
    """

    recent: Tensor
    seen: Tensor
    calls: Tensor

    def __init__(
        self,
        beta: float = 2.0,
        clip_delta: float = 2.0,
        eps: float = 1e-8,
        clip_weights_low: float | None = 1e-7,
        clip_weights_high: float | None = 100.0,
        seq_p_low: float | None = None,
        seq_p_full: float | None = None,
        seq_floor: float = 0.1,
        seq_floor_warmup_steps: int = 2000,
        seq_buffer_size: int = 10_000,
        seq_warmup: int = 200,
    ) -> None:
        super().__init__(beta, eps, clip_weights_low, clip_weights_high)
        check("ISAdvantageFilter", locals(), _SEQUENCE_RULES)
        self.clip_delta = clip_delta
        self.percentiles = _percentiles(seq_p_low, seq_p_full)
        self.seq_floor = seq_floor
        self.seq_floor_warmup_steps = seq_floor_warmup_steps
        self.seq_warmup = seq_warmup
        if self.percentiles is None:
            return
        if seq_warmup > seq_buffer_size:
            raise ConfigError(
                f"ISAdvantageFilter.seq_warmup ({seq_warmup}) must not be above seq_buffer_size ({seq_buffer_size}): "
                "so many battles would never be remembered"
            )
        # the mean advantages of the last battles, a circle: number n (from 0) is at n modulo its length
        self.register_buffer("recent", torch.zeros(seq_buffer_size), persistent=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=False)  # battles
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=False)  # batches

    def forward(self, adv: Tensor, about: AboutBatch) -> Weighed:
        """Advantages (B, T, G, 1) -> weights of the same shape; in training mode the battles are remembered."""
        weights, stats = super().forward(adv, about)
        if self.percentiles is None:
            return Weighed(weights, stats)
        of_battle, battle_stats = self._battle_weights(adv, about)  # (B,)
        return Weighed(weights * of_battle[:, None, None, None], stats | battle_stats)

    def _exponent(self, adv: Tensor, about: AboutBatch) -> Tensor:
        exponent = super()._exponent(adv, about)
        if about.log_ratio is None:
            return exponent
        return exponent + about.log_ratio[:, : adv.shape[1]].clamp(-self.clip_delta, self.clip_delta)

    @torch.no_grad()
    def _battle_weights(self, adv: Tensor, about: AboutBatch) -> tuple[Tensor, dict[str, Tensor]]:
        real = _like(adv, about.real)
        means = masked(adv.float(), real).sum((1, 2, 3)) / real.sum((1, 2, 3)).clamp(min=1)  # (B,)
        if self.training:
            self._remember(means)
        size = len(self.recent)
        filled = self.seen.clamp(max=size)
        remembered = torch.arange(size, device=adv.device) < filled
        ranked = self.recent.masked_fill(~remembered, torch.inf).sort().values
        below = torch.searchsorted(ranked, means)  # how many of the remembered are smaller
        percentile = torch.minimum(below, filled) / filled.clamp(min=1)

        enough = filled >= self.seq_warmup
        ramp = (self.calls / max(self.seq_floor_warmup_steps, 1)).clamp(max=1.0)
        floor = torch.where(enough, 1.0 - (1.0 - self.seq_floor) * ramp, 1.0)
        weights = floor + (1.0 - floor) * self._sigmoid(percentile)  # 1 as long as the floor is
        return weights, {
            "battle_weight_mean": weights.mean(),
            "battle_weight_min": weights.min(),
            "battle_weight_floor": floor,
            "battle_percentile_mean": percentile.mean(),
            "battles_remembered": filled.float(),
        }

    def _sigmoid(self, percentile: Tensor) -> Tensor:
        low, full = self.percentiles or (0.0, 1.0)
        steepness = 2.0 * math.log(99.0) / (full - low)  # 0.01 at the one, 0.99 at the other
        return torch.sigmoid(steepness * (percentile - (low + full) / 2.0))

    def _remember(self, means: Tensor) -> None:
        size = len(self.recent)
        newest = means[-size:]
        first = self.seen + (len(means) - len(newest))
        self.recent[(first + torch.arange(len(newest), device=means.device)) % size] = newest
        self.seen += len(means)
        self.calls += 1


def z_scores(x: Tensor, where: Tensor, eps: float) -> Tensor:
    """(x - mean) / (standard deviation + eps), both of the entries where `where` (the same shape) is True.

    With fewer than two of them the deviation counts as 0.
    """
    n = where.sum()
    mean = masked(x, where).sum() / n.clamp(min=1)
    variance = masked((x - mean).square(), where).sum() / (n - 1).clamp(min=1)
    return (x - mean) / (variance.sqrt() + eps)


def masked(x: Tensor, where: Tensor) -> Tensor:
    """What counts, and 0 elsewhere, whatever stands there."""
    return torch.where(where, x, 0.0)


def _like(adv: Tensor, flags: Tensor) -> Tensor:
    """Flags (B, T, 1, 1) for each of the advantages."""
    return flags[:, : adv.shape[1]].expand_as(adv)


def _percentiles(low: float | None, full: float | None) -> tuple[float, float] | None:
    if low is None and full is None:
        return None
    if low is None or full is None or not low < full:
        raise ConfigError(
            f"ISAdvantageFilter.seq_p_low ({low}) must be below seq_p_full ({full}); set both, or neither to weigh no "
            "battles"
        )
    return low, full
