"""Filters that look at a whole batch: what they pass over, where their weights lie, what one remembers of battles."""

import copy
import re
from bisect import bisect_left
from collections import deque
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.batch import PAD_VALUE, Batch
from gemma_metamon.nets.heads.batch_filters import (
    AboutBatch,
    BatchFilter,
    BatchNormalizedExpFilter,
    ISAdvantageFilter,
    z_scores,
)
from gemma_metamon.runs.tensor_files import unfit_memory

BATTLES = {"seq_p_low": 0.2, "seq_p_full": 0.7}
SEEDS = st.integers(0, 2**31 - 1)
in_examples = settings(max_examples=40)


def draw(seed: int) -> tuple[Tensor, AboutBatch]:
    """Advantages of about 50, and positions of which some are padding and some not recorded; two at least are."""
    B, T, G = 4, 6, 2
    generator = torch.Generator().manual_seed(seed)
    adv = 50.0 * torch.randn(B, T, G, 1, generator=generator)
    real = torch.rand(B, T, 1, 1, generator=generator) < 0.8
    real[:, :2] = True
    recorded = real & (torch.rand(B, T, 1, 1, generator=generator) < 0.7)
    recorded[0, :2] = True
    return adv, AboutBatch(real, recorded)


def all_real(adv: Tensor) -> AboutBatch:
    every = torch.ones(*adv.shape[:2], 1, 1, dtype=torch.bool)
    return AboutBatch(every, every)


def filters() -> list[BatchFilter]:
    return [
        BatchNormalizedExpFilter(beta=3.0),
        ISAdvantageFilter(beta=3.0),
        ISAdvantageFilter(beta=3.0, **BATTLES, seq_warmup=0, seq_floor_warmup_steps=0),
    ]


@in_examples
@given(SEEDS, st.sampled_from([1e6, -1e6, float("nan"), float("inf")]))
def test_what_stands_where_nothing_was_recorded_changes_no_weight_elsewhere(seed: int, junk: float) -> None:
    adv, about = draw(seed)
    for filter_ in filters():
        # a battle's mean takes in what was not recorded, as upstream's does; padding counts nowhere
        passed_over = ~(about.real if hasattr(filter_, "recent") else about.recorded).expand_as(adv)
        other = copy.deepcopy(filter_)
        weights = filter_(adv, about).weights
        changed = other(adv.masked_fill(passed_over, junk), about).weights
        assert torch.equal(weights[~passed_over], changed[~passed_over])


@in_examples
@given(SEEDS, st.floats(0.0, 20.0), st.floats(1e-6, 0.5), st.floats(1.0, 100.0))
def test_weights_lie_within_the_clipping(seed: int, beta: float, low: float, high: float) -> None:
    adv, about = draw(seed)
    clipping: dict[str, Any] = {"beta": beta, "clip_weights_low": low, "clip_weights_high": high}
    for kind in (BatchNormalizedExpFilter, ISAdvantageFilter):
        weights = kind(**clipping)(adv, about).weights
        assert weights.shape == adv.shape
        assert weights.min() >= low * (1 - 1e-6)
        assert weights.max() <= high * (1 + 1e-6)


@in_examples
@given(SEEDS, st.floats(0.01, 1000.0), st.floats(-1000.0, 1000.0))
def test_neither_the_size_nor_the_level_of_rewards_matters(seed: int, size: float, level: float) -> None:
    adv, about = draw(seed)
    filter_ = BatchNormalizedExpFilter(beta=1.0)
    there = about.recorded.expand_as(adv)
    scaled = filter_(adv * size + level, about).weights[there]
    torch.testing.assert_close(scaled, filter_(adv, about).weights[there], rtol=0.02, atol=1e-4)


@in_examples
@given(SEEDS)
def test_z_scores_have_mean_0_and_deviation_1_where_they_count(seed: int) -> None:
    adv, about = draw(seed)
    where = about.recorded.expand_as(adv)
    counted = z_scores(adv, where, 1e-8)[where]
    assert float(counted.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(counted.std()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("n_recorded", [0, 1])
def test_a_batch_with_hardly_a_recorded_choice_has_finite_weights(n_recorded: int) -> None:
    adv, about = draw(0)
    recorded = torch.zeros_like(about.recorded)
    recorded[0, :n_recorded] = True
    for filter_ in filters():
        assert filter_(adv, about._replace(recorded=recorded)).weights.isfinite().all()


@in_examples
@given(SEEDS, st.integers(0, 60), st.floats(0.0, 1.0))
def test_a_battle_weighs_between_the_floor_and_1_once_enough_are_remembered(
    seed: int, batches: int, floor: float
) -> None:
    filter_ = ISAdvantageFilter(**BATTLES, seq_floor=floor, seq_floor_warmup_steps=20)
    for number in range(batches):
        filter_(*draw(seed + number))
    adv, about = draw(seed + batches)
    plain = ISAdvantageFilter()(adv, about).weights
    weights, stats = filter_(adv, about)
    of_battle = (weights / plain)[:, 0, 0, 0]
    torch.testing.assert_close(weights, plain * of_battle[:, None, None, None])  # one number for all of a battle
    assert floor - 1e-5 <= of_battle.min() <= of_battle.max() <= 1 + 1e-5
    assert stats["battles_remembered"] == 4 * (batches + 1)
    if 4 * (batches + 1) < 200:
        assert torch.equal(weights, plain)
        assert stats["battle_weight_floor"] == 1.0
    else:  # the floor came down while they were gathered
        assert float(stats["battle_weight_floor"]) == pytest.approx(floor, abs=1e-6)
    assert float(stats["battle_weight_min"]) == pytest.approx(float(of_battle.min()), abs=1e-5)


def test_the_floor_comes_down_in_equal_steps_and_half_way_between_the_percentiles_is_half_of_it() -> None:
    filter_ = ISAdvantageFilter(**BATTLES, seq_warmup=0, seq_floor=0.2, seq_floor_warmup_steps=4)
    floors = [float(filter_(*draw(number)).stats["battle_weight_floor"]) for number in range(6)]
    assert floors == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2, 0.2])
    assert filter_._sigmoid(torch.tensor([0.2, 0.45, 0.7])).tolist() == pytest.approx([0.01, 0.5, 0.99])


@in_examples
@given(
    st.lists(st.lists(st.floats(-100.0, 100.0, width=16), min_size=1, max_size=9), min_size=1, max_size=12),
    st.integers(1, 12),
)
def test_a_battles_percentile_is_its_rank_among_the_last_that_were_seen(batches: list[list[float]], size: int) -> None:
    filter_ = ISAdvantageFilter(**BATTLES, seq_buffer_size=size, seq_warmup=0)
    remembered: deque[float] = deque(maxlen=size)
    for means in batches:
        adv = torch.tensor(means)[:, None, None, None]
        found = filter_(adv, all_real(adv)).stats["battle_percentile_mean"]
        remembered.extend(means)
        ranks = [bisect_left(sorted(remembered), mean) / len(remembered) for mean in means]
        assert float(found) == pytest.approx(sum(ranks) / len(ranks), abs=1e-6)


def test_the_better_battle_weighs_more() -> None:
    filter_ = ISAdvantageFilter(**BATTLES, seq_warmup=0, seq_floor_warmup_steps=0)
    adv = torch.linspace(-5, 5, 10)[:, None, None, None].expand(-1, 3, 2, 1)
    of_battle, _ = filter_._battle_weights(adv, all_real(adv))
    assert (of_battle.diff() > 0).all()


def test_what_is_remembered_moves_in_training_alone_and_comes_back_whole() -> None:
    filter_ = ISAdvantageFilter(**BATTLES, seq_buffer_size=50, seq_warmup=20)
    for number in range(20):
        filter_(*draw(number))
    kept = {name: value.clone() for name, value in filter_.named_buffers()}
    assert kept.keys() == {"recent", "seen", "calls"}
    assert not filter_.state_dict()  # upstream's checkpoints have none of it
    evaluated = filter_.eval()(*draw(20))
    assert all(torch.equal(value, kept[name]) for name, value in filter_.named_buffers())
    other = ISAdvantageFilter(**BATTLES, seq_buffer_size=50, seq_warmup=20)
    for name, value in other.named_buffers():
        value.copy_(kept[name])
    assert torch.equal(other.eval()(*draw(20)).weights, evaluated.weights)
    for number in range(21, 40):
        ours, theirs = filter_.train()(*draw(number)), other.train()(*draw(number))
        assert torch.equal(ours.weights, theirs.weights)


@in_examples
@given(SEEDS, st.floats(-50.0, 50.0))
def test_a_correction_multiplies_the_weight_by_its_exponential_within_its_bound(seed: int, ratio: float) -> None:
    adv, about = draw(seed)
    filter_ = ISAdvantageFilter(beta=0.5, clip_weights_low=None, clip_weights_high=None)
    corrected = filter_(adv, about._replace(log_ratio=torch.full_like(adv, ratio))).weights
    factor = torch.tensor(max(-2.0, min(2.0, ratio))).exp()
    torch.testing.assert_close(corrected, filter_(adv, about).weights * factor, rtol=1e-4, atol=0)


def test_a_batch_says_itself_what_is_real_and_recorded() -> None:
    rl2s = torch.zeros(2, 4, 3)
    rl2s[1, 2:] = PAD_VALUE
    missing = torch.zeros(2, 4, 1, dtype=torch.bool)
    missing[0, 1] = missing[1, 2:] = True
    rest = [torch.zeros(2, 3, 1)] * 3
    real, recorded, ratio = AboutBatch.of(Batch({"missing_action_mask": missing}, rl2s, *rest, torch.zeros(2, 4, 1)))
    assert ratio is None
    assert real[..., 0, 0].tolist() == [[True] * 4, [True, True, False, False]]
    assert recorded[..., 0, 0].tolist() == [[True, False, True, True], [True, True, False, False]]
    assert torch.equal(AboutBatch.of(Batch({}, rl2s, *rest, torch.zeros(2, 4, 1))).recorded, real)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"beta": -1.0}, "ISAdvantageFilter.beta = -1.0; it must be a number of at least 0"),
        ({"clip_weights_low": 2.0, "clip_weights_high": 1.0}, r"clip_weights_low \(2.0\) must not be above"),
        ({"seq_p_low": 0.2}, r"seq_p_low \(0.2\) must be below seq_p_full \(None\); set both, or neither"),
        ({"seq_p_full": 0.2}, r"seq_p_low \(None\) must be below seq_p_full \(0.2\)"),
        ({"seq_p_low": 0.7, "seq_p_full": 0.7}, r"seq_p_low \(0.7\) must be below seq_p_full \(0.7\)"),
        ({"seq_p_low": 20, "seq_p_full": 70}, "seq_p_low = 20; it must be a number of at least 0 and at most 1"),
        ({**BATTLES, "seq_floor": 1.5}, "ISAdvantageFilter.seq_floor = 1.5"),
        ({**BATTLES, "seq_buffer_size": 100}, r"seq_warmup \(200\) must not be above seq_buffer_size \(100\)"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ISAdvantageFilter(**options)


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        ({"seen": torch.tensor(-1)}, "the filter's seen is -1"),
        ({"calls": torch.zeros(2, dtype=torch.int64)}, r"the filter's calls is torch.int64 of shape \[2\]"),
        ({"recent": torch.zeros(10_000, dtype=torch.float64)}, "the filter's recent is torch.float64"),
        ({"recent": torch.zeros(10)}, None),  # another size, which is no damage
        ({}, None),
    ],
)
def test_a_memory_that_cannot_be_one_is_named(harm: dict[str, Tensor], complaint: str | None) -> None:
    own = dict(ISAdvantageFilter(**BATTLES).named_buffers())
    found = unfit_memory({**own, **harm}, own)
    assert found is None if complaint is None else re.match(complaint, found or "")
