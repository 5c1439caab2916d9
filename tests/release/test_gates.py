"""gemma_metamon/release/gates.py: gates.toml is read strictly, and judged by what was found."""

from pathlib import Path

import pytest
from support.paths import ROOT

from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.release.gates import Battles, Gates, LatencyGate, MemoryGate, OpponentGate, judge_battles, read_gates
from gemma_metamon.results.schema import ContestantRow, EvaluationReport, Latency, PairRow, counts_of


def report(wins: int, losses: int, refused: int = 0, median: float = 10.0) -> EvaluationReport:
    counts = vars(
        counts_of(
            wins=wins,
            losses=losses,
            ties=0,
            turns=40.0,
            choices=100,
            refused=refused,
            latency_ms=Latency(median=median, p95=3 * median),
        )
    )
    return EvaluationReport(
        format="gen1ou",
        seed=0,
        seconds=1.0,
        battles_per_pair=wins + losses,
        unfinished=None,
        contestants=[ContestantRow(name=name, kind="scripted", rating=None, **counts) for name in ("a", "b")],
        pairs=[PairRow(player="a", opponent="b", **counts)],
        decisions=100,
        decisions_per_s=1.0,
        unknown_words={},
    )


GATE = OpponentGate(player="RandomPlayer", battles=100, above=0.5)


def outcome(found: Battles, gates: Gates) -> dict[str, bool]:
    return {row.name: row.passed for row in judge_battles(gates, [found])}


def test_the_packaged_example_is_read() -> None:
    gates = read_gates(ROOT / "examples" / "gates.toml")
    assert [gate.player for gate in gates.opponents] == ["RandomPlayer", "MaxBasePowerPlayer"]
    assert gates.memory is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "opponents is missing"),
        ("opponents = []", "opponents is empty"),
        ("x = ", "is no TOML"),
        ("[[opponents]]\nplayer = 'A'\nbattles = 0\nabove = 0.5", "give at least 1"),
        ("[[opponents]]\nplayer = 'A'\nbattles = 5\nabove = 1.5", "a share from 0 up to 1"),
        ("[[opponents]]\nplayer = 'A'\nbattles = 5\nabove = nan", "a share from 0 up to 1"),
        ("exports = ['pickle']\n[[opponents]]\nplayer = 'A'\nbattles = 5\nabove = 0.5", "exports"),
        ("latency = 5\n[[opponents]]\nplayer = 'A'\nbattles = 5\nabove = 0.5", "latency is unknown"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_gates(path)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_gates(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("wins", "passed"),
    [(70, True), (59, False), (60, True), (30, False)],  # Wilson's lower ends of 59 and 60 of 100: 0.492, 0.502
)
def test_the_low_end_of_the_interval_decides(wins: int, passed: bool) -> None:
    found = outcome(Battles(gate=GATE, report=report(wins, 100 - wins)), Gates(opponents=[GATE]))
    assert found == {"against RandomPlayer": passed, "refused choices": True}


def test_fewer_battles_than_asked_for_do_not_pass() -> None:
    assert not outcome(Battles(gate=GATE, report=report(80, 10)), Gates(opponents=[GATE]))["against RandomPlayer"]


def test_one_refused_choice_does_not_pass() -> None:
    found = Battles(gate=GATE, report=report(90, 10, refused=1))
    assert not outcome(found, Gates(opponents=[GATE]))["refused choices"]


def test_an_evaluation_that_failed_passes_nothing() -> None:
    gates = Gates(
        opponents=[GATE],
        latency_ms=LatencyGate(median=5.0),
        memory=MemoryGate(peak_mib=1.0),
    )
    assert not any(outcome(Battles(gate=GATE, failed="the server is gone"), gates).values())


def test_budgets_are_kept_or_not() -> None:
    found = Battles(gate=GATE, report=report(90, 10, median=20.0), peak_mib=500.0)
    for median, p95, mib, passed in ((20.0, 60.0, 500.0, True), (19.9, 59.9, 499.0, False)):
        gates = Gates(opponents=[GATE], latency_ms=LatencyGate(median=median, p95=p95), memory=MemoryGate(peak_mib=mib))
        rows = outcome(found, gates)
        assert [rows[name] for name in ("latency, median", "latency, p95", "memory")] == [passed] * 3
