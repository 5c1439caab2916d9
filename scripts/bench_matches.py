"""Recorded battles a second in the arena, against the same on a server: `python scripts/bench_matches.py --rounds 3`.

Both ways play `collect`'s battles of a player against itself and write both views. They take turns, in rounds; the
figures are medians. The server runs through all rounds; an arena begins with each of its rounds, and that counts. The
processors' time is per battle: Python's both ways, Node's of the arena alone. Prints a table; --json ends with one line
of JSON. The agent is that of tiny_agent.py, untrained, and draws its actions.
"""

import argparse
import asyncio
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

from bench_decision import build_policy

from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, learned
from gemma_metamon.showdown.simulator.server import running_server
from gemma_metamon.showdown.simulator.teams import load_teams

AGENT = "tiny agent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="gen1ou")
    parser.add_argument(
        "--players", nargs="+", default=["RandomPlayer", "SimpleHeuristicsPlayer", "DuelTrainer", AGENT], metavar="NAME"
    )
    parser.add_argument("--battles", type=int, default=64, help="of a way in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--in_play", type=int, default=32, help="battles at a time (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="of the arena (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    teams = load_teams(args.format)
    results = {}
    header = f"{'':24}{'server':>9}{'arena':>9}{'times':>7}{'server, Python':>17}{'arena, Python':>16}{'Node':>7}"
    print(f"{args.format}, battles/s and processors' ms per battle\n{header}", flush=True)
    with running_server() as server:
        for name in args.players:
            who = contestant(name, args.in_play)
            rows: dict[str, list[dict[str, float]]] = {"server": [], "arena": []}
            for number in range(args.rounds):
                for way, url in (("server", server.websocket_url), ("arena", None)):
                    rows[way].append(play(who, url, number, teams, args))
            found = {way: {key: statistics.median(row[key] for row in of) for key in of[0]} for way, of in rows.items()}
            results[name] = found
            on_server, arena = found["server"], found["arena"]
            print(
                f"{name:24}{on_server['battles_per_s']:9.2f}{arena['battles_per_s']:9.2f}"
                f"{arena['battles_per_s'] / on_server['battles_per_s']:7.1f}{on_server['python_ms']:17.0f}"
                f"{arena['python_ms']:16.0f}{arena['node_ms']:7.0f}",
                flush=True,
            )
    if args.json:
        print(json.dumps(results))


def contestant(name: str, in_play: int) -> Contestant:
    if name != AGENT:
        return scripted(name)
    alone = build_policy()
    return learned(name, BatchedPolicy(alone.agent, alone.view, max_battles=4 * in_play, sample=True))


def play(who: Contestant, url: str | None, seed: int, teams: list[str], args: argparse.Namespace) -> dict[str, float]:
    python, node, began = time.process_time(), children_s(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        collection = asyncio.run(
            collect(
                [Matchup(player=who, opponent=who, battles=args.battles)],
                battle_format=args.format,
                teams=teams,
                out=Path(folder),
                websocket_url=url,
                workers=args.workers,
                seed=seed,
                concurrency=args.in_play,
            )
        )
    per_battle = 1e3 / collection.battles
    return {
        "battles_per_s": collection.battles / (time.monotonic() - began),
        "python_ms": (time.process_time() - python) * per_battle,
        "node_ms": (children_s() - node) * per_battle,
    }


def children_s() -> float:
    """Processors' seconds of the children that have ended: of the arena's workers."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
