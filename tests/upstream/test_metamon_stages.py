"""Critics alone and fine-tuning inside metamon and amago as they are installed; see test_metamon."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.metamon_runs import (  # the fixtures are asked for by name
    TIMEOUT_S,
    TREE,
    env,  # noqa: F401
    policy_file,
    pytestmark,  # noqa: F401
    run_program,
    save_dir,  # noqa: F401
    tiny_path,
    train_flags,
    trained,  # noqa: F401
)

from gemma_metamon.commands import main
from gemma_metamon.configs.files import find_config
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.upstream import interchange

WARMUP = str(find_config("binary_rl_critic_warmup.gin", "training").resolve())
SINCE_160 = pytest.mark.skipif(TREE.amago < "3.3", reason="amago 3.1 and metamon 1.5 have no such thing")


@SINCE_160
def test_critics_alone_leave_the_policy_bitwise_as_it_is(env: dict[str, str], tmp_path: Path) -> None:  # noqa: F811
    flags = [*train_flags(tmp_path, tiny_path()), "--train_gin_config", WARMUP]
    done = run_program("train", tmp_path / "warmup", env, flags=flags, steps_per_epoch=4)
    assert done["changed"] == ["critics", "maximized_critics", "popart", "target_actor", "target_critics"]
    assert {actor for actor, _ in done["losses"]} == {0.0}


@SINCE_160
def test_metamons_fine_tuning_takes_a_run_of_ours_and_gives_one_that_acts_here(
    trained: dict[str, object],  # noqa: F811
    env: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    start = Path(str(trained["save_dir"]))
    command = ["metamon-finetune", "--run_dir", str(start / "run"), "--run_name", "run", "--save_dir", str(tmp_path)]
    command += ["--dataset_config", str(start / "dataset.yaml"), "--epochs", "1", "--steps_per_epoch", "3"]
    command += ["--batch_size_per_gpu", "2", "--ckpt_interval", "1", "--dloader_workers", "0"]
    command += ["--async_env_mp_context", "fork", "--eval_gens"]
    program = [sys.executable, "-m", "gemma_metamon", *command]
    done = subprocess.run(program, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    path = policy_file(tmp_path, 0)
    assert any(key.startswith("_tortoise_") for key in interchange.read_policy(path))
    assert main(["import", "--from", "amago", str(path), "--save_dir", str(tmp_path), "--run_name", "back"]) == 0
    agent, _ = load_agent(Checkpoint.find(tmp_path / "back"), "cpu")
    assert type(agent).__name__ == "MetamonFinetuneAgent"
