"""The SLURM files: bash reads them, their flags are ours, and a requeued job goes on where it stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.paths import ROOT
from support.small_agent import BATTLES, SMALL, TINY

from gemma_metamon.commands import build_parser, main
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint, list_all

FILES = sorted((ROOT / "examples" / "slurm").glob("*.sbatch"))
LAUNCHED = {
    "train": ["--standalone", "--nproc_per_node", "2"],
    "train_nodes": [
        *("--nnodes", "2", "--nproc_per_node", "2"),
        *("--rdzv_id", "7", "--rdzv_backend", "c10d", "--rdzv_endpoint", "node7:29500"),
    ],
}
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="needs bash")
SRUN = f"""#!{sys.executable}
import json, os, pathlib, sys, time
pathlib.Path(os.environ["SEEN"]).write_text(json.dumps(sys.argv[1:]))
time.sleep(float(os.environ.get("LASTS", "0")))
exec(os.environ.get("TRAINS", ""))
"""
# In the place of srun's task and of torchrun's processes. SLURM's USR1 comes to the job's script in the fourth update.
TRAINS = """
import signal
from contextlib import contextmanager
from gemma_metamon.commands import main, train
from gemma_metamon.training.tracking import Tracker
log, noted, asked = Tracker.log, train.signals_noted, []
@contextmanager
def kept():
    with noted() as end_asked:
        asked.append(end_asked)
        yield end_asked
def time_is_nearly_up(tracker, update, metrics):
    log(tracker, update, metrics)
    if update == 4 and not pathlib.Path(os.environ["SEEN"] + ".requeued").exists():
        os.kill(os.getppid(), signal.SIGUSR1)
        while not asked[0]():
            time.sleep(0.01)
Tracker.log, train.signals_noted = time_is_nearly_up, kept
sys.exit(main(sys.argv[sys.argv.index("train"):]))
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'node7\\nnode8\\n'; else echo "$@" > "$SEEN.requeued"; fi
"""


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a job whose srun notes down what it should run."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(content)
        (tools / name).chmod(0o755)
    nodes = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2"}
    own = nodes | {"RUN_NAME": "run", "SAVE_DIR": str(tmp_path / "a folder"), "REPLAYS": "battles", "SLURM_JOB_ID": "7"}
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **own, "SEEN": str(tmp_path / "seen"), "PATH": path, "FORMATS": "gen1ou gen9ou", "GPUS": "2"}


def run(file: Path, job: dict[str, str], *extra: str, **changes: str) -> subprocess.CompletedProcess[str]:
    assert BASH is not None
    command = [BASH, str(file), *extra]
    return subprocess.run(command, env=job | changes, capture_output=True, text=True, timeout=600, check=False)


def seen(job: dict[str, str]) -> list[str]:
    words: list[str] = json.loads(Path(job["SEEN"]).read_text())
    return words


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_bash_reads_it(file: Path) -> None:
    assert BASH is not None
    subprocess.run([BASH, "-n", str(file)], check=True, timeout=60)
    lines = file.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    # what comes after the first command SLURM takes for a comment
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert max(options) < next(number for number, line in enumerate(lines) if line and not line.startswith("#"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_its_command_is_one_that_we_have(file: Path, job: dict[str, str]) -> None:
    extra = ["--gin_override", "MetamonAMAGOExperiment.mixed_precision = 'bf16'"]
    done = run(file, job, *extra)
    assert done.returncode == 0, done.stderr
    launcher, train = seen(job)[: (at := seen(job).index("train"))], seen(job)[at:]
    assert launcher == ["torchrun", *LAUNCHED[file.stem], "-m", "gemma_metamon"]
    args = build_parser().parse_args(train)  # exits for an unknown flag
    assert args.formats == ["gen1ou", "gen9ou"]
    assert (args.ckpt, args.resume, args.save_every) == (None, "auto", "30m")  # a requeued job is the same command
    assert args.gin_override == extra[1:]
    resolve.load(args.model_gin_config, args.train_gin_config, args.gin_override)
    assert {*re.findall(r"--\w+", file.read_text())} >= {"--run_name", "--epochs"}


def test_before_its_time_is_up_a_job_of_several_nodes_requeues_itself(job: dict[str, str]) -> None:
    assert BASH is not None
    file = next(file for file in FILES if file.stem == "train_nodes")  # that of one node is below
    process = subprocess.Popen([BASH, str(file)], env=job | {"LASTS": "50"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 50
    while not (Path(job["SEEN"]).exists() and Path(job["SEEN"]).read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=40) == 0
    assert Path(f"{job['SEEN']}.requeued").read_text() == "requeue 7\n"


@pytest.mark.slow
def test_a_requeued_job_ends_bit_for_bit_as_one_that_had_the_time(job: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install 'gemma-metamon[wandb]'")
    small = [flag for override in SMALL for flag in ("--gin_override", override)]
    small += ["--log_interval", "1", "--dloader_workers", "0", "--holdout_share", "0.2"]
    job |= {"TRAINS": TRAINS, "REPLAYS": str(BATTLES), "MODEL": TINY, "WANDB_MODE": "disabled"}
    job |= {"EPOCHS": "2", "STEPS_PER_EPOCH": "6", "BATCH_SIZE_PER_GPU": "2", "SAVE_EVERY": "600m"}
    job |= {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # as many as here: sums depend on it
    file = next(file for file in FILES if file.stem == "train")
    first = run(file, job, *small)
    assert first.returncode == 0, first.stderr
    assert "the time is nearly up: the training is ended and the job requeued" in first.stdout
    assert Path(f"{job['SEEN']}.requeued").read_text() == "requeue 7\n"
    requeued, whole = Path(job["SAVE_DIR"]) / "run", tmp_path / "whole" / "run"
    assert [one.folder.name for one in list_all(requeued)] == ["epoch_0", "epoch_0_update_4"]
    second = run(file, job, *small)
    assert second.returncode == 0, second.stderr
    assert "going on after update 4 (in epoch 1)" in second.stderr
    command = seen(job)[seen(job).index("train") :]
    command[command.index("--save_dir") + 1] = str(whole.parent)
    command.remove("--log")
    assert main(command) == 0
    assert [one.folder.name for one in list_all(requeued)] == [one.folder.name for one in list_all(whole)]
    for name in (WEIGHTS, TRAINING):
        ours, theirs = (Checkpoint(run_dir, 2).folder / name for run_dir in (requeued, whole))
        assert ours.read_bytes() == theirs.read_bytes()
    updates = [
        [json.loads(line)["update"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        for run_dir in (requeued, whole)
    ]
    assert updates[0] == updates[1]


@pytest.mark.parametrize("missing", ["RUN_NAME", "REPLAYS"])
def test_what_it_must_be_told_is_named(missing: str, job: dict[str, str]) -> None:
    done = run(FILES[0], {name: value for name, value in job.items() if name != missing})
    assert done.returncode != 0
    assert f"{missing}=" in done.stderr
