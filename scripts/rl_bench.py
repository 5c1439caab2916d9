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
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whole_steps import collected, command, evaluated, one_thread, trained

from gemma_metamon.data.store import BattleStore
from gemma_metamon.intervals import mean_interval, wilson_interval
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.training.ranking import mean_advantages

FORMAT = "gen1ou"
PLAYERS = ("RandomPlayer", "MaxBasePowerPlayer", "SimpleHeuristicsPlayer", "DuelTrainer")
LADDER = PLAYERS[1:]
BASELINES = ("imitation", "imitation_won")
RATE = ("MetamonAMAGOExperiment.learning_rate = 2e-3", "MetamonAMAGOExperiment.lr_warmup_steps = 40")
ONE_DISCOUNT = "MultiTaskAgent.use_multigamma = False"
WARMUP = "MultiTaskAgent.critic_warmup_updates = {warmup}"
DECAY = "MetamonAMAGOExperiment.lr_decay_updates = {updates}"
"""For all alike: the last updates hardly move the weights, so that little hangs on which batch was the last."""


@dataclass(frozen=True)
class Contender:
    """A recipe: gin bindings over a training config, and which battles it learns from, "all" or "won".

    With `best`, a third of the updates goes into JUDGE, which imitates all battles while critics learn; the rest
    goes on from there with that share of the battles, those in which the player did better than others would have.
    """

    training: str = "binary_rl.gin"
    overrides: tuple[str, ...] = ()
    battles: str = "all"
    best: float | None = None


def target(*overrides: str) -> Contender:
    """Weights from what really followed, above critics that judge states."""
    fixed = (*RATE, DECAY, ONE_DISCOUNT, WARMUP, "MultiTaskAgent.advantage = 'target'")
    return Contender(overrides=(*fixed, *overrides))


def above_state(low: float, full: float) -> Contender:
    """The critics know the battle so far, and with it who plays; critics of the state alone say what others get there.

    Battles are weighed by the rank of their mean advantage, their decisions by the advantage itself.
    """
    fixed = (
        *RATE, DECAY, ONE_DISCOUNT, WARMUP, "MultiTaskAgent.lambda_return = 1.0", "MultiTaskAgent.baseline = 'state'",
        # encoders learn from imitation alone, and critics need no more weight than they have
        "MultiTaskAgent.critics_train_trunk = False", "critic_loss_weight = 1.0",
        "MultiTaskAgent.fbc_filter_func = @ISAdvantageFilter()", "ISAdvantageFilter.beta = 0.5",
        "ISAdvantageFilter.clip_weights_high = 10.0", "ISAdvantageFilter.seq_floor = 0.02",
        "ISAdvantageFilter.seq_floor_warmup_steps = {warmup}", "ISAdvantageFilter.seq_buffer_size = 2000",
    )  # fmt: skip
    return Contender(
        overrides=(*fixed, f"ISAdvantageFilter.seq_p_low = {low}", f"ISAdvantageFilter.seq_p_full = {full}")
    )


CONTENDERS = {
    "imitation": Contender("quick.gin", (DECAY,)),
    "imitation_won": Contender("quick.gin", (DECAY,), battles="won"),
    "binary_rl": Contender(overrides=(*RATE, DECAY)),
    "critic": Contender(overrides=(*RATE, DECAY, ONE_DISCOUNT, WARMUP)),
    "target": target("MultiTaskAgent.lambda_return = 0.95"),
    "target_monte_carlo": target("MultiTaskAgent.lambda_return = 1.0"),
    "target_apart": target("MultiTaskAgent.lambda_return = 0.95", "MultiTaskAgent.critics_train_trunk = False"),
    "target_quantile": target(
        "MultiTaskAgent.lambda_return = 0.95", "MultiTaskAgent.fbc_filter_func = @QuantileFilter()",
        "QuantileFilter.share = 0.5",
    ),
    "above_state": above_state(0.6, 0.9),
    "above_state_mild": above_state(0.4, 0.8),
    "above_state_strict": above_state(0.7, 0.95),
    "best_half": Contender("quick.gin", (DECAY,), best=0.5),
    "best_quarter": Contender("quick.gin", (DECAY,), best=0.25),
    "best_tenth": Contender("quick.gin", (DECAY,), best=0.1),
}  # fmt: skip


JUDGE = (
    *RATE, ONE_DISCOUNT, "MultiTaskAgent.critic_warmup_updates = 1000000", "MultiTaskAgent.lambda_return = 1.0",
    "MultiTaskAgent.baseline = 'state'", "MultiTaskAgent.critics_train_trunk = False", "critic_loss_weight = 1.0",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/rl_bench"), help="(default: %(default)s)")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, metavar="NAME")
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
    names = dict.fromkeys([*BASELINES, *args.contenders])
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
    for opponent in (*BASELINES[: BASELINES.index(name) if name in BASELINES else None], *LADDER):
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


def train(name: str, battles: Path, seed: int, args: argparse.Namespace) -> Path:
    contender, run_dir = CONTENDERS[name], args.out / "runs" / f"{name}-{seed}"
    source, updates, start = store(contender.battles, battles, args), args.updates, []
    if contender.best is not None:
        judging = updates // 3
        judge = steps(run_dir.with_name(f"{run_dir.name}-judge"), "binary_rl.gin", JUDGE, source, judging, seed, args)
        source = best_battles(judge, source, battles, contender.best)
        updates, start = updates - judging, ["--init_from", str(judge)]
    return steps(run_dir, contender.training, contender.overrides, source, updates, seed, args, *start)


def steps(
    run_dir: Path, training: str, overrides: Sequence[str], source: Path, updates: int, seed: int,
    args: argparse.Namespace, *more: str,
) -> Path:  # fmt: skip
    flags = ["--parsed_replay_dir", str(source), "--formats", FORMAT, "--seed", str(seed), *more]
    flags += ["--model_gin_config", "gemma_tiny_entity.gin", "--train_gin_config", training]
    flags += ["--batch_size_per_gpu", str(args.batch), "--steps_per_epoch", str(updates)]
    for override in overrides:
        flags += ["--gin_override", override.format(warmup=args.updates // 4, updates=updates)]
    return trained(run_dir, 1, *flags)


def best_battles(judge: Path, source: Path, battles: Path, share: float) -> Path:
    """A folder of the views in which, by a run's critics, the player did best: this share of those of a store."""
    out = judge.with_name(f"{judge.name}-best")
    if out.is_dir():
        return out
    agent, meta = load_agent(Checkpoint.find(judge), "cpu")
    views = BattleStore(source).battles([FORMAT])
    means = mean_advantages(agent, views, meta.view(), agent.options.max_seq_len)
    ranked = sorted((mean, view.path.name) for mean, view in zip(means, views, strict=True) if mean is not None)
    part = out.with_name(f"{out.name}.part")
    (part / FORMAT).mkdir(parents=True, exist_ok=True)
    for _, name in ranked[-round(share * len(ranked)) :]:
        (part / FORMAT / name).unlink(missing_ok=True)
        os.link(battles / FORMAT / name, part / FORMAT / name)
    part.rename(out)
    return out


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
