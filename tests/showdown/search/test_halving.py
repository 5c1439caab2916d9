"""Forks are divided among choices, and the budget is kept."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.search.halving import Found, search
from gemma_metamon.showdown.search.settings import SearchSettings


def searched(priors: dict[int, float], forks: int, values: dict[int, float]) -> tuple[Found, list[tuple[int, int]]]:
    rounds = []

    async def look(actions: Sequence[int], n_worlds: int, times: int) -> list[list[float]]:
        rounds.append((len(actions), n_worlds * times))
        return [[values[action] for action in actions]] * n_worlds

    return asyncio.run(search(priors, forks, look)), rounds


@given(
    st.dictionaries(st.integers(0, 12), st.tuples(st.floats(0, 1), st.floats(-0.1, 0.1)), min_size=1),
    st.integers(1, 300),
)
def test_the_budget_is_kept_and_the_best_of_what_was_played_is_found(
    actions: dict[int, tuple[float, float]], forks: int
) -> None:
    values = {action: value for action, (value, _) in actions.items()}
    priors = {action: prior for action, (_, prior) in actions.items()}
    found, rounds = searched(priors, forks, values)
    assert sum(n * worlds for n, worlds in rounds) == sum(found.visits.values()) <= forks
    assert len(found.visits) == min(len(actions), forks)
    for action, score in found.scores.items():
        assert score == pytest.approx(values[action] + priors[action])
    assert found.scores[found.best] >= max(found.scores.values()) - 1e-9


def test_the_better_half_gets_the_more_forks() -> None:
    found, rounds = searched(dict.fromkeys(range(4), 0.0), 48, {0: 0.1, 1: 0.9, 2: 0.2, 3: 0.8})
    assert rounds == [(4, 6), (2, 12)]
    assert found.best == 1
    assert found.visits == {0: 6, 1: 18, 2: 6, 3: 18}


def test_draws_follow_the_scores() -> None:
    found = Found(visits={0: 1, 3: 1}, scores={0: 0.5, 3: 0.53}, best=3)
    assert found.draw(0, random.Random(0)) == 3
    drawn = [found.draw(0.03, random.Random(seed)) for seed in range(2000)]
    assert drawn.count(3) / 2000 == pytest.approx(0.731, abs=0.04)


@pytest.mark.parametrize("wrong", [{"forks": 0}, {"turns": 0}, {"temperature": -1.0}, {"temperature": float("nan")}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SearchSettings(**wrong)


def test_where_nothing_can_be_played_the_prior_decides() -> None:
    async def look(actions: Sequence[int], n_worlds: int, times: int) -> list[list[float]]:
        return []

    found = asyncio.run(search({2: 0.0, 5: 0.02, 7: 0.0}, 48, look))
    assert found.best == 5
    assert set(found.visits.values()) == {0}
