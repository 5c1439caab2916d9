"""`gemma-metamon evaluate`: a checkpoint plays scripted opponents on a simulator of its own."""

import argparse
import asyncio
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import require_at_least_one

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example:
  gemma-metamon evaluate --run_dir runs/first --ckpt 1 --format gen1ou --opponents RandomPlayer --battles 100 --json"""


def add_parser(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="let a checkpoint play against scripted opponents",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run_dir", type=Path, required=True, help="a run of `train`: save_dir/run_name")
    parser.add_argument("--ckpt", type=int, help="the epoch of the checkpoint (default: the last)")
    parser.add_argument("--format", default="gen1ou", help="battle format (default: %(default)s)")
    parser.add_argument(
        "--opponents", nargs="+", default=["RandomPlayer", "MaxBasePowerPlayer"], help="(default: %(default)s)"
    )
    parser.add_argument("--battles", type=int, default=100, help="per opponent (default: %(default)s)")
    parser.add_argument("--team_dir", type=Path, help="a folder of teams in Showdown's export format")
    parser.add_argument("--concurrency", type=int, default=16, help="battles at a time (default: %(default)s)")
    parser.add_argument("--sample", action="store_true", help="draw actions; otherwise the most probable is taken")
    parser.add_argument("--temperature", type=float, default=1.0, help="of --sample (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: cuda where there is one)")
    parser.add_argument("--seed", type=int, default=0, help="of teams and draws (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    require_at_least_one(args, "battles", "concurrency")
    from gemma_metamon.showdown.baselines import player_class
    from gemma_metamon.showdown.teams import load_teams
    from gemma_metamon.training import checkpoints

    for opponent in args.opponents:
        player_class(opponent)
    teams = load_teams(args.format, args.team_dir)
    folder = checkpoints.find_checkpoint(args.run_dir, args.ckpt)
    agent, meta = checkpoints.load_agent(folder, args.device)

    from gemma_metamon.showdown.players import BatchedPolicy
    from gemma_metamon.showdown.server import running_server

    # a battle may begin before the end of the one before it is told
    policy = BatchedPolicy(
        agent,
        meta.view(),
        max_battles=2 * args.concurrency,
        sample=args.sample,
        temperature=args.temperature,
        seed=args.seed,
    )
    with running_server() as server:
        results = asyncio.run(_play(args, policy, teams, server.websocket_url))
    report = {
        "run_dir": str(args.run_dir),
        "ckpt": meta.epoch,
        "format": args.format,
        "opponents": [result.as_dict() for result in results],
        "decisions": policy.decisions,
        "decisions_per_s": policy.decisions / policy.busy_s if policy.busy_s else 0.0,
        "unknown_words": dict(policy.view.vocabulary.unknown_counts.most_common()),
    }
    print(json.dumps(report) if args.json else as_table(report))
    return 0


async def _play(args: argparse.Namespace, policy: Any, teams: list[str], websocket_url: str) -> list[Any]:
    from gemma_metamon.showdown.evaluate import play_match
    from gemma_metamon.showdown.players import PolicyPlayer

    results = []
    for opponent in args.opponents:
        print(f"playing {args.battles} battles against {opponent}", file=sys.stderr)
        results.append(
            await play_match(
                functools.partial(PolicyPlayer, policy),
                opponent,
                args.battles,
                battle_format=args.format,
                teams=teams,
                websocket_url=websocket_url,
                seed=args.seed,
                concurrency=args.concurrency,
            )
        )
    return results


def as_table(report: dict[str, Any]) -> str:
    lines = [f"{'opponent':24} {'battles':>7} {'wins':>5} {'losses':>6} {'ties':>5} {'win rate':>9}  95 % interval"]
    for row in report["opponents"]:
        low, high = row["interval_95"]
        lines.append(
            f"{row['opponent']:24} {row['battles']:7} {row['wins']:5} {row['losses']:6} {row['ties']:5} "
            f"{row['win_rate']:9.1%}  {low:.1%} to {high:.1%}"
        )
    lines.append(f"{report['decisions']} decisions, {report['decisions_per_s']:.0f} per second of the policy's time")
    if report["unknown_words"]:
        lines.append(f"words that the agent does not know, and how often it met them: {report['unknown_words']}")
    return "\n".join(lines)
