"""scripts/bench_heads.py: the direct formulation gives our losses, a difference ends the script."""

import json
import subprocess
import sys
from typing import Any

import pytest
from support.paths import SCRIPTS

SCRIPT = SCRIPTS / "bench_heads.py"


@pytest.fixture(scope="module")
def heads() -> Any:
    import bench_heads

    return bench_heads.Heads("cpu", small=True)


@pytest.mark.parametrize("estimate", ["", "_exact"])
def test_the_direct_formulation_agrees(heads: Any, estimate: str) -> None:
    differences = heads.compare(f"direct{estimate}", f"ours{estimate}")
    assert set(differences) == {"actor_loss", "critic_loss", "state_gradient"}


def test_a_difference_ends_the_script(heads: Any) -> None:
    with pytest.raises(SystemExit, match="direct_exact and ours differ in actor_loss"):
        heads.compare("direct_exact", "ours")


def test_memory_is_measured_in_mib() -> None:
    """In a process of its own, as the script does: this one's has a history."""
    program = f"""
import sys, torch
from types import SimpleNamespace
sys.path.insert(0, {str(SCRIPT.parent)!r})
from bench_heads import Heads
heads = Heads.__new__(Heads)
heads.agent, heads.state, heads.on_cuda = torch.nn.Linear(1, 1), SimpleNamespace(), False
heads.step = lambda side: torch.ones(50, 2**18).sum()  # 50 MiB
print(heads.peak_mib("ours"))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(50, abs=5)


@pytest.mark.slow
def test_it_prints_a_table_and_one_line_of_json() -> None:
    command = [sys.executable, str(SCRIPT), "--small", "--turns", "1"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines[0] == "| | time | peak memory | seconds | MiB |"
    assert set(json.loads(lines[-1])["ratios"]) == {"direct / ours", "ours_exact / ours"}
