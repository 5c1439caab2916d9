"""The example trains an agent of another package, and counts its battles."""

import re
import subprocess
import sys

import pytest
from support.paths import ROOT

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_maskable_ppo_trains_and_its_battles_are_counted() -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "train_maskable_ppo.py")]
    done = subprocess.run([*command, "--steps", "1", "--battles", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counted = r"(before|after): \d of 2 battles won against RandomPlayer \(\d+% to \d+%\)"
    assert [line for line in done.stdout.splitlines() if re.fullmatch(counted, line)] == done.stdout.splitlines()
    assert len(done.stdout.splitlines()) == 2
