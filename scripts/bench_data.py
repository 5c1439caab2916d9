"""Timesteps per second of training batches: a prepared store against the folder of battle files it was made of.

    python scripts/bench_data.py                        # the bundled battles; on a busy machine --threads 1

One loader, its work in this process. The same draws from every side, in turns; the batches must be equal, bit for bit.

    raw         battle files, each read and encoded when it is drawn: a folder with more battles than memory keeps (the
                dataset keeps 5,000). The files are in the page cache: a disk that is slow is not measured.
    store       the store, with its shards mapped; also in the page cache.
    store_cold  a store of thousands of shards, where nearly every draw maps another: here, one is mapped at a time.
    kept        battle files, all of them read before and kept in memory: a small folder. Not the folder's speed, but
                the most that a store could reach.

A ratio is the median over the turns. Timesteps are real ones, without padding. Prints a table, then one line of JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.data.dataset import BattleDataset, Battles, WindowNumbers, collate
from gemma_metamon.data.encoding import SetAside
from gemma_metamon.data.preparing import prepare
from gemma_metamon.data.store import BattleStore
from gemma_metamon.nets.batch import Batch, padded_timesteps
from gemma_metamon.view import BattleView

SIDES = ("raw", "store", "store_cold", "kept")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parsed_replay_dir", type=Path, help="battle files (default: the bundled)")
    parser.add_argument("--formats", nargs="+", default=["gen1ou", "gen9ou"])
    parser.add_argument("--battles", type=int, default=1000, help="of each format, at most (default: %(default)s)")
    parser.add_argument("--shard_battles", type=int, default=64, help="battles in a shard (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=12, help="battles in a batch (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=10, help="of each side in a turn (default: %(default)s)")
    parser.add_argument("--max_seq_len", type=int, default=128, help="decisions in a window (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=9, help="how often each side is timed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = Bench(args, Path(folder)).measure()
    if not args.json:
        print_table(result)
    print(json.dumps(result))


class Bench:
    """A folder of battle files, the store made of it, and a dataset for each side."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        view = BattleView.default()
        for name in args.formats:
            (folder / "raw" / name).mkdir(parents=True)
            root = args.parsed_replay_dir or sample_battles.extract(name)
            for path in find_battles(root, [name])[: args.battles]:
                (folder / "raw" / name / path.name).symlink_to(path.absolute())
        files = find_battles(folder / "raw", args.formats)
        started = time.perf_counter()
        self.prepared = prepare(
            folder / "raw",
            args.formats,
            view,
            folder / "store",
            set_aside=SetAside(1.0),
            workers=os.cpu_count() or 1,
            shard_battles=args.shard_battles,
            progress=True,
        )
        self.prepare_s = time.perf_counter() - started
        self.raw_bytes = sum(path.stat().st_size for path in files)

        def dataset(battles: Battles, cached_battles: int) -> BattleDataset:
            return BattleDataset(
                [battles], [1.0], view, max_seq_len=args.max_seq_len, cached_battles=cached_battles, max_set_aside=1.0
            )

        def stored(**mapped: int) -> Battles:
            return BattleStore(folder / "store", **mapped).battles(sorted(args.formats))

        self.datasets = {
            "raw": dataset(sorted(files), 0),
            "store": dataset(stored(), 0),
            "store_cold": dataset(stored(mapped_shards=1), 0),
            "kept": dataset(sorted(files), len(files)),
        }
        self.datasets["kept"].preload()

    def measure(self) -> dict[str, Any]:
        expected = self.read("raw", 0)[0]
        for side in SIDES:
            require_equal(self.read(side, 0)[0], expected, side)
        turns = [{side: self.read(side, turn)[1] for side in SIDES} for turn in range(1, self.args.turns + 1)]
        ratios = {
            f"{side}_vs_raw": round(statistics.median(turn[side] / turn["raw"] for turn in turns), 1)
            for side in SIDES[1:]
        }
        return {
            **ratios,
            "lowest_store_vs_raw": round(min(turn["store"] / turn["raw"] for turn in turns), 1),
            "timesteps_per_s": {side: round(statistics.median(turn[side] for turn in turns)) for side in SIDES},
            "prepare_battles_per_s": round(self.prepared.battles / self.prepare_s, 1),
            "battles": self.prepared.battles,
            "shards": self.prepared.shards,
            "raw_mb": round(self.raw_bytes / 1e6, 1),
            "store_mb": round(self.prepared.size_bytes / 1e6, 1),
            **{name: getattr(self.args, name) for name in ("batch_size", "batches", "max_seq_len", "turns", "threads")},
        }

    def read(self, side: str, turn: int) -> tuple[list[Batch], float]:
        """The batches of a turn, and timesteps per second."""
        draws = self.args.batches * self.args.batch_size
        loader: DataLoader = DataLoader(
            self.datasets[side],
            batch_size=self.args.batch_size,
            sampler=WindowNumbers(turn * draws, (turn + 1) * draws),
            collate_fn=collate,
        )
        started = time.perf_counter()
        batches = list(loader)
        seconds = time.perf_counter() - started
        return batches, sum(int((~padded_timesteps(batch.rl2s)).sum()) for batch in batches) / seconds


def require_equal(ours: list[Batch], expected: list[Batch], side: str) -> None:
    for a, b in zip(ours, expected, strict=True):
        same = all(torch.equal(a.obs[key], b.obs[key]) for key in b.obs)
        others = zip(a[1:], b[1:], strict=True)  # labels may be None
        if not same or not all(x is y if x is None or y is None else torch.equal(x, y) for x, y in others):
            raise SystemExit(f"bench_data: {side} and raw give different batches for the same draws")


def print_table(result: dict[str, Any]) -> None:
    print("| | timesteps per second | times raw |\n|---|---|---|")
    for side in SIDES:
        print(f"| {side} | {result['timesteps_per_s'][side]:,} | {result.get(f'{side}_vs_raw', 1)} |")
    print(
        f"\n{result['battles']} battles, {result['raw_mb']} MB of files, {result['store_mb']} MB of store in "
        f"{result['shards']} shards, prepared at {result['prepare_battles_per_s']} battles per second; "
        f"store vs raw was at least {result['lowest_store_vs_raw']} in {result['turns']} turns\n"
    )


if __name__ == "__main__":
    main()
