"""scripts/bench_data.py: every side gives the same batches, and the result is a table and one line of JSON."""

import json
import subprocess
import sys

import pytest
from support.paths import SCRIPTS

SCRIPT = SCRIPTS / "bench_data.py"


@pytest.mark.slow
def test_it_prints_a_table_and_one_line_of_json() -> None:
    few = ["--battles", "6", "--shard_battles", "2", "--batches", "2", "--batch_size", "4", "--turns", "1"]
    lines = subprocess.run(
        [sys.executable, str(SCRIPT), *few], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert lines[0] == "| | timesteps per second | times raw |"
    result = json.loads(lines[-1])
    assert (result["battles"], result["shards"]) == (12, 6)
    assert {"store_vs_raw", "store_cold_vs_raw", "kept_vs_raw"} <= set(result)
