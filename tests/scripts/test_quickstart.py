"""The quickstart, shortened: it trains, plays beside its controls, and ends with one JSON object."""

import json
import shutil
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


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({}, "there is no node here, on which battles are played; install Node.js 18 or newer"),
        ({"node": "echo 20"}, "there is no npm here"),
        ({"node": "case $2 in parse*) echo 16;; *) echo 16.20.0;; esac", "npm": "true"}, "Node.js 16.20.0 is too old"),
    ],
    ids=["no node", "no npm", "an old node"],
)
def test_a_machine_without_a_simulator_is_told_before_anything_is_installed(
    programs: dict[str, str], said: str, tmp_path: Path
) -> None:
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    shell = shutil.which("bash")
    command = [str(shell), str(SCRIPTS / "quickstart.sh")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"quickstart: {said}")
