"""scripts/fuzz_readers.py: no harmed file ends a reader in a traceback, hangs it or brings in a number that is none."""

import json
import subprocess
import sys

import pytest
from support.paths import SCRIPTS

SCRIPT = SCRIPTS / "fuzz_readers.py"


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=900)


@pytest.mark.slow
@pytest.mark.parametrize(
    "reader", ["battle", "store", "checkpoint", "policy", "vocabulary", "gin", "team", "server", "manifest", "service"]
)
def test_five_hundred_harmed_files_are_read_or_refused(reader: str) -> None:
    done = fuzz("--readers", reader, "--count", "500", "--limit", "120")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    counts = result["readers"][reader]
    assert counts["accepted"] + counts["refused"] == result["count"] == 500
    assert counts["accepted"] >= 10  # some harm does none, or the others would prove little
    assert counts["refused"] >= 100


def test_an_input_is_the_same_whenever_it_is_made() -> None:
    first, again = (
        fuzz("--readers", "battle", "--first", "40", "--count", "3", "--traceback").stderr for _ in range(2)
    )
    assert first == again
    assert "battle 42: " in first
