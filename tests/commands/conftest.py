"""A small trained run for all tests of a file."""

from pathlib import Path

import pytest
from support.small_agent import train_command

from gemma_metamon.commands import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_dir = tmp_path_factory.mktemp("runs")
    assert main(train_command(save_dir, "--formats", "gen1ou")) == 0
    return save_dir / "run"
