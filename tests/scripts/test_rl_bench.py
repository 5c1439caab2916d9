"""What scripts/rl_bench.py makes of several seeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rl_bench import mean_interval


def test_mean_of_three_seeds_by_hand() -> None:
    # mean 0.5, standard deviation 0.1, so 0.1 / sqrt(3) x 4.303
    assert mean_interval([0.4, 0.5, 0.6]) == pytest.approx((0.5 - 0.24843, 0.5 + 0.24843), abs=1e-4)


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=10))
def test_the_mean_lies_in_its_interval(values: list[float]) -> None:
    low, high = mean_interval(values)
    assert low - 1e-12 <= sum(values) / len(values) <= high + 1e-12


@pytest.mark.parametrize("n", [0, 1, 11])
def test_too_few_or_too_many_values_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"{n} values have no interval"):
        mean_interval([0.5] * n)
