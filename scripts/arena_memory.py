"""Resident memory of an arena over many battles: of its Node workers, and of this process.

    python scripts/arena_memory.py --battles 10000 --workers 2

Random players, who choose from the requests as in bench_arena.py; the formats alternate, fifty battles of each at a
time. A row is printed as soon as so many battles have been played. At the end: how much each has grown over the second
half of them. It is bounded where that is under a tenth of what a worker would hold if it kept those battles; a few
hundred battles say nothing of it, for JavaScript's heap takes as many to find its size.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from bench_arena import draw_battles, play

from gemma_metamon.showdown.arena.arena import Arena

AFTER = (500, 1000, 2000, 5000, 10000)
AT_A_TIME = 50
BATTLE_KB = 190
"""What a worker holds for a battle in play, at its twelfth turn: 400 at a time, gen1ou and gen9ou alike."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battles", type=int, default=AFTER[-1], help="in all (default: %(default)s)")
    parser.add_argument("--formats", nargs="+", default=["gen1ou", "gen9ou"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--in_play", type=int, default=16, help="battles at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    after = sorted({n for n in AFTER if n < args.battles} | {args.battles // 2, args.battles})
    print("battles" + "".join(f"   Node {i}, MB" for i in range(1, args.workers + 1)) + "   Python, MB")

    def show(n_battles: int, megabytes: list[float]) -> None:
        print(f"{n_battles:7}" + "".join(f"{each:13.0f}" for each in megabytes), flush=True)

    rows = measure(args, after, show)
    grown = [last - half for half, last in zip(rows[args.battles // 2], rows[args.battles], strict=True)]
    per_battle_kb = 1024 * sum(grown) / (args.battles - args.battles // 2)
    print(f"growth over the second half: {', '.join(f'{each:+.0f} MB' for each in grown)}")
    verdict = "bounded" if per_battle_kb < BATTLE_KB / 10 else "NOT bounded"
    print(
        f"{verdict}: {per_battle_kb:.1f} kB for each battle of it; one that is kept would hold {BATTLE_KB} kB or more"
    )
    if args.json:
        print(json.dumps({"battles": rows, "grown_mb": grown, "bounded": verdict == "bounded"}))


def measure(
    args: argparse.Namespace, after: list[int], on_row: Callable[[int, list[float]], None]
) -> dict[int, list[float]]:
    """Megabytes of each worker, and at last of this process, after so many battles each."""
    rows: dict[int, list[float]] = {}
    with Arena(args.workers) as arena:
        played = 0
        for target in after:
            while played < target:
                numbers = range(played, min(played + AT_A_TIME, target))
                battle_format = args.formats[played // AT_A_TIME % len(args.formats)]
                play(arena, battle_format, draw_battles(battle_format, numbers, args.seed), args.in_play)
                played = numbers.stop
            rows[target] = [resident_mb(pid) for pid in (*arena.process_ids, os.getpid())]
            on_row(target, rows[target])
    return rows


def resident_mb(pid: int) -> float:
    """Of a process, as Linux counts it."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
