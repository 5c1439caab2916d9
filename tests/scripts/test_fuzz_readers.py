"""scripts/fuzz_readers.py: no harmed file ends a reader in a traceback, hangs it or brings in a number that is none.

Nor does any take more memory than a bound, and whoever takes it is found.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import SCRIPTS

SCRIPT = SCRIPTS / "fuzz_readers.py"


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=900)


@pytest.mark.slow
@pytest.mark.parametrize(
    "reader",
    ["battle", "store", "checkpoint", "policy", "vocabulary", "gin", "team", "server", "manifest", "service", "chat"],
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


GREEDY = f"""
import mmap
import sys
import tempfile

sys.path.insert(0, {str(SCRIPTS)!r})
import fuzz_readers
import numpy as np
import torch
from gemma_metamon.errors import DataError

MIB = 2**20


class GreedyReader:
    def __init__(self, folder):
        self.number = -1

    def harm(self, rng):
        self.number += 1

    def read(self):
        match self.number:
            case 0 | 2 | 4 | 6:
                np.ones(20 * MIB // 8)
            case 1:
                np.ones(100 * MIB // 8)
            case 3:
                torch.ones(100 * MIB // 4)
            case 5:
                try:
                    bytearray(100 * MIB)
                except MemoryError as error:
                    raise DataError("it is damaged") from error
            case 7:  # which is no data of the process's own
                with tempfile.TemporaryFile() as file:
                    file.truncate(400 * MIB)
                    np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8).sum()
        yield 1.0


fuzz_readers.READERS["greedy"] = GreedyReader
if __name__ == "__main__":
    sys.exit(fuzz_readers.main())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux alone")
def test_an_input_that_takes_more_memory_than_the_bound_is_found(tmp_path: Path) -> None:
    script = tmp_path / "greedy.py"
    script.write_text(GREEDY)
    command = [sys.executable, str(script), "--readers", "greedy", "--count", "8", "--memory", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 1, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])["readers"]["greedy"]
    assert {name: count for name, count in counts.items() if count} == {"accepted": 4, "memory": 4}, done.stderr
