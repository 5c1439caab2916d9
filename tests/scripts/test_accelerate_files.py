"""scripts/accelerate: accelerate itself reads each file, and the one for the processor trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import SCRIPTS
from support.small_agent import train_command

FILES = sorted((SCRIPTS / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_knows_every_setting(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    read = load_config_from_file(str(file))
    assert read.use_cpu == (file.stem == "cpu")
    assert (read.num_machines > 1) == (file.stem == "many_nodes")
    assert (read.num_processes > 1) == file.stem.startswith("many")
    assert str(read.distributed_type.value) == ("MULTI_GPU" if read.num_processes > 1 else "NO")


@pytest.mark.slow
def test_the_one_for_the_processor_trains(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(SCRIPTS / "accelerate/cpu.yaml")]
    done = subprocess.run(
        [*launch, "-m", "gemma_metamon", *train_command(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "training in 1 process on cpu" in done.stderr
