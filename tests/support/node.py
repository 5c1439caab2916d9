"""Node.js, which the simulator is written for."""

import os
import shutil
from pathlib import Path

import pytest

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")


def path_with_node_that(does: str, script: str, folder: Path) -> str:
    """A PATH whose `node` does this in a shell where it is to run a script of that name, and else what Node.js does."""
    program = folder / "node"
    program.write_text(f'#!/bin/sh\ncase "$*" in *{script}*) {does};; esac\nexec \'{shutil.which("node")}\' "$@"\n')
    program.chmod(0o755)
    return os.pathsep.join([str(folder), os.environ["PATH"]])
