"""The quickstart, shortened: it trains, plays beside its controls, and ends with one JSON object."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import SCRIPTS

SCRIPT = SCRIPTS / "quickstart.py"


@pytest.mark.slow
@pytest.mark.server
def test_the_quickstart_keeps_everything_in_one_folder_and_ends_with_its_report(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--updates", "3", "--battles", "2", "--save_dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert list(report) == [
        "win_rate",
        "win_rate_maxbasepower",
        "untrained_maxbasepower",
        "noswitch_maxbasepower",
        "agreement",
        "agreement_blank_text",
        "agreement_majority",
        "battles",
        "updates",
        "train_seconds",
        "total_seconds",
    ]
    assert (report["battles"], report["updates"]) == (2, 3)
    assert all(0 <= report[name] <= 1 for name in list(report)[:7])
    (run_dir,) = tmp_path.iterdir()
    assert json.loads((run_dir / "report.json").read_text()) == report
    names = {".lock", "ckpts", "config.gin", "metrics.jsonl", "report.json"}
    assert {path.name for path in run_dir.iterdir()} == names
