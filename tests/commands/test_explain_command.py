"""`gemma-metamon explain`, and `evaluate --watch`: the pages they write, and bad input in one sentence."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.commands import main


def test_explain_writes_a_page_and_prints_what_it_shows(
    trained: Path,
    battle_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explain", str(battle_file), "--run_dir", str(trained), "--json"]) == 0
    assert "run@1 was trained on gen1ou alone, and this is gen9ou" in caplog.text
    shown = json.loads(capsys.readouterr().out)
    page = Path(shown["page"])
    assert "gen9ou-0355040679" in page.name
    assert page.is_file()
    assert len(shown["decisions"]) == len(load_battle(battle_file).states) - 1
    for decision in shown["decisions"]:
        assert sum(option["probability"] for option in decision["options"]) == pytest.approx(1.0, abs=1e-5)
    assert main(["explain", str(battle_file), "--run_dir", str(trained), "--out", "deep/page.html"]) == 0
    assert f"{len(shown['decisions'])} decisions" in capsys.readouterr().out
    assert (tmp_path / "deep" / "page.html").read_bytes() == page.read_bytes()


def test_a_run_is_named_as_it_is_where_it_plays(
    trained: Path, battle_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def shown(*arguments: str) -> dict[str, Any]:
        out = str(tmp_path / "page.html")
        assert main(["explain", str(battle_file), "--out", out, "--json", "--run_dir", *arguments]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    assert shown(f"{trained}@0") == shown(str(trained), "--ckpt", "0")
    cooled = shown(f"{trained}@1@T0.5", "--ckpt", "0", "--temperature", "2")
    assert cooled["agent"] == "run@1"
    assert cooled == shown(f"{trained}", "--temperature", "0.5")
    assert cooled["decisions"] != shown(f"{trained}@1")["decisions"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--temperature", "0"], "--temperature 0.0; it must be above 0"),
        (["--out", "."], "--out . is a folder"),
        (["--ckpt", "9"], "has no checkpoint 9; it has 0, 1"),
        (["--run_dir", "nowhere"], "nowhere: no such folder"),
        (["--run_dir", "nowhere@2"], "nowhere: no such folder"),
        (["--run_dir", "ensemble(nowhere, there)"], "'ensemble(nowhere, there)' is an ensemble; name one run"),
        (["--out", "/dev/null/page.html"], "--out /dev/null cannot be made (File exists); name another folder"),
    ],
)
def test_bad_input_to_explain_gets_one_sentence(
    arguments: list[str], complaint: str, trained: Path, battle_file: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["explain", str(battle_file), "--run_dir", str(trained), *arguments]) == 1
    assert complaint in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.server
def test_evaluate_lets_one_watch(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["evaluate", "--opponents", "RandomPlayer", "--battles", "1", "--watch", str(tmp_path), "--json"]
    assert main([*command, "--run_dir", str(trained)]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["battles"] == 1
    deadline = time.monotonic() + 60
    while not (pages := list(tmp_path.glob("battle-gen1ou-*.html"))):  # written aside
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(pages) == 1
    (tmp_path / "file").write_text("")
    assert main([*command, "--run_dir", str(trained), "--watch", str(tmp_path / "file")]) == 1
    assert "file cannot be made (File exists); name another folder" in capsys.readouterr().err
    assert main([*command, "--players", "MaxBasePowerPlayer"]) == 1
    assert "--watch shows what a checkpoint thinks" in capsys.readouterr().err


def test_no_probabilities_are_shown_of_who_draws_nothing(
    trained: Path, battle_file: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["explain", str(battle_file), "--run_dir", f"{trained}@T0"]) == 1
    assert "at temperature 0 no probabilities are left to show; leave @T0 out" in capsys.readouterr().err


def test_a_battle_that_is_not_there_is_named(trained: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "nowhere.json.lz4", "--run_dir", str(trained)]) == 1
    assert "no battle file nowhere.json.lz4" in capsys.readouterr().err
