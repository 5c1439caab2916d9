"""Recorded battles a second on a Ray cluster, beside one process and several: `python scripts/bench_ray.py`.

Every way is the command `collect`, of a player against itself, both views written: the same seed, and so the same
battles. "battles/s" is what the command prints: from the first simulator's start, with the start of the players'
processes, to the last battle. "whole s" is the command from beginning to end, with Python's start and Ray's.

one process     --workers 1
processes       --workers N
ray             --ray local --workers N, or with --address the cluster there

All ways take turns, in rounds; the figures are medians. --json ends with one line of JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="gen1ou")
    parser.add_argument("--player", default="SimpleHeuristicsPlayer", help="a scripted player or a run")
    parser.add_argument("--battles", type=int, default=200, help="of a way in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="of the ways with several (default: %(default)s)")
    parser.add_argument("--address", default="local", help="of a cluster that runs (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    ways = {
        "one process": ["--workers", "1"],
        "processes": ["--workers", str(args.workers)],
        "ray": ["--ray", args.address, "--workers", str(args.workers)],
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    results = set()
    for _ in range(args.rounds):
        for name, flags in ways.items():
            report, whole_s = collect(args, flags)
            results.add(json.dumps(report["results"]))
            found[name].append({"battles_per_s": report["battles_per_s"], "whole_s": whole_s})
    if len(results) > 1:
        sys.exit(f"the ways gave different battles: {results}")
    medians = {
        name: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        for name, rounds in found.items()
    }
    print(f"{args.battles} battles of {args.player} in {args.format}, {args.workers} workers")
    print(f"{'':14}{'battles/s':>10}{'whole s':>10}{'times':>8}")
    for name, figures in medians.items():
        times = figures["battles_per_s"] / medians["one process"]["battles_per_s"]
        print(f"{name:14}{figures['battles_per_s']:10.2f}{figures['whole_s']:10.1f}{times:8.2f}")
    if args.json:
        print(json.dumps(medians))


def collect(args: argparse.Namespace, flags: list[str]) -> tuple[dict[str, Any], float]:
    """What the command reports, and its seconds."""
    command = [sys.executable, "-m", "gemma_metamon", "collect", "--format", args.format, "--players", args.player]
    command += ["--battles", str(args.battles), "--timeout_s", "600", "--json", *flags]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "--out", folder], stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report, time.monotonic() - began


if __name__ == "__main__":
    main()
