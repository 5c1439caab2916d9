"""gemma_metamon/cluster/connecting.py: a Ray that a command has begun ends with it, whatever ends the command."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.processes import descendants, eventually, is_running


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_command_with_a_ray_of_its_own_ends_by_sigterm_in_a_word_and_leaves_nothing_running(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install 'gemma-metamon[ray]'")
    command = [sys.executable, "-m", "gemma_metamon", "collect", "--format", "gen1ou", "--players", "RandomPlayer"]
    command += ["--battles", "5000", "--workers", "1", "--ray", "local", "--out", str(tmp_path / "out")]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:

        def has_collected() -> bool:
            assert process.poll() is None, log.read_text()[-2000:]
            return bool(list((tmp_path / "out").rglob("*.json.lz4")))

        eventually(has_collected, 600)
        helpers = descendants(process.pid)
        assert helpers
        process.terminate()
        assert process.wait(120) == 128 + signal.SIGTERM
        said = log.read_text()
        assert said.splitlines()[-1] == "gemma-metamon collect: ended by SIGTERM"
        assert "*** SIGTERM" not in said
        eventually(lambda: not any(map(is_running, helpers)), 60)
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler], ids=str)
def test_what_sigterm_did_before_ray_it_does_after(handler: Any) -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install 'gemma-metamon[ray]'")
    from gemma_metamon.cluster.connecting import connected

    signal.signal(signal.SIGTERM, handler)
    with connected("local", workers=1):
        assert signal.getsignal(signal.SIGTERM) == handler
    assert signal.getsignal(signal.SIGTERM) == handler
