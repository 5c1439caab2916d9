"""scripts/fuzz_gin.py, its short form: every wrong gin text is refused in one sentence, and none hangs."""

import json
import subprocess
import sys

import pytest
from support.paths import SCRIPTS

SCRIPT = SCRIPTS / "fuzz_gin.py"


@pytest.mark.slow
def test_500_wrong_gin_texts_are_accepted_or_refused() -> None:
    command = [sys.executable, str(SCRIPT), "--inputs", "500", "--updates", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert set(counts["gin"]) == {"accepted", "refused"}
    assert sum(counts["gin"].values()) == 500
    assert min(counts["gin"].values()) > 50
    assert set(counts["updates"]) <= {"finite", "loss or gradient not finite"}  # training stops at the latter
