"""Resident memory of an arena over many battles: of its Node workers, and of this process.

    python scripts/arena_memory.py --battles 10000 --workers 2

Random players, who choose from the requests as in bench_arena.py; the formats alternate, fifty battles of each at a
time. A row is printed as soon as so many battles have been played. At the end: how much each has grown over the second
half of them; what grows with every battle played grows there as it did before.
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
    print("growth over the second half: " + ", ".join(f"{each:+.0f} MB" for each in grown))
    if args.json:
        print(json.dumps({"battles": rows, "grown_mb": grown}))


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
