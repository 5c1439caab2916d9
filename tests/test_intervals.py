"""The 95 % interval of a counted share."""

import pytest

from gemma_metamon.intervals import wilson_interval


def test_wilson_of_known_counts() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(559, 1040) == pytest.approx((0.5071, 0.5676), abs=5e-4)


# scipy 1.17.1: scipy.stats.binomtest(wins, battles).proportion_ci(method="wilson")
@pytest.mark.parametrize(
    ("wins", "battles", "low", "high"),
    [
        (50, 100, 0.4038315303659956, 0.5961684696340044),
        (0, 10, 0.0, 0.27753279986288926),
        (97, 100, 0.9154806357094724, 0.9897454759759611),
        (500, 500, 0.9923756595384479, 1.0),
    ],
)
def test_the_interval_is_wilsons(wins: int, battles: int, low: float, high: float) -> None:
    assert wilson_interval(wins, battles) == pytest.approx((low, high), abs=1e-12)


def test_the_interval_holds_the_share_even_where_all_or_none_were_won() -> None:
    for battles in range(1, 600):
        for wins in (0, battles // 2, battles):
            low, high = wilson_interval(wins, battles)
            assert 0 <= low <= wins / battles <= high <= 1
