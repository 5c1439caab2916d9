"""Kills `gemma-metamon train` at random moments, starts it again each time, and looks whether it is the same run.

    python scripts/kill_train.py                            # 30 kills of one process
    python scripts/kill_train.py --kills 2 --processes 2    # of two, which torch.distributed.run has started

Two trainings have the same command. One is left alone, the other is killed: by turns SIGKILL goes to the process that
trains alone, which leaves the processes that read battles behind, SIGKILL to all of its processes, and SIGTERM, at
which it saves and ends by itself. Of five kills one comes in the middle of a save, one while an old checkpoint is
removed (by a disk that takes its time over it), one while it starts, the others a random while after a random update.
Each start is the same command, with --resume auto. At last the run is left alone, and has to be bit for bit the one
that was never killed: weights, optimizer, random states, metrics, which checkpoints stay, and what `last` and `best`
name. Prints a line for each kill, then one JSON object; the exit status is 1 where anything differs. Linux only.
"""

import argparse
import contextlib
import functools
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from tiny_agent import OVERRIDES

from gemma_metamon import atomic_files
from gemma_metamon.commands import main as gemma_metamon
from gemma_metamon.runs.checkpoints import CHECKPOINTS, TRAINING, WEIGHTS, Checkpoint, list_all
from gemma_metamon.runs.keeping import BEST, LAST
from gemma_metamon.runs.run_folder import METRICS

importlib.import_module("gemma_metamon.training.trainer")  # loaded once, here: what is forked off has it

BATTLES_HERE = Path(__file__).resolve().parents[1] / "tests" / "goldens" / "battles"
RUN = "run"
MOMENTS = ("while it starts", "between saves", "in a save", "between saves", "as an old one goes")
REMOVING_S = 1.0
"""How long a slow disk takes to remove each file of a checkpoint: here it takes less time than it takes to look."""
MET = {"half written": "in a save", "half removed": "as an old one goes"}
IN_PROCESS = "--in_process"
TIMED = ("timesteps_per_s",)
"""What is measured by a clock, and no two trainings have alike."""


class Training:
    """A process that trains, or a launcher with several; all of them are in a session of their own.

    With `removing_s` each file of a checkpoint that is removed takes so many seconds.
    """

    def __init__(self, command: list[str], log: Path, processes: int, removing_s: float = 0.0) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if processes > 1:
            launcher = [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc_per_node",
                str(processes),
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
            with log.open("ab") as said:
                self._process = subprocess.Popen(
                    [*launcher, __file__, IN_PROCESS, str(removing_s), *command],
                    stdout=said,
                    stderr=said,
                    env=environment,
                    start_new_session=True,
                )
            self.pid = self._process.pid
            return
        self.pid = os.fork()
        if self.pid == 0:
            _become(command, log, removing_s)

    def status(self, *, wait: bool = False) -> int | None:
        """The exit status, negative after a signal, None while it runs."""
        if self._process is not None:
            return self._process.wait() if wait else self._process.poll()
        pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def everybody(self) -> list[psutil.Process]:
        """The process itself first."""
        own = psutil.Process(self.pid)
        return [own, *own.children(recursive=True)]


def _train(command: list[str], removing_s: float) -> int:
    """`gemma-metamon`, whose old checkpoints go file by file."""
    rmtree = shutil.rmtree

    def remove(folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            time.sleep(removing_s)
            path.unlink()
        rmtree(folder)

    if removing_s:
        atomic_files.shutil = SimpleNamespace(rmtree=remove)  # type: ignore[attr-defined]  # all that it has of shutil
    return gemma_metamon(command)


def _become(command: list[str], log: Path, removing_s: float) -> None:
    """Never returns: this process is `gemma-metamon` now."""
    status = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        status = _train(command, removing_s)
    except BaseException:  # noqa: BLE001 this is no end of Python's own, which would say it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def train_command(save_dir: Path, args: argparse.Namespace) -> list[str]:
    command = ["train", "--run_name", RUN, "--save_dir", str(save_dir), "--parsed_replay_dir", str(BATTLES_HERE)]
    command += ["--model_gin_config", "gemma_tiny_multitaskagent.gin", "--train_gin_config", "binary_rl.gin"]
    command += ["--formats", "gen1ou", "gen9ou", "--batch_size_per_gpu", "2", "--holdout_share", "0.2"]
    command += ["--epochs", str(args.epochs), "--steps_per_epoch", str(args.steps_per_epoch)]
    command += ["--save_every", str(args.save_every), "--log_interval", "2", "--dloader_workers", "1"]
    command += ["--resume", "auto", "--keep_last", "1", "--keep_best", "agreement"]
    overrides = [*OVERRIDES, "MetamonAMAGOExperiment.max_seq_len = 12", "TformerTrajEncoder.dropout_ff = 0.5"]
    return command + [text for override in overrides for text in ("--gin_override", override)]


def updates_made(run_dir: Path) -> int:
    """The last update that metrics.jsonl has."""
    path = run_dir / METRICS
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return max((json.loads(line)["update"] for line in lines), default=-1)


def under_way(run_dir: Path) -> tuple[str, str]:
    """The name of what is half written now, and of what is half removed; "" for nothing."""
    folder = run_dir / CHECKPOINTS
    newest = [_place(one.folder.name) for one in list_all(run_dir)[-1:]]  # first: one that is written may be whole soon
    names = [path.name for path in folder.glob(".epoch_*.part")] if folder.exists() else []
    old = [name for name in names if [_place(name)] <= newest]
    return next((name for name in names if name not in old), ""), next(iter(old), "")


def _place(name: str) -> list[int]:
    """Epoch, and update, of a checkpoint's folder, or of what is becoming or was one."""
    return [int(number) for number in re.findall("[0-9]+", name)]


def kill_and_go_on(command: list[str], run_dir: Path, log: Path, args: argparse.Namespace) -> Iterator[str]:
    """Runs the command to its end with so many kills before. Yields a line for each, raises where it does not go on."""
    dice, updates = random.Random(args.seed), args.epochs * args.steps_per_epoch
    for number in range(args.kills):
        before = _begun(run_dir)
        moment = MOMENTS[(number + (2 if args.kills < len(MOMENTS) else 0)) % len(MOMENTS)]  # few begin with a save
        removing_s = REMOVING_S if moment == "as an old one goes" else 0.0
        training, started = Training(command, log, args.processes, removing_s), time.monotonic()
        seconds = dice.uniform(0, 5.0 if moment == "while it starts" else 0.3)
        if moment != "while it starts":
            _wait(training, lambda: _begun(run_dir) != before, log, 0.01)  # noqa: B023 within this round
            # towards the end of the run it is killed in its last save
            update = min(updates_made(run_dir) + dice.randint(1, 5), updates - args.save_every - 1)
            _wait(training, functools.partial(_has_made, run_dir, update), log, 0.01)
        if moment == "in a save":
            _wait(training, lambda: under_way(run_dir)[0], log, 0.0005)
        elif moment == "as an old one goes":
            _wait(training, lambda: under_way(run_dir)[1], log, 0.01)
        time.sleep(0 if moment == "in a save" else seconds)
        half_written, half_removed = under_way(run_dir)
        at, how = updates_made(run_dir), _kill(training, number)
        status = training.status(wait=True)
        met = f"{half_written} half written" if half_written and moment == "in a save" else moment
        met = f"{half_removed} half removed" if half_removed and moment == "as an old one goes" else met
        yield (
            f"kill {number + 1:2}  after {time.monotonic() - started:5.1f} s  at update {at:3}  {how:19}"
            f"  status {status:4}  {met}"
        )
    if Training(command, log, args.processes).status(wait=True) != 0:
        raise SystemExit(f"at the end it does not go on:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")


def _begun(run_dir: Path) -> int:
    """Changes when a training has taken the folder, and cut off the metrics of what it will do again."""
    path = run_dir / "config.gin"
    return path.stat().st_mtime_ns if path.exists() else 0


def _kill(training: Training, number: int) -> str:
    everybody = training.everybody()
    if number % 3 == 1:
        everybody[0].send_signal(signal.SIGTERM)
        return "SIGTERM"
    alone = number % 2 == 0 and len(everybody) > 1
    # of several that train, one is killed; the launcher then ends the others
    victims = everybody[:1] if training._process is None else everybody[1:2]
    for process in victims if alone else everybody:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return "SIGKILL to one of it" if alone else "SIGKILL to all"


def _has_made(run_dir: Path, update: int) -> bool:
    return updates_made(run_dir) >= update


def _wait(training: Training, has_come: Callable[[], object], log: Path, look_every_s: float) -> None:
    while not has_come():
        status = training.status()
        if status is not None:
            said = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise SystemExit(
                f"it ended with {status} before it was killed; for more kills give more --steps_per_epoch:\n{said}"
            )
        time.sleep(look_every_s)


def differences(alone: Path, killed: Path) -> Iterator[str]:
    """What of the run that was killed is not as in the one that was left alone."""
    checkpoints = [[one.folder.name for one in list_all(run_dir)] for run_dir in (alone, killed)]
    if checkpoints[0] != checkpoints[1]:
        yield f"checkpoints are {checkpoints[1]}, and not {checkpoints[0]}"
        return
    for one in list_all(alone):
        for name in (WEIGHTS, TRAINING):
            ours, theirs = (Checkpoint(run_dir, one.epoch, one.update).folder / name for run_dir in (alone, killed))
            if ours.read_bytes() != theirs.read_bytes():
                yield f"{theirs} differs"
        metas = [
            {**vars(Checkpoint(run_dir, one.epoch, one.update).read_meta()), "settings": None}
            for run_dir in (alone, killed)
        ]
        if metas[0] != metas[1]:
            yield f"the description of {one.folder.name} differs"
    lines = [_metrics(run_dir) for run_dir in (alone, killed)]
    if lines[0] != lines[1]:
        yield f"{METRICS} differs: {len(lines[1])} lines, and {len(lines[0])} of the other"
    for name in (LAST, BEST):
        named = [(run_dir / CHECKPOINTS / name).read_text(encoding="utf-8") for run_dir in (alone, killed)]
        if named[0] != named[1]:
            yield f"{name} names {named[1]}"
    yield from (f"{path} is left over" for suffix in ("part", "old") for path in killed.rglob(f".*.{suffix}"))


def _metrics(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / METRICS).read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMED} for line in lines]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="that train together (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--steps_per_epoch", type=int, default=60, help="(default: %(default)s)")
    parser.add_argument("--save_every", type=int, default=4, help="updates (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for all of it, new (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        alone, killed, log = folder / "alone", folder / "killed", folder / "log"
        started = time.monotonic()
        if Training(train_command(alone, args), log, args.processes).status(wait=True) != 0:
            raise SystemExit(f"left alone it fails:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
        kinds: Counter[str] = Counter()
        for line in kill_and_go_on(train_command(killed, args), killed / RUN, log, args):
            print(line, flush=True)
            met = line.rpartition("  ")[2]
            kinds[MET.get(met.partition(" ")[2], met)] += 1
        found = list(differences(alone / RUN, killed / RUN))
        lines = len(_metrics(killed / RUN))
    print("\n".join(found))
    print(
        json.dumps(
            {
                "kills": kinds.total(),
                **kinds,
                "processes": args.processes,
                "updates": args.epochs * args.steps_per_epoch,
                "lines of metrics": lines,
                "seconds": round(time.monotonic() - started),
                "differences": len(found),
            }
        )
    )
    return 1 if found else 0


if __name__ == "__main__":
    in_process = sys.argv[1:2] == [IN_PROCESS]  # torch.distributed.run has started it
    sys.exit(_train(sys.argv[3:], float(sys.argv[2])) if in_process else main())
