"""Two processes train one agent: each its own half of the battles, one set of weights, one checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_agent import train_command

from gemma_metamon.training import checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("training", ["binary_rl.gin", "il.gin"])
def test_two_processes_share_an_update(tmp_path: Path, training: str) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    recompute = ["--gin_override", "GemmaTstepEncoder.encoder_chunk_tokens = 600"]
    command = [*launch, "-m", "gemma_metamon", *train_command(tmp_path, *recompute, training=training)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained to epoch 1 (2 updates)") == 1
    meta = checkpoints.read_meta(checkpoints.checkpoint_folder(tmp_path / "run", 1))
    assert (meta.updates, meta.draws) == (2, 8)  # 2 updates of 2 battles in each of 2 processes
