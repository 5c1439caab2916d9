"""An ensemble against its best member: three seeds of one small agent, in gen1ou, on two CPU cores.

    python scripts/compare_ensemble.py --out runs/ensemble        # run again, it collects and trains no second time

DuelTrainer plays, and three seeds of a tiny Gemma imitate it, as in win_gen1ou.sh but with fewer battles and updates.
Then, all sizes fixed beforehand:

1. each member plays --choosing battles against each scripted opponent: who wins most of them is the best member;
2. the best member, the mean and the vote of the three, and the mean with the best member at two temperatures more play
   --battles against each scripted opponent, and the three ensembles --battles against the best member. Other battles
   than those that chose it: chosen and measured by the same ones, it would look better than it is.

The most probable action is taken. Prints a table with 95 % intervals, and with --json one object.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    chosen = evaluate(args.out / "choosing", members, OPPONENTS, args.choosing, seed=1)
    wins = {row["name"]: row["wins"] for row in chosen["contestants"] if row["kind"] == "checkpoint"}
    best = members[max(range(len(members)), key=lambda i: wins[Path(members[i]).name])]
    listed = ", ".join(members)
    ensembles = [
        f"ensemble({listed})",
        f"ensemble(vote: {listed})",
        f"ensemble({listed}, {best}@T0.5, {best}@T2)",
    ]
    against = evaluate(args.out / "against_scripted", [best, *ensembles], OPPONENTS, args.battles, seed=2)
    head_to_head = evaluate(args.out / "against_best", ensembles, [best], args.battles, seed=3)
    report = {"chosen_by": wins, "best": best, "pairs": [*against["pairs"], *head_to_head["pairs"]]}
    print(json.dumps(report) if args.json else as_table(report))


def prepare(args: argparse.Namespace) -> None:
    """The battles to learn from, or those that are there."""
    out, teacher = args.out, args.out / "teacher"
    if not teacher.is_dir():
        part = out / "teacher.part"
        command = ["collect", "--format", FORMAT, "--battles", str(args.teacher_battles), "--players", "DuelTrainer"]
        run(*command, "--opponents", "DuelTrainer", "SimpleHeuristicsPlayer", "MaxBasePowerPlayer", "--out", str(part))
        part.rename(teacher)
    run("prepare", "--parsed_replay_dir", str(teacher), "--formats", FORMAT, "--out", str(out / "store"))


def train(args: argparse.Namespace, seed: int) -> Path:
    """A run, or the one that is there."""
    out, run_dir = args.out, args.out / f"seed{seed}"
    if not (run_dir / "ckpts" / f"epoch_{args.epochs}").is_dir():
        command = [
            "train",
            "--run_name",
            run_dir.name,
            "--save_dir",
            str(out),
            "--parsed_replay_dir",
            str(out / "store"),
        ]
        command += [
            "--model_gin_config",
            "gemma_tiny_entity.gin",
            "--train_gin_config",
            "quick.gin",
            "--seed",
            str(seed),
        ]
        run(*command, "--batch_size_per_gpu", "16", "--epochs", str(args.epochs), "--steps_per_epoch", "300")
    return run_dir


def evaluate(out: Path, players: list[str], opponents: "tuple[str, ...] | list[str]", battles: int, seed: int) -> Any:
    """results.json of an evaluation that is there, or of a new one."""
    if not (out / "results.json").is_file():
        command = ["evaluate", "--players", *players, "--opponents", *opponents, "--format", FORMAT]
        run(*command, "--battles", str(battles), "--seed", str(seed), "--timeout_s", "600", "--out", str(out))
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def run(*arguments: str) -> None:
    """A command of gemma-metamon; its own results go to stderr, so that stdout holds the table alone."""
    done = subprocess.run([sys.executable, "-m", "gemma_metamon", *arguments], stdout=sys.stderr)
    if done.returncode:
        sys.exit(done.returncode)


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
