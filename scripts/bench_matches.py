"""Recorded battles a second in the arena and on a server: `python scripts/bench_matches.py --before WORKTREE`.

Every way is the command `collect`, of a player against itself, both views written; the figure is the battles a second
that it prints, without its start. All ways take turns, in rounds; the figures are medians. The server is one for all.

server   on the server: this command, or with --before that of another worktree (`git worktree add WORKTREE COMMIT`)
arena    this command as it is by default

A second table says where the processors' time of the arena goes, in one process of Python and one of Node: Node's, the
policy's thread, and the rest of Python. "tiny agent" is gemma_tiny_entity.gin after one update, drawing its actions;
--agent names another run. --json ends with one line of JSON.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_for_play
from gemma_metamon.showdown.matches.collect import Matchup, collect
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, learned
from gemma_metamon.showdown.simulator.server import running_server
from gemma_metamon.showdown.simulator.teams import load_teams

HERE = Path(__file__).resolve().parent.parent
AGENT = "tiny agent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="gen1ou")
    parser.add_argument(
        "--players", nargs="+", default=["RandomPlayer", "SimpleHeuristicsPlayer", "DuelTrainer", AGENT], metavar="NAME"
    )
    parser.add_argument("--battles", type=int, default=200, help="of a way in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--in_play", type=int, default=32, help="battles at a time (default: %(default)s)")
    parser.add_argument("--before", type=Path, metavar="WORKTREE", help="of the commit to compare with")
    parser.add_argument("--agent", type=Path, metavar="RUN", help="plays as the tiny agent")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    with running_server() as server, tempfile.TemporaryDirectory() as folder:
        run = args.agent or trained(Path(folder))
        on_server = ["--server", server.websocket_url]
        ways = {"server": (args.before or HERE, on_server), "arena": (HERE, [])}
        results = {name: compare(str(run) if name == AGENT else name, ways, args) for name in args.players}
        print(f"{args.format}, battles/s{'':8}   server    arena    times")
        for name, found in results.items():
            times = found["arena"] / found["server"]
            print(f"{name:26}{found['server']:9.2f}{found['arena']:9.2f}{times:9.1f}", flush=True)
        print("\nprocessors' ms of a battle in the arena\n" + " " * 26 + "     Node   policy  rest of Python")
        for name in args.players:
            results[name]["ms"] = share = where_time_goes(name, run, args)
            print(f"{name:26}{share['node']:9.1f}{share['policy']:9.1f}{share['python']:16.1f}", flush=True)
    if args.json:
        print(json.dumps(results))


def command(worktree: Path, *words: str) -> str:
    """What a command of the package, as it is in that worktree, prints."""
    environment = {**os.environ, "PYTHONPATH": str(worktree.resolve())}
    done = subprocess.run(
        [sys.executable, "-m", "gemma_metamon", *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} failed in {worktree}:\n{done.stderr}")
    return done.stdout


def trained(folder: Path) -> Path:
    """A run of one update on the bundled battles, which every version of the package can play."""
    words = "--model_gin_config gemma_tiny_entity.gin --train_gin_config quick.gin --epochs 1 --steps_per_epoch 1"
    battles = ["--parsed_replay_dir", str(HERE / "tests" / "goldens" / "battles"), "--formats", "gen1ou"]
    command(HERE, "train", "--run_name", "agent", "--save_dir", str(folder), *battles, *words.split())
    return folder / "agent"


def compare(name: str, ways: Mapping[str, tuple[Path, list[str]]], args: argparse.Namespace) -> dict[str, Any]:
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(args.rounds):
        for way, (worktree, flags) in ways.items():
            with tempfile.TemporaryDirectory() as out:
                words = f"collect --format {args.format} --battles {args.battles} --concurrency {args.in_play} --json"
                printed = command(
                    worktree, *words.split(), "--players", name, "--seed", str(number), "--out", out, *flags
                )
            rates[way].append(json.loads(printed)["battles_per_s"])
    return {way: statistics.median(of) for way, of in rates.items()}


def where_time_goes(name: str, run: Path, args: argparse.Namespace) -> dict[str, float]:
    who, policy_s = contestant(name, run, args.in_play)
    python, node, policy = time.process_time(), children_s(), policy_s()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(
            collect(
                [Matchup(player=who, opponent=who, battles=args.battles)],
                battle_format=args.format,
                teams=load_teams(args.format),
                out=Path(folder),
                concurrency=args.in_play,
            )
        )
    decided = policy_s() - policy
    spent = {"node": children_s() - node, "policy": decided, "python": time.process_time() - python - decided}
    return {part: 1e3 * seconds / args.battles for part, seconds in spent.items()}


def contestant(name: str, run: Path, in_play: int) -> tuple[Contestant, Any]:
    """And what says for how many seconds its policy's thread has computed."""
    if name != AGENT:
        return scripted(name), lambda: 0.0
    playable = load_for_play(Checkpoint.find(run))
    policy = BatchedPolicy(playable.agent, playable.view, max_battles=4 * in_play, sample=True)
    return learned(name, policy), lambda: policy.busy_s


def children_s() -> float:
    """Processors' seconds of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
