"""scripts/win.sh, as far as a test can wait for it."""

import subprocess

import pytest
from support.paths import SCRIPTS


@pytest.mark.parametrize("arguments", [[], ["gen7ou"], ["runs/win"]])
def test_a_format_without_sizes_is_refused_before_anything_is_installed(arguments: list[str]) -> None:
    done = subprocess.run(
        ["bash", SCRIPTS / "win.sh", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: bash scripts/win.sh gen1ou|gen9ou")
