"""How strong a search is by its number of forks, and what a decision of it costs.

    python scripts/search_table.py --out runs/search                   # goes on where it was stopped
    python scripts/search_table.py --out runs/search --forks 600 --battles 1000 --opponents DuelTrainer
    python scripts/search_table.py --out runs/agent --player "search({run}, forks={forks})" --run runs/first

Battles are played in parts of 50, each with a seed of its own, and a part that is there is not played again: so the
sizes are fixed before anything runs, and it can be stopped at any time. Each part leaves a line in --out/parts.jsonl.

Times of a decision are of the processors, Python's and Node's, both players together; the median is what a decision
took by the clock, among all battles that were played at once. Memory is the most that a process ever had.
"""

import argparse
import asyncio
import json
import os
import resource
from pathlib import Path
from typing import Any

from gemma_metamon.atomic_files import append_whole
from gemma_metamon.commands._players import contestants, find_players
from gemma_metamon.intervals import wilson_interval
from gemma_metamon.showdown.matches.evaluate import evaluate
from gemma_metamon.showdown.simulator.teams import load_teams

PART = 50
LOOKAHEAD = "LookaheadTrainer(forks={forks}, turns={turns})"
SUMS = ("battles", "wins", "ties", "choices", "python_s", "node_s")
TITLE = f"{'player':44}{'opponent':24}{'battles':>8}{'won':>7}  {'95 % interval':16}"
COSTS = f"{'decisions':>10}{'per s':>7}{'Python ms':>11}{'Node ms':>9}{'median ms':>11}{'Python MB':>11}{'Node MB':>9}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder that parts are kept in")
    parser.add_argument("--player", default=LOOKAHEAD, help="with {forks}, {turns} and {run} (default: %(default)s)")
    parser.add_argument("--run", default="", help="what stands for {run}")
    parser.add_argument("--forks", type=int, nargs="+", default=[60, 200, 600, 2000])
    parser.add_argument("--turns", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--opponents", nargs="+", default=["DuelTrainer"], help="(default: %(default)s)")
    parser.add_argument("--format", default="gen1ou", help="(default: %(default)s)")
    parser.add_argument("--battles", type=int, default=200, help="of each pair, in parts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first part (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="simulators (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=16, help="battles at a time (default: %(default)s)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(TITLE + COSTS)
    for forks in args.forks:
        player = args.player.format(forks=forks, turns=args.turns, run=args.run)
        for opponent in args.opponents:
            print(as_row(measured(args, player, opponent)), flush=True)


def measured(args: argparse.Namespace, player: str, opponent: str) -> list[dict[str, Any]]:
    """All parts of a pair; those that are not there yet are played."""
    path = args.out / "parts.jsonl"
    there = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    parts = []
    for number in range(-(-args.battles // PART)):
        n_battles = min(PART, args.battles - PART * number)
        what = {"player": player, "opponent": opponent, "format": args.format, "seed": args.seed + number}
        what["battles"] = n_battles
        part = next((each for each in there if what.items() <= each.items()), None)
        if part is None:
            part = what | play(args, player, opponent, args.seed + number, n_battles)
            append_whole(path, json.dumps(part) + "\n")
        parts.append(part)
    return parts


def play(args: argparse.Namespace, player: str, opponent: str, seed: int, n_battles: int) -> dict[str, Any]:
    teams = load_teams(args.format)
    first, second = contestants(
        find_players([player, opponent]),
        device="cpu",
        sample=False,
        temperature=1.0,
        max_battles=2 * args.concurrency,
        seed=seed,
        teams=teams,
    )
    before = os.times()
    evaluation = asyncio.run(
        evaluate(
            [(first, second)],
            n_battles,
            battle_format=args.format,
            teams=teams,
            workers=args.workers,
            seed=seed,
            concurrency=args.concurrency,
        )
    )
    if evaluation.unfinished is not None:
        raise SystemExit(f"{player} against {opponent}: {evaluation.unfinished}")
    after, tally = os.times(), evaluation.pairs[0].players
    latency = tally.choices.latency
    return {
        "wins": tally.wins,
        "ties": tally.ties,
        "choices": tally.choices.sent,
        "refused": tally.choices.refused,
        "median_ms": None if latency is None else latency.median,
        "python_s": after.user + after.system - before.user - before.system,
        "node_s": after.children_user + after.children_system - before.children_user - before.children_system,
        "python_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "node_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def as_row(parts: list[dict[str, Any]]) -> str:
    sums = {name: sum(part[name] for part in parts) for name in SUMS}
    low, high = wilson_interval(sums["wins"], sums["battles"])
    python_ms, node_ms = (1000 * sums[f"{name}_s"] / sums["choices"] for name in ("python", "node"))
    most = [max(part[name] for part in parts) for name in ("median_ms", "python_mb", "node_mb")]
    return (
        f"{parts[0]['player']:44}{parts[0]['opponent']:24}{sums['battles']:8}{sums['wins'] / sums['battles']:7.1%}  "
        f"{f'{low:.1%} to {high:.1%}':16}{sums['choices']:10}{1000 / (python_ms + node_ms):7.1f}{python_ms:11.1f}"
        f"{node_ms:9.1f}{most[0]:11.1f}{most[1]:11.0f}{most[2]:9.0f}"
    )


if __name__ == "__main__":
    main()
