"""The number that a trial is judged by, as its run writes it down while it trains."""

import math
from collections import defaultdict
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from gemma_metamon.errors import ConfigError
from gemma_metamon.results.json_lines import read_json_lines, read_rows
from gemma_metamon.results.schema import TrainingEvaluation
from gemma_metamon.runs import keeping
from gemma_metamon.runs.keeping import HELD_OUT
from gemma_metamon.runs.run_folder import EVALUATIONS, METRICS
from gemma_metamon.strict_json import shown

WIN_RATE: Final = "win_rate"
"""The mean share of battles won in the evaluations of one epoch, of all formats and opponents (`--eval_gens`)."""

_ALSO_HELD_OUT: Final = (
    "value_slope", "critic_agreement_by_chance", "filter_share", "policy_entropy", "policy_kl", "battles_won",
    "battles_lost", "battles_ranked",
)  # fmt: skip
_OF_PLAYERS: Final = ("critic_agreement_of/", "filter_share_of/", "filter_weight_of/")


def require_metric(metric: str, *, holds_out: bool, uses_critics: bool, evaluates: bool) -> None:
    """Raises ConfigError for a metric that no trial would write down. Of training's own means it takes any name.

    Args:
        metric: of `--metric`.
        holds_out: whether there are held-out battles.
        uses_critics: whether the agent's critics are used.
        evaluates: whether checkpoints play (`--eval_gens`).
    """
    flag = f"--metric {shown(metric)}"
    if metric == WIN_RATE:
        if not evaluates:
            raise ConfigError(f"{flag} is of checkpoints that play, and without --eval_gens none does; give that, too")
        return
    names = [HELD_OUT + name for name in (*keeping.METRICS, *_ALSO_HELD_OUT)]
    if not metric.startswith(HELD_OUT):
        meant = [HELD_OUT + name for name in get_close_matches(metric, keeping.METRICS, 1, 0.8)]
        if meant := meant or get_close_matches(metric, names, 1, 0.8):
            raise ConfigError(f"{flag} is no metric; did you mean {meant[0]}?")
        return
    if metric not in names and not metric.removeprefix(HELD_OUT).startswith(_OF_PLAYERS):
        raise ConfigError(f"{flag} is none of {', '.join(names)}")
    if not holds_out:
        raise ConfigError(f"{flag} is measured on held-out battles, and there are none; raise --holdout_share")
    if metric != f"{HELD_OUT}agreement" and not uses_critics:
        raise ConfigError(f"{flag} is of critics, and these runs' are not used; take {HELD_OUT}agreement")


def read_values(run_dir: Path, metric: str) -> dict[int, float]:
    """The finite values so far: update -> value, of win_rate epoch -> value; in order.

    Raises DataError where a line of the file holds something else.
    """
    if metric == WIN_RATE:
        return _win_rates(run_dir / EVALUATIONS)
    path = run_dir / METRICS
    lines = read_json_lines(path) if path.is_file() else []
    values = {line["update"]: line[metric] for line in lines if metric in line and "update" in line}
    return {
        update: float(value)
        for update, value in sorted(values.items())
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _win_rates(path: Path) -> dict[int, float]:
    rates: defaultdict[int, list[float]] = defaultdict(list)
    for evaluation in read_rows(TrainingEvaluation, path) if path.is_file() else []:
        rates[evaluation.epoch] += [pair.win_rate for pair in evaluation.pairs if pair.win_rate is not None]
    return {epoch: sum(found) / len(found) for epoch, found in sorted(rates.items()) if found}


def known_metrics(run_dir: Path) -> list[str]:
    """What a run has written down, for an error about what it has not."""
    path = run_dir / METRICS
    names = {name for line in (read_json_lines(path) if path.is_file() else []) for name in line}
    return sorted(names - {"update"}) + ([WIN_RATE] if (run_dir / EVALUATIONS).is_file() else [])
