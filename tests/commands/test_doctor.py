"""`gemma-metamon doctor`: what is there, what is not, and that looking changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gemma_metamon import extras
from gemma_metamon.checklist import Row, as_text
from gemma_metamon.commands import _surroundings, main
from gemma_metamon.showdown.simulator import installation
from gemma_metamon.user_cache import VARIABLE


def look(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and the rows by their names."""
    status = main(["doctor", "--offline", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["well"] == (status == 0)
    return status, {row["name"]: row for row in found["rows"]}


def test_this_machine_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    installation.ensure_installed()
    status, rows = look(capsys)
    assert status == 0
    for name in ("Python", "torch", "attention", "transformers", "peft", "Node.js", "simulator", "[battle]"):
        assert rows[name]["state"] == "ok", rows[name]
    assert rows["Gemma's weights"]["state"] == "untried"
    assert installation.pinned_version() in rows["simulator"]["found"]


def test_without_node_battles_are_not_played_and_the_row_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    status, rows = look(capsys)
    assert status == 0  # training needs none
    assert rows["Node.js"]["state"] == "absent"
    assert "https://nodejs.org" in rows["Node.js"]["found"]
    assert "simulator" not in rows


def test_a_simulator_that_is_not_there_yet_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    status, rows = look(capsys)
    assert (status, rows["simulator"]["state"]) == (0, "absent")
    assert not (tmp_path / "cache").exists()


def test_a_simulator_in_pieces_is_wrong_and_the_row_names_the_folder_to_delete(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    package = installation.package_folder()
    package.mkdir(parents=True)
    status, rows = look(capsys)
    assert (status, rows["simulator"]["state"]) == (1, "wrong")
    assert str(package.parent.parent) in rows["simulator"]["mend"]


def test_an_extra_that_lacks_a_package_is_absent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(extras.EXTRAS, "report", ("jinja2", "no_such_package"))
    _, rows = look(capsys)
    assert rows["[report]"]["found"] == "without no_such_package"
    assert "pip install 'gemma-metamon[report]'" in rows["[report]"]["mend"]


def test_every_extra_says_what_wants_it() -> None:
    assert set(_surroundings.WANTED_FOR) == set(extras.EXTRAS)


def test_a_hub_that_does_not_answer_costs_seconds_and_is_no_fault(tmp_path: Path) -> None:
    here = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "gemma_metamon", "doctor", "--json"]
    done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=120)
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert done.returncode == 0, done.stdout
    assert rows["Gemma's weights"]["state"] == "absent"
    assert "tiny" in rows["Gemma's weights"]["mend"]


def test_a_key_for_wandb_is_not_shown() -> None:
    key = "0123456789abcdef" * 2 + "01234567"
    here = {**os.environ, "WANDB_API_KEY": key}
    command = [sys.executable, "-m", "gemma_metamon", "doctor", "--offline"]
    done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=120)
    assert "with a key" in done.stdout
    assert key not in done.stdout + done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA")
def test_a_gpu_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    _, rows = look(capsys)
    assert rows["GPU"]["state"] == "ok"
    assert "GiB" in rows["GPU"]["found"]


def test_a_mend_stands_below_what_it_mends() -> None:
    assert as_text(Row(name="Node.js", state="ok", found="v22")).splitlines() == ["ok       Node.js            v22"]
    mended = as_text(Row(name="Node.js", state="wrong", found="v12", mend="install 18"))
    assert mended.splitlines()[1].strip() == "-> install 18"
