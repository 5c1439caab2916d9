"""scripts/accelerate: accelerate itself reads each file, and the one for the processor trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import SCRIPTS
from support.small_agent import train_command

from gemma_metamon.training.processes import asked_for_shards

FILES = sorted((SCRIPTS / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_knows_every_setting(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    read = load_config_from_file(str(file))
    assert read.use_cpu == (file.stem == "cpu")
    assert (read.num_machines > 1) == (file.stem == "many_nodes")
    assert (read.num_processes > 1) == (file.stem in ("many_gpus", "many_nodes", "fsdp"))
    several = "FSDP" if file.stem == "fsdp" else "MULTI_GPU"
    assert str(read.distributed_type.value) == (several if read.num_processes > 1 else "NO")


def test_the_one_for_shards_is_what_train_takes_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    file = str(SCRIPTS / "accelerate/fsdp.yaml")
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", file, "script.py"]))
    for variable, value in prepare_multi_gpu_env(args).items():
        monkeypatch.setenv(variable, value)
    assert asked_for_shards()


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
