"""A password or token that a training is given stands in nothing that it leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_agent import train_command

SECRETS = {
    "WANDB_API_KEY": "5ec4e7" + "0123456789abcdef" * 2 + "ab",
    "HF_TOKEN": "hf_" + "Sec4e7" * 6,
    "SHOWDOWN_PASSWORD": "correct horse battery staple",
    "OPENAI_API_KEY": "sk-proj-" + "s3cr3t" * 5,
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI" + "K7MDENGbPxRfiCYEXAMPLEKEY",
}


def holding(folder: Path) -> list[str]:
    """Every file that holds one of them, also compressed by wandb's own writer, which compresses nothing."""
    values = [value.encode() for value in SECRETS.values()]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(value in path.read_bytes() for value in values)]


@pytest.mark.slow
def test_a_training_with_wandb_offline_leaves_no_secret_behind(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs the extra: pip install 'gemma-metamon[wandb]'")
    variables = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
    wandb_folders = {name: str(tmp_path / "wandb" / name) for name in variables}
    for folder in wandb_folders.values():
        Path(folder).mkdir(parents=True)
    environment = os.environ | SECRETS | wandb_folders | {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "gemma_metamon", "--debug", *train_command(tmp_path / "runs", "--log")]
    assert not any(value in argument for argument in command for value in SECRETS.values())
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.rglob("*.wandb")), done.stderr[-2000:]
    assert holding(tmp_path) == []
    assert not any(value in done.stdout + done.stderr for value in SECRETS.values())
    from gemma_metamon.release.contents import find_contents
    from gemma_metamon.release.secrets import find_secrets

    known = {name: value.encode() for name, value in SECRETS.items()}
    files = find_contents("agent", tmp_path / "runs" / "run").files.values()
    assert [find_secrets(path, known) for path in files] == [[] for _ in files]


def test_a_secret_that_were_left_behind_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(f"token {SECRETS['HF_TOKEN']}")
    assert holding(tmp_path) == [str(tmp_path / "a.log")]
