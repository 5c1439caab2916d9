"""An ensemble against its best member: three seeds of one small agent, in gen1ou, on two CPU cores.

    python scripts/compare_ensemble.py --out runs/ensemble        # run again, it collects and trains no second time

DuelTrainer plays, and three seeds of a tiny Gemma imitate it, as in win.sh but with fewer battles and updates.
Then, all sizes fixed beforehand:

1. each member plays --choosing battles against each scripted opponent: who wins most of them is the best member;
2. the best member, the mean and the vote of the three, and the mean with the best member at two temperatures more play
   --battles against each scripted opponent, and the three ensembles --battles against the best member. Other battles
   than those that chose it: chosen and measured by the same ones, it would look better than it is.

The most probable action is taken. Prints a table with 95 % intervals, and with --json one object.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from whole_steps import collected, command, evaluated, trained

OPPONENTS = ("MaxBasePowerPlayer", "SimpleHeuristicsPlayer")
SEEDS = (0, 1, 2)
FORMAT = "gen1ou"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ensemble"), help="(default: %(default)s)")
    parser.add_argument("--teacher_battles", type=int, default=1500, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="of 300 updates (default: %(default)s)")
    parser.add_argument("--choosing", type=int, default=200, help="battles a pair (default: %(default)s)")
    parser.add_argument("--battles", type=int, default=500, help="battles a pair (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    args = parser.parse_args()
    prepare(args)
    members = [f"{train(args, seed)}@{args.epochs}" for seed in SEEDS]
    chosen = evaluated(args.out / "choosing", FORMAT, members, OPPONENTS, args.choosing, seed=1)
    wins = {row["name"]: row["wins"] for row in chosen["contestants"] if row["kind"] == "checkpoint"}
    best = members[max(range(len(members)), key=lambda i: wins[Path(members[i]).name])]
    listed = ", ".join(members)
    ensembles = [
        f"ensemble({listed})",
        f"ensemble(vote: {listed})",
        f"ensemble({listed}, {best}@T0.5, {best}@T2)",
    ]
    against = evaluated(args.out / "against_scripted", FORMAT, [best, *ensembles], OPPONENTS, args.battles, seed=2)
    head_to_head = evaluated(args.out / "against_best", FORMAT, ensembles, [best], args.battles, seed=3)
    report = {"chosen_by": wins, "best": best, "pairs": [*against["pairs"], *head_to_head["pairs"]]}
    print(json.dumps(report) if args.json else as_table(report))


def prepare(args: argparse.Namespace) -> None:
    """The battles to learn from."""
    opponents = ["DuelTrainer", "SimpleHeuristicsPlayer", "MaxBasePowerPlayer"]
    flags = ["--players", "DuelTrainer", "--opponents", *opponents]
    teacher = collected(args.out / "teacher", FORMAT, args.teacher_battles, *flags)
    command("prepare", "--parsed_replay_dir", str(teacher), "--formats", FORMAT, "--out", str(args.out / "store"))


def train(args: argparse.Namespace, seed: int) -> Path:
    flags = ["--parsed_replay_dir", str(args.out / "store"), "--model_gin_config", "gemma_tiny_entity.gin"]
    flags += ["--train_gin_config", "quick.gin", "--seed", str(seed)]
    flags += ["--batch_size_per_gpu", "16", "--steps_per_epoch", "300"]
    return trained(args.out / f"seed{seed}", args.epochs, *flags)


def as_table(report: dict[str, Any]) -> str:
    lines = [f"chosen by {report['chosen_by']} battles won: {report['best']}"]
    for row in report["pairs"]:
        low, high = row["interval_95"]
        latency = row["latency_ms"]["median"]
        lines.append(
            f"{row['player']:58} {row['opponent']:24} {row['wins']:4}/{row['battles']} = {row['win_rate']:.1%} "
            f"({low:.1%} to {high:.1%}), {latency:.0f} ms a decision"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
