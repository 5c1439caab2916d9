"""Ratings are those of published tables, whatever the order of the battles."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.showdown.matches.ratings import gxe, rate

ELO = 400 / math.log(10)
MAXIMUM_LIKELIHOOD = 1e5  # a prior this wide says nothing

# Baseball, American League East 1987, wins of the row: A. Agresti, Categorical Data Analysis (2002), table 10.10
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
WINS = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]
# its table 10.11: the teams' estimates, Baltimore's being 0
ESTIMATES = [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.0]
BASEBALL = [(TEAMS[i], TEAMS[j], WINS[i][j], WINS[j][i], 0) for i, j in itertools.combinations(range(7), 2)]

# Citations of one journal by another, "won" by the cited one: S. Stigler (1994), Statistical Science 9:94-108
CITATIONS = [
    ("Biometrika", "Comm Statist", 730, 33, 0),
    ("Biometrika", "JASA", 498, 320, 0),
    ("Biometrika", "JRSS-B", 221, 284, 0),
    ("Comm Statist", "JASA", 68, 813, 0),
    ("Comm Statist", "JRSS-B", 17, 276, 0),
    ("JASA", "JRSS-B", 142, 325, 0),
]
# H. Turner, D. Firth (2012), Journal of Statistical Software 48(9), section 2.1: Biometrika's ability being 0
ABILITIES = {"Biometrika": 0.0, "Comm Statist": -2.9491, "JASA": -0.4796, "JRSS-B": 0.2690}


def test_a_baseball_season_is_rated_as_agresti_rates_it() -> None:
    found = {rating.name: rating for rating in rate(BASEBALL, prior_deviation=MAXIMUM_LIKELIHOOD)}
    for team, estimate in zip(TEAMS, ESTIMATES, strict=True):
        assert (found[team].elo - found["Baltimore"].elo) / ELO == pytest.approx(estimate, abs=0.005)
    assert [rating.name for rating in rate(BASEBALL)] == TEAMS


def test_journals_are_rated_as_turner_and_firth_rate_them() -> None:
    found = {rating.name: rating.elo for rating in rate(CITATIONS, prior_deviation=MAXIMUM_LIKELIHOOD)}
    for journal, ability in ABILITIES.items():
        assert (found[journal] - found["Biometrika"]) / ELO == pytest.approx(ability, abs=0.00005)


# Showdown's own: rpr, rprd and gxe of both sides in a battle log (a test of AnnikaCodes/battletools), and of
# pokemonshowdown.com/users/nickgen1rbrlbot.json on 2026-08-27
@pytest.mark.parametrize(
    ("rating", "deviation", "printed"),
    [(1474.7452159936, 115.09180605287, 46.8), (1434.9434039083, 109.84367373045, 41.8), (1573.04, 26.57, 59.6)],
)
def test_gxe_is_the_ladders(rating: float, deviation: float, printed: float) -> None:
    assert gxe(rating, deviation) == pytest.approx(printed, abs=0.05)


def test_two_players_differ_by_their_odds_and_its_standard_error() -> None:
    better, worse = rate([("a", "b", 60, 30, 0)], prior_deviation=MAXIMUM_LIKELIHOOD)
    assert better.elo - worse.elo == pytest.approx(ELO * math.log(60 / 30), abs=0.01)
    assert better.elo + worse.elo == pytest.approx(3000)
    # the log odds have variance 1/wins + 1/losses; half the difference is each player's distance from the mean
    assert better.deviation == pytest.approx(ELO / 2 * math.sqrt(1 / 60 + 1 / 30), rel=1e-3)


def test_a_tie_is_half_a_win_each() -> None:
    assert rate([("a", "b", 10, 4, 6)]) == rate([("a", "b", 13, 7, 0)])


def test_who_lost_every_battle_still_has_a_rating() -> None:
    winner, loser = rate([("a", "b", 500, 0, 0)])
    assert 1700 < winner.elo < 2500
    assert loser.deviation > 50
    assert 0 < loser.gxe < winner.gxe < 100


results = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("efgh"), *[st.integers(0, 9)] * 3), min_size=1, max_size=8
)


@settings(max_examples=20)
@given(results, st.randoms(use_true_random=False))
def test_order_and_direction_of_the_battles_do_not_matter(
    found: list[tuple[str, str, int, int, int]], dice: random.Random
) -> None:
    turned = [(b, a, losses, wins, ties) if dice.random() < 0.5 else (a, b, wins, losses, ties)
              for a, b, wins, losses, ties in dice.sample(found, len(found))]  # fmt: skip
    assert rate(turned) == rate(found)
