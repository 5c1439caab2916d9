"""Node.js, which the simulator is written for."""

import shutil

import pytest

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
