"""Commands that are counted, and exports that are compared: what ends or fails is told as it is."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.processes import eventually

from gemma_metamon.release import exports

SLEEPS = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"


@pytest.mark.skipif(os.name == "nt", reason="there a process cannot be asked to end")
def test_who_ends_what_counts_a_command_ends_the_command(tmp_path: Path) -> None:
    written = tmp_path / "pid"
    command = [sys.executable, "-m", "gemma_metamon.release.measured", str(tmp_path / "peak.json")]
    with subprocess.Popen([*command, sys.executable, "-c", SLEEPS, str(written)]) as counting:
        eventually(lambda: written.is_file() and written.read_text())
        counting.terminate()
        counting.wait(120)
    with pytest.raises(ProcessLookupError):
        os.kill(int(written.read_text()), 0)


def test_a_fault_within_an_export_is_not_taken_for_a_form_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> float:
        return {}["layer_types"]  # type: ignore[no-any-return]

    monkeypatch.setattr(exports, "_checks", lambda _: {"merged": fails})
    contents: Any = None
    with pytest.raises(KeyError, match="layer_types"):
        exports.check_export("merged", contents)
    assert exports.check_export("gguf", contents).found == "this model is exported as merged"
