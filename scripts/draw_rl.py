"""The charts of reinforcement learning in the docs, from what other scripts have measured.

    python scripts/draw_rl.py --bench runs/rl_bench runs/fresh --improve improved --search runs/search

Of each folder of rl_bench.py, NAME_table.png: battles won by each contender against each opponent, with the intervals
that count the seeds (of one seed: all battles' interval); and NAME_curves.png: what its trainings measured on their
way, the mean of the seeds and a band from the lowest to the highest. Of a folder of `gemma-metamon improve`,
NAME_ratings.png: the rating round by round. Of a folder of search_table.py, NAME_forks.png: battles won by the number
of forks.
What is not there yet is left out. Prints what it wrote.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from gemma_metamon.errors import DataError, GemmaMetamonError
from gemma_metamon.intervals import wilson_interval
from gemma_metamon.reports.charts import Curve, Estimate, Panel, curves, save_png, win_rate_bars
from gemma_metamon.reports.evaluation import rating_curve
from gemma_metamon.reports.run_curves import over_updates, read_metrics
from gemma_metamon.results import schema
from gemma_metamon.results.json_lines import read_json_lines
from gemma_metamon.strict_json import parse_json

SHARES = {
    "held_out/agreement": "Agreement with held-out actions",
    "held_out/value_auc_1_2": "AUC of the result half-way, by the critics",
    "held_out/critic_agreement": "Critics' best action is the recorded one",
    "filter_share": "Actions that the filter lets through",
}
OTHERS = {"held_out/policy_kl": "KL to the policy of the start", "policy_entropy": "Entropy of the policy"}
ON_REQUEST = {
    "action_accuracy": "Agreement with recorded actions, in training",
    "loss/actor": "Loss of the actor",
    "loss/critic": "Loss of the critics",
    "grad_norm": "Norm of the gradient, before clipping",
}
TITLES = {**SHARES, **OTHERS, **ON_REQUEST}
UNITS = dict.fromkeys([*SHARES, "action_accuracy"], "%") | dict.fromkeys(OTHERS, "nats")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, nargs="+", default=[], metavar="DIR", help="folders of rl_bench.py")
    parser.add_argument("--improve", type=Path, nargs="+", default=[], metavar="DIR", help="folders of `improve`")
    parser.add_argument("--search", type=Path, nargs="+", default=[], metavar="DIR", help="folders of search_table.py")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="of the curves (default: all)")
    parser.add_argument(
        "--metrics", nargs="+", default=[*SHARES, *OTHERS], choices=TITLES, metavar="NAME", help="of the curves, from "
        f"{', '.join(TITLES)} (default: all but the last {len(ON_REQUEST)})"
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="(default: %(default)s)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, figure in charts(args):
        path = args.out / f"{name}.png"
        save_png(figure, path)
        with Image.open(path) as drawn:  # in 256 colours a chart looks the same, and is a third of the size
            drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)


def charts(args: argparse.Namespace) -> Iterator[tuple[str, Figure]]:
    """Each chart that there are numbers for, and its name."""
    for folder in args.bench:
        if (folder / "table.json").is_file():
            yield f"{folder.name}_table", win_rate_bars(by_opponent(read_rows(folder / "table.json")))
        panels = compared(runs_of(folder / "runs", args.contenders), args.metrics)
        if panels:
            yield f"{folder.name}_curves", curves(*panels)
    for folder in args.improve:
        if (folder / "results.json").is_file():
            results = schema.read(folder / "results.json")
            if not isinstance(results, schema.RoundsResults):
                raise DataError(f"{folder / 'results.json'} is of an evaluation, and not of the rounds of `improve`")
            yield f"{folder.name}_ratings", rating_curve(results)
    for folder in args.search:
        if (folder / "parts.jsonl").is_file():
            yield f"{folder.name}_forks", curves(by_forks(read_json_lines(folder / "parts.jsonl")))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is drawn of a row of a table: who won which share of the battles, with its 95 % interval."""

    who: str
    opponent: str
    share: Estimate


def read_rows(path: Path) -> list[Row]:
    """Raises DataError for a file that holds no table; it names the row."""
    try:
        rows = parse_json(path.read_bytes())
    except DataError as error:
        raise DataError(f"{path} is {error}") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} holds no list of rows")
    read = []
    for number, row in enumerate(rows):
        try:
            read.append(_row(row))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"row {number} of {path}: no share with its interval ({error!r})") from error
    return read


def _row(row: Mapping[str, Any]) -> Row:
    low, high = row.get("of_seeds") or row["wilson"]
    share = Estimate(float(row["share"]), float(low), float(high))
    return Row(who=str(row["contender"]), opponent=str(row["opponent"]), share=share)


def by_opponent(rows: Sequence[Row]) -> dict[str, dict[str, Estimate]]:
    """A panel for each opponent, as `win_rate_bars` has them for each player."""
    panels: dict[str, dict[str, Estimate]] = {}
    for row in rows:
        panels.setdefault(f"against {row.opponent}", {})[row.who] = row.share
    return panels


def by_forks(parts: Sequence[Mapping[str, Any]]) -> Panel:
    """A curve for each searcher and opponent: the share won over the forks of a decision, with bands of Wilson's.

    Raises DataError for a part whose player does not say its forks, or that has no counts.
    """
    counts: dict[str, dict[int, tuple[int, int]]] = {}
    for number, part in enumerate(parts, start=1):
        forks = re.search(r"forks=([0-9]+)", str(part.get("player")))
        wins, battles = part.get("wins"), part.get("battles")
        if forks is None or type(wins) is not int or type(battles) is not int or battles < 1:
            raise DataError(f"part {number} is of no searcher: it wants a player with forks=, wins and battles")
        label = f"{part['player']} against {part.get('opponent')}".replace(forks[0], "forks")
        won, played = counts.setdefault(label, {}).get(int(forks[1]), (0, 0))
        counts[label][int(forks[1])] = won + wins, played + battles
    lines = []
    for label, by_number in counts.items():
        own = sorted(by_number.items())
        bands = [wilson_interval(*each) for _, each in own]
        lines.append(Curve(label, [forks for forks, _ in own], [wins / n for _, (wins, n) in own], bands))
    title = "Strength by the number of forks"
    return Panel(title=title, x_label="forks of a decision", y_label="battles won (%)", lines=lines, percent=True)


def runs_of(folder: Path, contenders: Sequence[str] | None) -> dict[str, list[list[dict[str, Any]]]]:
    """The metrics of the trainings of each contender: folders that are called NAME-SEED."""
    runs: dict[str, list[list[dict[str, Any]]]] = {}
    for path in sorted(folder.glob("*/metrics.jsonl")):
        name = re.sub(r"-[0-9]+$", "", path.parent.name)
        if contenders is None or name in contenders:
            runs.setdefault(name, []).append(read_metrics(path))
    return runs


def compared(runs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], names: Sequence[str]) -> list[Panel]:
    """A panel for each of these numbers that any of them has measured, with a curve for each contender."""
    panels = []
    for name in names:
        each = [of_seeds(name, label, seeds) for label, seeds in runs.items()]
        lines = [line for line in each if line.x]
        if lines:
            unit = UNITS.get(name, "")
            panels.append(Panel(title=TITLES[name], x_label="update", y_label=unit, lines=lines, percent=unit == "%"))
    return panels


def of_seeds(name: str, label: str, seeds: Sequence[Sequence[Mapping[str, Any]]]) -> Curve:
    """The mean of a number over the seeds, where all of them have it, and a band from the lowest to the highest."""
    curves_ = [over_updates(metrics, name, label) for metrics in seeds]
    points = [dict(zip(curve.x, curve.y, strict=True)) for curve in curves_]
    shared = sorted(set.intersection(*(set(each) for each in points)))
    values = [[each[update] for each in points] for update in shared]
    return Curve(label, shared, [fmean(each) for each in values], [(min(each), max(each)) for each in values])


if __name__ == "__main__":
    try:
        main()
    except GemmaMetamonError as error:
        raise SystemExit(f"draw_rl: {error}") from error
