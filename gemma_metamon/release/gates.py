"""What a model must be like before it is promoted: gates.toml, and whether what was found is so."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.results.schema import EvaluationReport
from gemma_metamon.strict_json import Count, on_one_line, read_bounded, read_dataclass, shown_path

MAX_BYTES = 2**20
Form = Literal["amago", "peft", "merged", "gguf", "mlx"]


@dataclass(frozen=True, kw_only=True)
class OpponentGate:
    """Battles against somebody.

    Attributes:
        player: as `evaluate --opponents` takes it; registry:NAME@production is whoever is there when the
            command begins.
        battles: how many.
        above: the low end of the win rate's 95 % interval must lie above it.
    """

    player: str
    battles: Count
    above: float

    def __post_init__(self) -> None:
        if self.battles < 1 or not 0 <= self.above < 1:
            raise DataError(f"battles {self.battles}, above {self.above}; give at least 1, and a share from 0 up to 1")


@dataclass(frozen=True, kw_only=True)
class LatencyGate:
    """Milliseconds of a decision that may not be passed, against any opponent; None is not looked at."""

    median: float | None = None
    p95: float | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryGate:
    """MiB of the host's memory that the process that plays may have resident at most; a GPU's is not looked at."""

    peak_mib: float


@dataclass(frozen=True, kw_only=True)
class Gates:
    """gates.toml.

    Attributes:
        format: of the battles.
        seed: of all that is drawn.
        opponents: who is met; at least one, or nothing is known of refused choices and latency.
        exports: the forms whose result must agree with the model.
        latency_ms: the budget.
        memory: the budget.
    """

    opponents: list[OpponentGate]
    format: str = "gen1ou"
    seed: Count = 0
    exports: list[Form] = field(default_factory=list)
    latency_ms: LatencyGate = field(default_factory=LatencyGate)
    memory: MemoryGate | None = None

    def __post_init__(self) -> None:
        if not self.opponents:
            raise DataError("opponents is empty; name at least one [[opponents]]")


def read_gates(path: Path) -> Gates:
    """Of a TOML file. Raises MissingFileError where there is none, ConfigError for one that says something else."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    content = read_bounded(path, MAX_BYTES)
    try:
        return read_dataclass(Gates, tomllib.loads(content.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{shown_path(path)} is no TOML ({on_one_line(error)})") from error
    except DataError as error:
        raise ConfigError(f"{shown_path(path)}: {error}; docs/guides/releasing.md has all gates") from error


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One gate.

    Attributes:
        name: of it.
        passed: whether the model is so.
        found: what it is like.
        wanted: what it must be like.
    """

    name: str
    passed: bool
    found: str
    wanted: str


@dataclass(frozen=True, kw_only=True)
class Battles:
    """What one evaluation found, or the sentence with which it ended; `peak_mib` is None where nobody counts it."""

    gate: OpponentGate
    report: EvaluationReport | None = None
    failed: str = ""
    peak_mib: float | None = None


def judge_battles(gates: Gates, played: list[Battles]) -> list[GateRow]:
    """The gates that battles decide: each opponent, refused choices, latency, memory."""
    rows = [_judge_opponent(battles) for battles in played]
    pairs = [pair for battles in played if battles.report is not None for pair in battles.report.pairs]
    refused, choices = sum(pair.refused for pair in pairs), sum(pair.choices for pair in pairs)
    rows.append(
        GateRow(
            name="refused choices",
            passed=choices > 0 and refused == 0,
            found=f"{refused} of {choices}",
            wanted="none of one or more",
        )
    )
    latencies = [pair.latency_ms for pair in pairs if pair.latency_ms is not None]
    for name in ("median", "p95"):
        most = getattr(gates.latency_ms, name)
        if most is not None:
            found = max((getattr(latency, name) for latency in latencies), default=None)
            rows.append(_at_most(f"latency, {name}", found, most, "ms"))
    if gates.memory is not None:
        peaks = [battles.peak_mib for battles in played if battles.peak_mib is not None]
        rows.append(_at_most("memory", max(peaks, default=None), gates.memory.peak_mib, "MiB"))
    return rows


def _judge_opponent(battles: Battles) -> GateRow:
    gate = battles.gate
    wanted = f"the interval of {gate.battles} battles above {gate.above:.1%}"
    name = f"against {gate.player}"
    if battles.report is None:
        return GateRow(name=name, passed=False, found=battles.failed, wanted=wanted)
    (pair,) = battles.report.pairs
    low, high = pair.interval_95
    said = f"{pair.wins} of {pair.battles} won, {low:.1%} to {high:.1%}"
    passed = low > gate.above and pair.battles >= gate.battles
    return GateRow(name=name, passed=passed, found=said, wanted=wanted)


def _at_most(name: str, found: Any, most: float, unit: str) -> GateRow:
    if found is None:
        return GateRow(name=name, passed=False, found="not measured", wanted=f"at most {most:g} {unit}")
    return GateRow(name=name, passed=found <= most, found=f"{found:.1f} {unit}", wanted=f"at most {most:g} {unit}")
