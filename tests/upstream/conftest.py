"""A small agent in AMAGO's layout."""

from pathlib import Path

import pytest
from support.amago_exports import write_run

from gemma_metamon.upstream import interchange


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    """An exported small agent, with its description beside it."""
    return interchange.export_policy(write_run(tmp_path / "run"), tmp_path / "out")
