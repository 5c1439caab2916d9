"""The model that generation 1 is looked ahead in goes on as the simulator does."""

import json
import math
import subprocess
from importlib import resources

import pytest
from support.paths import ROOT

from gemma_metamon.showdown.simulator.installation import ensure_installed, find_node
from gemma_metamon.showdown.simulator.teams import load_teams

pytestmark = pytest.mark.server


def test_the_model_goes_on_as_the_simulator_does() -> None:
    """HP, who is left and who has a status, on average after four turns: within 4.5 standard errors, or 0.1."""
    with resources.as_file(resources.files("gemma_metamon.showdown.arena") / "assets") as assets:
        done = subprocess.run(
            [find_node(), str(ROOT / "tests" / "support" / "gen1_model.js"), str(assets)],
            input=json.dumps(load_teams("gen1ou")),
            cwd=ensure_installed(),
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    found = json.loads(done.stdout)
    assert found["choices"] > 40
    assert found["alike"] >= 0.97 * found["choices"]
    assert len(found["positions"]) >= 5
    for simulator, model in found["positions"]:
        for (mean, error), (modelled, model_error) in zip(simulator, model, strict=True):
            assert abs(mean - modelled) <= max(0.1, 4.5 * math.hypot(error, model_error)), (simulator, model)
