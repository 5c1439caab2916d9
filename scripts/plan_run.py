"""What a run over many recorded battles takes, from figures measured here: `python scripts/plan_run.py`.

Measured, on the bundled battles of a format: bytes of a battle as a file and in a prepared store, its decisions, the
processor's time to prepare it and to make training batches of it; and on battles that are played, the processor's time
of each (Python, and the simulator in Node). Seconds are of the processor, so that a busy machine tells the same.

Computed from them: the disk, the processor hours to prepare, the loader processes for a GPU, GPU hours, and the
processors that play a million battles a day. What a GPU does in a second is not measured here: give the timesteps a
second that `scripts/bench_update.py --device cuda` has on yours (--gpu_timesteps_per_s).

--json ends with one line of JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torch.utils.data import DataLoader

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.data.dataset import BattleDataset, WindowNumbers, collate
from gemma_metamon.data.encoding import SetAside
from gemma_metamon.data.preparing import prepare
from gemma_metamon.data.store import BattleStore
from gemma_metamon.nets.batch import padded_timesteps
from gemma_metamon.view import BattleView

DAY_S = 86_400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="gen9ou", help="whose bundled battles are measured (default: %(default)s)")
    parser.add_argument("--trajectories", type=int, default=22_000_000, help="to plan for (default: %(default)s)")
    parser.add_argument("--passes", type=float, default=1.0, help="over all decisions (default: %(default)s)")
    parser.add_argument("--max_seq_len", type=int, default=200, help="of training (default: %(default)s)")
    parser.add_argument("--battles_a_day", type=int, default=1_000_000, help="to play (default: %(default)s)")
    parser.add_argument("--player", default="SimpleHeuristicsPlayer", help="who plays them (default: %(default)s)")
    parser.add_argument("--played", type=int, default=100, help="battles to measure with (default: %(default)s)")
    parser.add_argument(
        "--gpu_timesteps_per_s", type=float, nargs="+", default=[1_000.0, 5_000.0, 20_000.0], help="assumed, or yours"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    found = measure_data(args.format, args.max_seq_len) | measure_play(args.format, args.player, args.played)
    n, mib = args.trajectories, 2**20
    decisions = found["decisions"] * n
    print(f"measured, {args.format}")
    print(f"  a battle file                     {found['file_bytes']:12,.0f} bytes")
    print(f"  the battle in a prepared store    {found['store_bytes']:12,.0f} bytes")
    print(f"  its decisions                     {found['decisions']:12,.1f}")
    print(f"  to prepare it                     {1000 * found['prepare_s']:12,.2f} ms of a processor")
    print(f"  batches from the store            {found['loader_per_s']:12,.0f} timesteps a second of a processor")
    print(f"  a battle of {args.player:22}{1000 * found['play_s']:12,.1f} ms of a processor (Python and Node)")
    print(f"  of which the first needs besides  {found['start_s']:12,.1f} s")
    print(f"computed, {n:,} trajectories")
    print(f"  battle files                      {found['file_bytes'] * n / mib / 2**20:12,.2f} TiB")
    print(f"  prepared store                    {found['store_bytes'] * n / mib / 2**20:12,.2f} TiB")
    print(f"  decisions                         {decisions / 1e9:12,.2f} thousand million")
    print(f"  to prepare them                   {found['prepare_s'] * n / 3600:12,.0f} processor hours")
    for rate in args.gpu_timesteps_per_s:
        hours, loaders = args.passes * decisions / rate / 3600, rate / found["loader_per_s"]
        print(
            f"  {args.passes:g} passes at {rate:,.0f} timesteps/s of a GPU (assumed): {hours:,.0f} GPU hours, "
            f"{loaders:.2f} loader processes busy for each GPU"
        )
    processors = args.battles_a_day * found["play_s"] / DAY_S
    print(f"computed, {args.battles_a_day:,} battles a day between {args.player}s")
    print(f"  processors                        {processors:12,.1f}")
    print(f"  battles a second                  {args.battles_a_day / DAY_S:12,.1f}")
    print(f"  files of both views, a day        {2 * args.battles_a_day * found['file_bytes'] / 2**30:12,.1f} GiB")
    if args.json:
        print(json.dumps(found | {"processors": processors}))


def measure_data(battle_format: str, max_seq_len: int) -> dict[str, float]:
    """Of the bundled battles."""
    files = find_battles(sample_battles.extract(battle_format), [battle_format])
    view = BattleView.default()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        before = time.process_time()
        made = prepare(files[0].parent.parent, [battle_format], view, root, set_aside=SetAside(0.05))
        prepare_s = time.process_time() - before
        battles = BattleStore(root).battles([battle_format])
        dataset = BattleDataset([battles], [1.0], view, max_seq_len=max_seq_len, seed=0)
        loader = DataLoader(dataset, batch_size=8, sampler=WindowNumbers(0, 4 * len(battles)), collate_fn=collate)
        timesteps, before = 0, time.process_time()
        for batch in loader:
            timesteps += int((~padded_timesteps(batch.rl2s)).sum())
        loader_s = time.process_time() - before
    return {
        "file_bytes": sum(path.stat().st_size for path in files) / len(files),
        "store_bytes": made.size_bytes / made.battles,
        "decisions": made.timesteps / made.battles,
        "prepare_s": prepare_s / made.battles,
        "loader_per_s": timesteps / loader_s,
    }


def measure_play(battle_format: str, player: str, battles: int) -> dict[str, float]:
    """Of `collect` with one worker: the processor's seconds of a battle, and those that it takes to begin."""
    seconds = {count: _collect(battle_format, player, count) for count in (1, battles)}
    each = (seconds[battles] - seconds[1]) / (battles - 1)
    return {"play_s": each, "start_s": seconds[1] - each}


def _collect(battle_format: str, player: str, battles: int) -> float:
    command = [sys.executable, "-m", "gemma_metamon", "collect", "--format", battle_format, "--players", player]
    command += ["--battles", str(battles), "--workers", "1", "--timeout_s", "600"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, "--out", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
