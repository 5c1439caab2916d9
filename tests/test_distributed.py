"""Two processes train one agent: each its own half of the battles, one set of weights, one checkpoint."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_agent import train_command

from gemma_metamon.training import checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("training", ["binary_rl.gin", "il.gin"])
def test_two_processes_share_an_update(tmp_path: Path, training: str) -> None:
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "gemma_metamon"]
    command = [*launch, *train_command(tmp_path, training=training)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("trained to epoch 1 (2 updates)") == 1
    meta = checkpoints.read_meta(checkpoints.checkpoint_folder(tmp_path / "run", 1))
    assert (meta.updates, meta.draws) == (2, 8)  # 2 updates of 2 battles in each of 2 processes
