"""scripts/audit.sh: what was not looked at is not taken for sound. Services that tell of faults are stood in for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.paths import SCRIPTS

pytestmark = pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="a shell script")
# as pip-audit 2.10.1 and npm 10 end
UNKNOWN = (
    "No known vulnerabilities found\nalembic  Dependency not found on PyPI and could not be audited: alembic (1.20.1)"
)
UNREACHED = "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='pypi.org', port=443): Max retries exceeded"
REFUSED = "npm warn audit 405 Method Not Allowed\nnpm error audit endpoint returned an error"
FOUND = "Found 1 known vulnerability in 1 package\nurllib3 1.0 GHSA-0000-0000-0000 2.0"


@pytest.mark.parametrize(
    ("pip_audit", "npm", "status", "said"),
    [
        ((0, "No known vulnerabilities found"), (0, "found 0 vulnerabilities"), 0, "found 0 vulnerabilities"),
        ((0, UNKNOWN), (0, "found 0 vulnerabilities"), 2, "not looked at: 1 of the packages"),
        ((1, UNREACHED), (0, "found 0 vulnerabilities"), 2, "not looked at: its service did not answer"),
        ((0, "No known vulnerabilities found"), (1, REFUSED), 2, "not looked at: its service did not answer"),
        ((1, FOUND), (1, REFUSED), 1, "GHSA-0000-0000-0000"),
        ((0, UNKNOWN), (1, "GHSA-0000-0000-0000"), 1, "not looked at: 1 of the packages"),
    ],
)
def test_status_and_words_tell_what_was_looked_at(
    pip_audit: tuple[int, str], npm: tuple[int, str], status: int, said: str, tmp_path: Path
) -> None:
    for name, (code, words) in (("pip-audit", pip_audit), ("npm", npm)):
        (tmp_path / f"{name}.txt").write_text(words + "\n")
        (tmp_path / name).write_text(f'#!/bin/sh\ncat "{tmp_path}/{name}.txt"\nexit {code}\n')
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(SCRIPTS / "audit.sh")],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    assert said in done.stdout
