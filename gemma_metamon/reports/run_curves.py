"""Charts of a training run, from the numbers in its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gemma_metamon.errors import DataError
from gemma_metamon.reports.charts import Curve, Panel, curves
from gemma_metamon.results.json_lines import read_json_lines, read_rows
from gemma_metamon.results.schema import PairRow, TrainingEvaluation
from gemma_metamon.strict_json import shown, shown_path


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is drawn of metrics.jsonl in one chart.

    Attributes:
        title: above the chart.
        y_label: what the lines show, with its unit.
        says: what it shows, for those who cannot see it.
        lines: a number's name in the file -> its name in the legend.
        percent: whether the numbers are shares of 1.
    """

    title: str
    y_label: str
    says: str
    lines: Mapping[str, str]
    percent: bool = False


MEASURED = (
    Measured(
        title="Losses",
        y_label="loss",
        says="Losses over the updates of the run",
        # the total last, and dashed: where the critics are not trained it lies on the actor's
        lines={"loss/actor": "actor", "loss/critic": "critics", "loss/total": "total"},
    ),
    Measured(
        title="Agreement with held-out recorded actions",
        y_label="actions (%)",
        says="Share of held-out recorded actions that the agent agrees with, over updates",
        lines={"held_out/agreement": "agreement"},
        percent=True,
    ),
    Measured(
        title="How well the critics' value tells a held-out battle's result",
        y_label="AUC (%), by chance 50",
        says="AUC of the result by the critics' value at four points of held-out battles, over updates",
        lines={
            "held_out/value_auc_turn_1": "first decision",
            "held_out/value_auc_1_4": "after a quarter",
            "held_out/value_auc_1_2": "half-way",
            "held_out/value_auc_3_4": "after three quarters",
        },
        percent=True,
    ),
    Measured(
        title="The critics' best action is the recorded one",
        y_label="held-out decisions (%)",
        says="Share of held-out decisions in which the critics' best action is the recorded one, over updates",
        lines={"held_out/critic_agreement": "critics", "held_out/critic_agreement_by_chance": "by chance"},
        percent=True,
    ),
    Measured(
        title="The policy in held-out battles",
        y_label="nats",
        says="The policy's entropy and its divergence from the policy of the start, over updates",
        lines={"held_out/policy_entropy": "entropy", "held_out/policy_kl": "KL to the start"},
    ),
    Measured(
        title="What free answers to held-out decisions earn",
        y_label="mean reward",
        says="The mean reward of free answers to held-out decisions, over updates",
        lines={"held_out/reward": "reward"},
    ),
    Measured(
        title="Free answers to held-out decisions that are legal",
        y_label="answers (%)",
        says="Share of the free answers to held-out decisions that name a legal choice, over updates",
        lines={"held_out/legal_share": "legal"},
        percent=True,
    ),
    Measured(
        title="Groups of answers that all earn the same",
        y_label="groups (%)",
        says="Share of the groups of answers from which nothing is learned, over updates",
        lines={"grpo/equal_groups": "equal rewards"},
        percent=True,
    ),
    Measured(
        title="The answers' entropy",
        y_label="nats per subword",
        says="Entropy of the model's draw of answers, and its divergence from the model of the start, over updates",
        lines={"grpo/entropy": "entropy", "grpo/kl": "KL to the start"},
    ),
)
REWARD = "reward/"
"""What the names of rewards begin with; a user may have added some."""


def run_charts(run_dir: Path) -> list[tuple[Figure, str]]:
    """What there is to draw of metrics.jsonl and evaluations.jsonl, each with what it shows.

    Raises DataError for a line that holds something else; it names the line and the field.
    """
    metrics = read_metrics(run_dir / "metrics.jsonl")
    figures = []
    for each in (*MEASURED, *_rewards(metrics)):
        lines = [line for name, label in each.lines.items() if (line := over_updates(metrics, name, label)).x]
        if lines:
            panel = Panel(title=each.title, x_label="update", y_label=each.y_label, lines=lines, percent=each.percent)
            figures.append((curves(panel), each.says))
    evaluations = run_dir / "evaluations.jsonl"
    played = read_rows(TrainingEvaluation, evaluations) if evaluations.is_file() else []
    for battle_format, lines in _win_rates(played).items():
        title = f"Battles won in {battle_format}"
        figure = curves(Panel(title=title, x_label="epoch", y_label="battles won (%)", lines=lines, percent=True))
        figures.append((figure, f"Battles won in {battle_format} over epochs, with bands of 95 % intervals"))
    return figures


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl. Raises DataError for one without an update, or where what is drawn is no number."""
    metrics = read_json_lines(path)
    drawn = [name for each in MEASURED for name in each.lines]
    for number, line in enumerate(metrics, start=1):
        for name in ("update", *drawn, *filter(_is_reward, line)):
            value = line.get(name, None if name == "update" else 0.0)
            if type(value) not in ((int,) if name == "update" else (int, float)):
                raise DataError(f"line {number} of {shown_path(path)}: {name} is {shown(value)}; expected a number")
    return metrics


def over_updates(metrics: Sequence[Mapping[str, Any]], name: str, label: str) -> Curve:
    """A number that some lines have, over the updates of a run; no points where none has it."""
    # a run that was resumed has written some updates twice: the later line holds
    points = {line["update"]: line[name] for line in metrics if name in line}
    return Curve(label, sorted(points), [points[update] for update in sorted(points)], dashed=name == "loss/total")


def _rewards(metrics: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """A chart for each reward, in the order in which they are logged: they differ in size."""
    names = dict.fromkeys(name for line in metrics for name in line if _is_reward(name))
    return [
        Measured(
            title=f"Reward of answers: {name.removeprefix(REWARD)}",
            y_label="mean",
            says=f"The mean {name.removeprefix(REWARD)} reward of drawn answers, over updates",
            lines={name: name.removeprefix(REWARD)},
        )
        for name in names
    ]


def _is_reward(name: str) -> bool:
    return name.startswith(REWARD) and not name.endswith("_std")


def _win_rates(evaluations: Sequence[TrainingEvaluation]) -> dict[str, list[Curve]]:
    """For each format a curve for each opponent."""
    points: dict[tuple[str, str], dict[int, PairRow]] = {}
    for evaluation in evaluations:
        for pair in evaluation.pairs:
            if pair.battles:
                points.setdefault((evaluation.format, pair.opponent), {})[evaluation.epoch] = pair
    lines: dict[str, list[Curve]] = {}
    for (battle_format, opponent), pairs in points.items():
        epochs = sorted(pairs)
        rates = [pairs[epoch].wins / pairs[epoch].battles for epoch in epochs]
        bands = [pairs[epoch].interval_95 for epoch in epochs]
        lines.setdefault(battle_format, []).append(Curve(opponent, epochs, rates, bands))
    return lines
