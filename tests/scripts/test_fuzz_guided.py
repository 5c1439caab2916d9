"""scripts/fuzz_guided.py: runs where atheris is installed, and says so where it is not."""

import importlib.util
import subprocess
import sys

from support.paths import SCRIPTS


def test_manifests_stand_guided_fuzzing_or_atheris_is_asked_for() -> None:
    command = [sys.executable, str(SCRIPTS / "fuzz_guided.py"), "manifest", "-runs=300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if importlib.util.find_spec("atheris") is None:
        assert (done.returncode, done.stderr) == (2, "fuzz_guided: needs atheris; pip install atheris\n")
    else:
        assert done.returncode == 0, done.stderr[-3000:]
