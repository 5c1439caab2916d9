"""One small run for all tests of serving."""

import importlib.util
from pathlib import Path

import pytest
from support.small_agent import train_command

if importlib.util.find_spec("fastapi") is None:
    collect_ignore_glob = ["test_*.py"]  # without the extra `serve`


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gemma_metamon.commands import main

    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    return folder / "run"
