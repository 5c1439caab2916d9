"""What runs elsewhere is what runs here: workflows and hooks are well formed and call what is there."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps_of(workflow: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    return [step for job in content["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_scripts_that_are_there(workflow: Path) -> None:
    commands = "\n".join(step["run"] for step in steps_of(workflow) if "run" in step)
    scripts = re.findall(r"scripts/(\w+\.(?:sh|py))", commands)
    assert scripts
    assert all((ROOT / "scripts" / name).is_file() for name in scripts)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_write_nothing(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}


def test_the_oldest_python_of_the_matrix_is_the_oldest_that_installs() -> None:
    tested = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    versions = tested["jobs"]["fast"]["strategy"]["matrix"]["python"]
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={versions[0]}"' in pyproject


def test_hooks_and_templates_and_the_citation_are_well_formed() -> None:
    own, others = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert all({"id", "name", "entry", "language"} <= set(hook) for hook in own["hooks"])
    assert [hook["id"] for hook in others["hooks"]] == [
        "end-of-file-fixer",
        "check-merge-conflict",
        "check-added-large-files",
    ]
    for name in ("bug", "idea"):
        template = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(template)
        assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in template["body"])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = re.search(r'__version__ = "(.+)"', (ROOT / "gemma_metamon" / "__init__.py").read_text(encoding="utf-8"))
    assert version is not None
    assert citation["version"] == version[1]


@pytest.mark.parametrize("on_github", [True, False])
def test_a_lock_that_cannot_be_had_fails_on_github_and_nowhere_else(on_github: bool, tmp_path: Path) -> None:
    """With a Python that says its version, and installs only what is not locked."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/environment.sh", tmp_path / "scripts")
    (tmp_path / "scripts/constraints.txt").write_text("# Made of Python 3.11.7; extras: dev\n")
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / ".venv/bin/python"
    python.write_text(
        '#!/bin/sh\ncase "$*" in *--constraint*) exit 1;; -c*) echo 3.11.;; *) echo "$*" >>installs;; esac\n'
    )
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "locked": "1", **({"GITHUB_ACTIONS": "true"} if on_github else {})}
    command = ["bash", "-c", f"source {tmp_path}/scripts/environment.sh dev; echo ready"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "not everything is to be had in the versions of scripts/constraints.txt" in done.stderr
    assert (done.returncode, "ready" in done.stdout) == ((1, False) if on_github else (0, True))
    assert (tmp_path / "installs").exists() != on_github
