"""Counts of battles and choices: what they add up to, and that nothing is said where nothing was played."""

import math

from gemma_metamon.results import schema
from gemma_metamon.showdown.matches.tallies import Choices, Tally


def test_an_empty_tally_says_nothing() -> None:
    tally = Tally()
    assert tally.interval == (0.0, 1.0)
    assert math.isnan(tally.win_rate)
    row = tally.counts()
    assert row.win_rate is row.mean_turns is row.legal_rate is row.latency_ms is None


def test_tallies_add_up() -> None:
    one = Tally(wins=2, losses=1, turns=60, choices=Choices(sent=50, refused=1, latencies_ms=[1.0] * 50))
    one.add(Tally(ties=1, turns=40, choices=Choices(sent=50, latencies_ms=[3.0] * 50)))
    row = one.counts()
    assert (row.battles, row.win_rate, row.mean_turns, row.legal_rate) == (4, 0.5, 25.0, 0.99)
    assert row.latency_ms == schema.Latency(median=2.0, p95=3.0)
