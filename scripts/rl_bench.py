"""A fixed yardstick for offline reinforcement learning in gen1ou: recipes against imitation of the same battles.

    python scripts/rl_bench.py --out runs/rl_bench                       # all contenders; goes on where it was stopped
    python scripts/rl_bench.py --out runs/rl_bench --contenders target imitation_won
    python scripts/rl_bench.py --out runs/fresh --data_seed 1 --seeds 4 5 6 --contenders target    # the final report

The battles: four scripted players of very different strength in equal shares, every pair, both views. Each contender is
trained with each seed for the same number of updates on batches of the same size. Then it plays the two imitations of
that seed, --battles with each, and scripted players, --ladder_battles with each. All sizes are fixed before anything
runs. Each training has one thread, so that it gives the same agent however many run side by side.

Two intervals: of all battles together (Wilson), and of the seeds' means (Student's t), which counts how far seeds lie
apart. Prints a table, and leaves table.json in --out.
"""

import argparse
import json
import math
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whole_steps import collected, command, evaluated, one_thread, trained

from gemma_metamon.intervals import wilson_interval

FORMAT = "gen1ou"
PLAYERS = ("RandomPlayer", "MaxBasePowerPlayer", "SimpleHeuristicsPlayer", "DuelTrainer")
BASELINES = ("imitation", "imitation_won")
OPPONENTS = (*BASELINES, *PLAYERS[1:])
RATE = ("MetamonAMAGOExperiment.learning_rate = 2e-3", "MetamonAMAGOExperiment.lr_warmup_steps = 40")
ONE_DISCOUNT = "MultiTaskAgent.use_multigamma = False"
WARMUP = "MultiTaskAgent.critic_warmup_updates = {warmup}"
DECAY = "MetamonAMAGOExperiment.lr_decay_updates = {updates}"
"""For all alike: the last updates hardly move the weights, so that little hangs on which batch was the last."""
CRITIC = (*RATE, DECAY, ONE_DISCOUNT, WARMUP)
# the 97.5 % quantiles of Student's t distribution with 1, 2, 3, ... degrees of freedom
_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Contender:
    """A recipe: gin bindings over a training config; which battles it learns from, "all" or "won"; its epochs."""

    training: str = "binary_rl.gin"
    overrides: tuple[str, ...] = ()
    battles: str = "all"
    epochs: int = 1


def best(share: float) -> Contender:
    """Critics learn in the first third; then the battles that they call best played are imitated."""
    overrides = (*RATE, DECAY, f"MetamonAMAGOExperiment.best_share = {share}")
    return Contender("recommended_rl.gin", overrides, epochs=3)


def target(*overrides: str) -> Contender:
    """Weights from what really followed, above critics that judge states."""
    fixed = (*CRITIC, "MultiTaskAgent.advantage = 'target'")
    return Contender(overrides=(*fixed, *overrides))


CONTENDERS = {
    "imitation": Contender("quick.gin", (DECAY,)),
    "imitation_won": Contender("quick.gin", (DECAY,), battles="won"),
    "binary_rl": Contender(overrides=(*RATE, DECAY)),
    "critic": Contender(overrides=CRITIC),
    "target": target("MultiTaskAgent.lambda_return = 0.95"),
    "target_monte_carlo": target("MultiTaskAgent.lambda_return = 1.0"),
    "target_apart": target("MultiTaskAgent.lambda_return = 0.95", "MultiTaskAgent.critics_train_trunk = False"),
    "best_half": best(0.5),
    "best_quarter": best(0.25),
    "best_tenth": best(0.1),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/rl_bench"), help="(default: %(default)s)")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--opponents", nargs="+", default=list(OPPONENTS), choices=OPPONENTS, metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(default: 1 2 3)")
    parser.add_argument("--data_seed", type=int, default=0, help="of the battles to learn from (default: 0)")
    parser.add_argument("--data", type=int, default=4000, help="battles to learn from (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=1200, help="of each run (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="battles in an update (default: %(default)s)")
    parser.add_argument("--battles", type=int, default=340, help="of a seed with an imitation (default: %(default)s)")
    parser.add_argument(
        "--ladder_battles", type=int, default=170, help="of a seed with a scripted player (default: %(default)s)"
    )
    parser.add_argument(
        "--side_by_side", type=int, default=os.cpu_count() or 1, help="trainings at once (default: one per core)"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    flags = ["--players", *PLAYERS, "--seed", str(args.data_seed)]
    battles = collected(args.out / "battles", FORMAT, args.data, *flags)
    names = dict.fromkeys([*(name for name in BASELINES if name in args.opponents), *args.contenders])
    for which in {CONTENDERS[name].battles for name in names}:
        store(which, battles, args)
    one_thread()
    with ThreadPoolExecutor(args.side_by_side) as side_by_side:
        runs = [side_by_side.submit(train, name, battles, seed, args) for name in names for seed in args.seeds]
    for run in runs:
        run.result()
    rows = []
    for name in args.contenders:
        rows += measure(name, battles, args)
        (args.out / "table.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(as_table(rows))


def measure(name: str, battles: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each opponent: the contender's wins with each seed."""
    rows = []
    better = BASELINES[BASELINES.index(name) :] if name in BASELINES else ()
    for opponent in [opponent for opponent in args.opponents if opponent not in better]:
        each, wins = args.battles if opponent in BASELINES else args.ladder_battles, []
        for seed in args.seeds:
            run = train(name, battles, seed, args)
            other = str(train(opponent, battles, seed, args)) if opponent in BASELINES else opponent
            out = args.out / "evaluations" / f"{name}-{seed}-{opponent}"
            wins.append(evaluated(out, FORMAT, [str(run)], [other], each, seed)["pairs"][0]["wins"])
        rows.append({"contender": name, "opponent": opponent, "wins": wins, **intervals(wins, each)})
    return rows


def intervals(wins: list[int], each: int) -> dict[str, Any]:
    """The share of all battles, `each` with every seed, and its two intervals."""
    n = len(wins) * each
    by_seed = [won / each for won in wins]
    of_seeds = None
    if len(wins) > 1:
        low, high = mean_interval(by_seed)
        of_seeds = max(0.0, low), min(1.0, high)
    return {"share": sum(wins) / n, "battles": n, "wilson": wilson_interval(sum(wins), n), "of_seeds": of_seeds}


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean by Student's t: of a share that was measured once with each of 2 to 10 seeds.

    It counts how far the seeds lie apart, which an interval of all their battles together does not. Raises ValueError
    for fewer or more values.
    """
    if not 2 <= len(values) <= len(_T_95) + 1:
        raise ValueError(f"{len(values)} values have no interval here; give 2 to {len(_T_95) + 1}")
    mean = statistics.fmean(values)
    half_width = _T_95[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half_width, mean + half_width


def train(name: str, battles: Path, seed: int, args: argparse.Namespace) -> Path:
    contender = CONTENDERS[name]
    flags = ["--parsed_replay_dir", str(store(contender.battles, battles, args)), "--formats", FORMAT]
    flags += ["--model_gin_config", "gemma_tiny_entity.gin", "--train_gin_config", contender.training]
    flags += ["--seed", str(seed), "--batch_size_per_gpu", str(args.batch)]
    flags += ["--steps_per_epoch", str(args.updates // contender.epochs)]
    for override in contender.overrides:
        flags += ["--gin_override", override.format(warmup=args.updates // 4, updates=args.updates)]
    return trained(args.out / "runs" / f"{name}-{seed}", contender.epochs, *flags)


def store(which: str, battles: Path, args: argparse.Namespace) -> Path:
    """All battles, or the views of their winners, as a store."""
    out: Path = args.out / f"store_{which}"
    if out.is_dir():
        return out
    if which == "won":
        won = args.out / "won" / FORMAT
        won.mkdir(parents=True, exist_ok=True)
        for view in (battles / FORMAT).glob("*_WIN.json.lz4"):
            if not (won / view.name).exists():
                os.link(view, won / view.name)
        battles = won.parent
    command("prepare", "--parsed_replay_dir", str(battles), "--formats", FORMAT, "--out", str(out))
    return out


def as_table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'contender':20} {'against':24} {'won':>6}  all battles          the seeds            by seed"]
    for row in rows:
        spans = [
            f"{span[0]:6.1%} to {span[1]:6.1%}" if span else f"{'':16}" for span in (row["wilson"], row["of_seeds"])
        ]
        by_seed = " ".join(str(won) for won in row["wins"])
        lines.append(
            f"{row['contender']:20} {row['opponent']:24} {row['share']:6.1%}  {spans[0]:20} {spans[1]:20} {by_seed} "
            f"of {row['battles'] // len(row['wins'])}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
