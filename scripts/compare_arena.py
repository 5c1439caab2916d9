"""Whether battles in the arena go as battles on a server do: `python scripts/compare_arena.py --battles 1000`.

A player meets an opponent so many times each way, with the same teams. Prints both win rates, the 95 % interval of the
difference (arena less server, of two independent shares), mean turns, and how much memory the process took for the
arena's battles. Ends with 1 where the interval leaves what --within allows.
"""

import argparse
import asyncio
import json
import math
import resource
import sys

from gemma_metamon.showdown.matches.evaluate import evaluate
from gemma_metamon.showdown.matches.tallies import Tally
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.server import running_server
from gemma_metamon.showdown.simulator.teams import load_teams


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="gen1ou")
    parser.add_argument("--player", default="SimpleHeuristicsPlayer", help="(default: %(default)s)")
    parser.add_argument("--opponent", default="MaxBasePowerPlayer", help="(default: %(default)s)")
    parser.add_argument("--battles", type=int, default=1000, help="each way (default: %(default)s)")
    parser.add_argument("--within", type=float, default=0.05, help="of 0, as a share (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    before = peak_mb()
    arena = play(args, None)
    memory = peak_mb() - before
    with running_server() as server:
        on_server = play(args, server.websocket_url)
    low, high = difference(arena, on_server)
    for name, tally in (("arena", arena), ("server", on_server)):
        print(f"{name:8}{tally.wins}/{tally.battles} won, {tally.turns / tally.battles:.1f} turns")
    print(f"difference {low:+.1%} to {high:+.1%}; {memory:.0f} MB more for {arena.battles} battles in the arena")
    print(json.dumps({"arena": arena.win_rate, "server": on_server.win_rate, "low": low, "high": high, "mb": memory}))
    return int(not -args.within <= low <= high <= args.within)


def play(args: argparse.Namespace, websocket_url: str | None) -> Tally:
    pair = (scripted(args.player), scripted(args.opponent))
    evaluation = asyncio.run(
        evaluate(
            [pair],
            args.battles,
            battle_format=args.format,
            teams=load_teams(args.format),
            websocket_url=websocket_url,
            seed=args.seed,
            concurrency=32,
        )
    )
    return evaluation.pairs[0].players


def difference(first: Tally, second: Tally) -> tuple[float, float]:
    gap = first.win_rate - second.win_rate
    error = 1.96 * math.sqrt(sum(t.win_rate * (1 - t.win_rate) / t.battles for t in (first, second)))
    return gap - error, gap + error


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
