"""Learning curves of agents at equal data: the same battles in the same order, two of them compared seed by seed.

    python scripts/learning_curves.py --contenders granularity --out curves
    python scripts/learning_curves.py --contenders objective --battles 200 --out curves    # and games at the end

granularity: whole turns against their entities. text: Gemma's subwords against one learned vector per word, read by the
same layers. phrasing: "Great Tusk" against "greattusk". objective: imitation against binary_rl, at one learning rate.
actor: an MLP against Gemma's language-model head, both over whole turns.
training: six training configs at one learning rate and warm-up, in a table of a row each.

A point is the share of held-out recorded actions that the agent would have chosen, too. Each run is a folder in --out;
one that is whole is not trained again, one that was interrupted goes on, and sets share the runs that they have in
common. Timesteps per second are wall time, the median over the points: compare them only on a machine that did nothing
else. Prints a table, and leaves SET.png and SET.json in --out.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gemma_metamon.commands import main as gemma_metamon
from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.intervals import wilson_interval
from gemma_metamon.runs.checkpoints import Checkpoint, list_checkpoints
from gemma_metamon.runs.loading import load_for_play

OPPONENT = "MaxBasePowerPlayer"
CONCURRENCY = 20
QUICK_RATE = ("MetamonAMAGOExperiment.learning_rate = 2e-3", "MetamonAMAGOExperiment.lr_warmup_steps = 40")


@dataclass(frozen=True)
class Contender:
    """What distinguishes one side's runs; `folder` begins their names."""

    folder: str
    model: str = "gemma_tiny_entity.gin"
    training: str = "quick.gin"
    overrides: tuple[str, ...] = ()


ENTITY = Contender("entity")
TURN = Contender("turn", model="gemma_tiny_multitaskagent.gin")
BINARY_RL = Contender("binary_rl", training="binary_rl.gin", overrides=QUICK_RATE)
SETS = {
    "granularity": {"turn": TURN, "entity": ENTITY},
    "actor": {"mlp": TURN, "lm": Contender("lm_actor", model="gemma_tiny_lm_actor.gin")},
    "text": {"subwords": ENTITY, "words": Contender("words", model="gemma_tiny_words.gin")},
    "phrasing": {"natural": ENTITY, "raw": Contender("raw", overrides=("GemmaTstepEncoder.phrasing = 'raw'",))},
    "objective": {
        "il": ENTITY,
        "binary_rl": BINARY_RL,
    },
    "training": {
        "il": ENTITY,
        "binary_rl": BINARY_RL,
        "exp_rl": Contender("exp_rl", training="exp_rl.gin", overrides=QUICK_RATE),
        "kakuna": Contender("kakuna", training="kakuna.gin", overrides=QUICK_RATE),
        "alakazam_bnorm_beta3": Contender("bnorm", training="alakazam_bnorm_beta3.gin", overrides=QUICK_RATE),
        # 100,000 batches until battles are weighed in full are for longer runs
        "alakazam3_isfilter": Contender(
            "isfilter",
            training="alakazam3_isfilter.gin",
            overrides=(*QUICK_RATE, "ISAdvantageFilter.seq_floor_warmup_steps = 100"),
        ),
    },
}


class Spread(NamedTuple):
    """Of one number per seed."""

    mean: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.mean(values), min(values), max(values))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One contender: agreements (seeds, points) and, per seed, timesteps per second and the share of battles won."""

    agreement: list[list[float]]
    timesteps_per_s: list[float]
    win_rate: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contenders", choices=SETS, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--updates", type=int, default=300, help="of each run (default: %(default)s)")
    parser.add_argument("--every", type=int, default=50, help="updates between points (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=16, help="battles in an update (default: %(default)s)")
    parser.add_argument("--format", default="gen1ou", help="of the battles (default: %(default)s)")
    parser.add_argument("--parsed_replay_dir", type=Path, help="as of `train` (default: the bundled battles)")
    parser.add_argument("--holdout_share", type=float, default=0.05, help="not trained on (default: %(default)s)")
    parser.add_argument("--gin_override", action="append", default=[], help="for all contenders; repeatable")
    parser.add_argument(
        "--battles", type=int, default=0, help=f"of each final agent against {OPPONENT} (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("curves"), help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    args = parser.parse_args()
    if args.every < 1 or args.updates < 1 or args.updates % args.every:
        parser.error(f"--updates {args.updates} is no multiple of --every {args.every}")
    if len(set(args.seeds)) < len(args.seeds):
        parser.error(f"--seeds {' '.join(map(str, args.seeds))}: each seed once")
    if args.battles < 0:
        parser.error(f"--battles {args.battles}; it must not be negative")
    contenders = SETS[args.contenders]
    run_all(contenders.values(), args)
    won = play_all(contenders.values(), args) if args.battles else {}
    measured = {label: measure(contender, won, args) for label, contender in contenders.items()}
    report = {**vars(args), "contenders": {label: asdict(side) for label, side in measured.items()}}
    text = json.dumps(report, default=str)
    (args.out / f"{args.contenders}.json").write_text(text + "\n", encoding="utf-8")
    draw(measured, args, args.out / f"{args.contenders}.png")
    print(text if args.json else (as_table if len(measured) == 2 else as_rows)(measured, args))


# ---- runs


def run_dir_of(contender: Contender, seed: int, args: argparse.Namespace) -> Path:
    folder: Path = args.out / f"{contender.folder}-seed{seed}"
    return folder


def run_all(contenders: Iterable[Contender], args: argparse.Namespace) -> None:
    """Seed by seed, so that a machine that others use too is as busy for one contender as for the other."""
    runs = [(contender, seed) for seed in args.seeds for contender in contenders]
    for number, (contender, seed) in enumerate(runs, start=1):
        print(f"{contender.folder}, seed {seed} (run {number} of {len(runs)})", file=sys.stderr)
        train(contender, seed, args)


def train(contender: Contender, seed: int, args: argparse.Namespace) -> None:
    """Train a run that is not there, or what is missing of it."""
    run_dir, epochs = run_dir_of(contender, seed, args), args.updates // args.every
    settings = {
        "model_gin_config": contender.model,
        "train_gin_config": contender.training,
        "formats": [args.format],
        "holdout_share": args.holdout_share,
        "batch_size_per_gpu": args.batch_size,
        "steps_per_epoch": args.every,
        "log_interval": args.every,
        "seed": seed,
        "gin_override": [*contender.overrides, *args.gin_override],
    }
    if args.parsed_replay_dir is not None:
        settings["parsed_replay_dir"] = str(args.parsed_replay_dir)
    done = max(list_checkpoints(run_dir), default=0)
    if done:
        require_same(run_dir, settings)
    elif run_dir.exists():  # stopped before its first point
        shutil.rmtree(run_dir)
    if done >= epochs:
        return
    command = ["train", "--run_name", run_dir.name, "--save_dir", str(args.out), "--epochs", str(epochs)]
    for name, value in settings.items():
        if name == "gin_override":
            command += [word for override in value for word in ("--gin_override", override)]
        else:
            command += [f"--{name}", *(value if isinstance(value, list) else [str(value)])]
    with contextlib.redirect_stdout(sys.stderr):
        status = gemma_metamon([*command, *(["--ckpt", str(done)] if done else [])])
    if status != 0:
        raise SystemExit(f"learning_curves: the training of {run_dir.name} failed, see above")


def require_same(run_dir: Path, settings: dict[str, Any]) -> None:
    saved = Checkpoint.find(run_dir).read_meta().settings
    for name, value in settings.items():
        if saved[name] != value:
            raise ConfigError(
                f"{run_dir} was trained with {name} {saved[name]!r}, not {value!r}; choose another --out, or delete it"
            )


def measure(contender: Contender, won: dict[Path, float], args: argparse.Namespace) -> Measured:
    run_dirs = [run_dir_of(contender, seed, args) for seed in args.seeds]
    points = [read_points(run_dir, args) for run_dir in run_dirs]
    return Measured(
        agreement=[[point["held_out/agreement"] for point in run] for run in points],
        timesteps_per_s=[statistics.median(point["timesteps_per_s"] for point in run) for run in points],
        win_rate=[won[run_dir] for run_dir in run_dirs if run_dir in won],
    )


def read_points(run_dir: Path, args: argparse.Namespace) -> list[dict[str, float]]:
    """The metrics of a run at each of its points."""
    metrics: dict[int, dict[str, float]] = {}
    for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        logged = json.loads(line)
        metrics.setdefault(logged["update"], {}).update(logged)  # the later counts, where a run was interrupted
    points = [metrics[update] for update in updates_of(args)]
    if "held_out/agreement" not in points[0]:
        raise ConfigError(
            f"--holdout_share {args.holdout_share} holds out no battle with a known choice; choose a larger one"
        )
    return points


def updates_of(args: argparse.Namespace) -> range:
    return range(args.every, args.updates + 1, args.every)


# ---- games


def play_all(contenders: Iterable[Contender], args: argparse.Namespace) -> dict[Path, float]:
    """The share of --battles that the final agent of each run wins, by run folder; the agent takes its best action."""
    won = {}
    for contender in contenders:
        for seed in args.seeds:
            run_dir = run_dir_of(contender, seed, args)
            kept = run_dir / f"games-{args.updates}-{args.battles}.json"
            if not kept.exists():
                print(f"{args.battles} battles: {run_dir.name} against {OPPONENT}", file=sys.stderr)
                result = asyncio.run(play(run_dir, seed, args))
                kept.write_text(json.dumps(result), encoding="utf-8")
            won[run_dir] = json.loads(kept.read_text(encoding="utf-8"))["win_rate"]
    return won


async def play(run_dir: Path, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    from gemma_metamon.showdown.matches.evaluate import play_match
    from gemma_metamon.showdown.players.policy_player import BatchedPolicy, learned
    from gemma_metamon.showdown.simulator.teams import load_teams

    playable = load_for_play(Checkpoint.find(run_dir, args.updates // args.every), "cpu")
    policy = BatchedPolicy(playable.agent, playable.view, max_battles=2 * CONCURRENCY, sample=False, seed=seed)
    result = await play_match(
        learned(run_dir.name, policy).build,
        OPPONENT,
        args.battles,
        battle_format=args.format,
        teams=load_teams(args.format),
        seed=seed,
        concurrency=CONCURRENCY,
    )
    return dataclasses.asdict(result.counts())


# ---- the report


def as_table(measured: dict[str, Measured], args: argparse.Namespace) -> str:
    """A row per point, then speed and games; the last column compares the two seed by seed."""
    (first, one), (second, other) = measured.items()
    lines = [
        f"Agreement with held-out recorded actions of {args.format}, mean (lowest to highest of seeds "
        f"{', '.join(map(str, args.seeds))})",
        "",
        f"| updates | {first} | {second} | {second} - {first}, seed by seed |",
        "|---|---|---|---|",
    ]

    def add(name: str, ours: Sequence[float], theirs: Sequence[float], show: Callable[[float], str]) -> None:
        differences = Spread.of([b - a for a, b in zip(ours, theirs, strict=True)])
        cells = [spread_text(Spread.of(side), show) for side in (ours, theirs)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {spread_text(differences, points)} |")

    for index, update in enumerate(updates_of(args)):
        add(str(update), *([run[index] for run in side.agreement] for side in (one, other)), percent)
    add("mean of the curve", *([statistics.mean(run) for run in side.agreement] for side in (one, other)), percent)
    if one.win_rate:
        add(f"won of {args.battles} against {OPPONENT}", one.win_rate, other.win_rate, percent)
    speeds = [spread_text(Spread.of(side.timesteps_per_s), "{:,.0f}".format) for side in (one, other)]
    ratios = Spread.of([b / a for a, b in zip(one.timesteps_per_s, other.timesteps_per_s, strict=True)])
    faster = spread_text(ratios, "{:.2f}".format)
    lines.append(f"| timesteps per second | {speeds[0]} | {speeds[1]} | {faster} times |")
    return "\n".join(lines)


def as_rows(measured: dict[str, Measured], args: argparse.Namespace) -> str:
    """A row per contender: its agreement at the end, and what it won of the battles of all seeds together."""
    seeds = ", ".join(map(str, args.seeds))
    won = f" won of {args.battles * len(args.seeds)} against {OPPONENT} (95 %) | of each seed |" if args.battles else ""
    lines = [
        f"Agreement with held-out recorded actions of {args.format} after {args.updates} updates of {args.batch_size} "
        f"battles, mean (lowest to highest of seeds {seeds})",
        "",
        f"| | agreement | mean of the curve |{won}",
        "|---" * (5 if won else 3) + "|",
    ]
    for label, side in measured.items():
        shown = [[run[-1] for run in side.agreement], [statistics.mean(run) for run in side.agreement]]
        cells = [label, *(spread_text(Spread.of(values), percent) for values in shown)]
        if won:
            battles = args.battles * len(args.seeds)
            low, high = wilson_interval(round(sum(side.win_rate) * args.battles), battles)
            cells += [f"{percent(statistics.mean(side.win_rate))} ({percent(low)} to {percent(high)})"]
            cells += [", ".join(map(percent, side.win_rate))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread_text(spread: Spread, show: Callable[[float], str]) -> str:
    return f"{show(spread.mean)} ({show(spread.lowest)} to {show(spread.highest)})"


def percent(share: float) -> str:
    return f"{share:.1%}"


def points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def draw(measured: dict[str, Measured], args: argparse.Namespace, path: Path) -> None:
    """Mean curves, each in a band from its lowest to its highest seed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, side in measured.items():
        spreads = [Spread.of(seeds) for seeds in zip(*side.agreement, strict=True)]
        mean, lowest, highest = zip(*spreads, strict=True)
        (line,) = axes.plot(updates_of(args), mean, marker="o", label=label)
        axes.fill_between(updates_of(args), lowest, highest, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel=f"updates of {args.batch_size} battles", ylabel="agreement with held-out recorded actions")
    axes.set_title(
        f"{args.format}, seeds {', '.join(map(str, args.seeds))}: mean, lowest and highest", fontsize="medium"
    )
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    try:
        main()
    except GemmaMetamonError as error:
        raise SystemExit(f"learning_curves: {error}") from error
