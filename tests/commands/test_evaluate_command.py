"""`gemma-metamon evaluate`: who meets whom, the table of it, and what is said of input that cannot work."""

import json
from pathlib import Path

import pytest
from support.evaluating import command_fails

from gemma_metamon.commands import main


@pytest.mark.server
@pytest.mark.slow
def test_checkpoints_meet_each_other_and_scripted_players(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["evaluate", "--run_dir", f"{trained}@0", f"{trained}@1", "--opponents", "RandomPlayer", "--round_robin"]
    out = tmp_path / "league"
    assert main([*command, "--sample", "--battles", "2", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["kind"]) for row in report["contestants"]] == [
        ("run@0", "checkpoint"),
        ("run@1", "checkpoint"),
        ("RandomPlayer", "scripted"),
    ]
    assert [(row["player"], row["opponent"]) for row in report["pairs"]] == [
        ("run@0", "run@1"),
        ("run@0", "RandomPlayer"),
        ("run@1", "RandomPlayer"),
    ]
    assert all(row["rating"] for row in report["contestants"])
    assert report["decisions"] > 0
    assert report["decisions_per_s"] > 0
    assert report["unknown_words"] == {}
    assert "run@0" in (out / "report.html").read_text()
    assert "holds an evaluation already" in command_fails([*command[1:], "--out", str(out)], capsys)


@pytest.mark.slow
@pytest.mark.server
def test_the_table_has_a_row_for_each_pair(capsys: pytest.CaptureFixture) -> None:
    command = ["evaluate", "--players", "MaxBasePowerPlayer", "--opponents", "RandomPlayer", "NoSwitchRandomPlayer"]
    assert main([*command, "--battles", "2"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["player", "opponent", "battles", "wins"]
    assert [row.split()[:3] for row in rows] == [
        ["MaxBasePowerPlayer", "RandomPlayer", "2"],
        ["MaxBasePowerPlayer", "NoSwitchRandomPlayer", "2"],
    ]
    assert all("100.00%" in row for row in rows)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--opponents", "RandmPlayer"], "did you mean RandomPlayer?"),
        (["--format", "gen5ou"], "no team for format 'gen5ou'"),
        (["--ckpt", "9"], "has no checkpoint 9; it has 0, 1"),
        (["--battles", "0"], "must be at least 1"),
        (["--device", "gameboy"], "device 'gameboy' cannot be used"),
        (["--run_dir", "nowhere"], "nor is 'nowhere' the folder of a run"),
        (["--run_dir", "runs/nowhere"], "runs/nowhere: no such folder"),
        (["--opponents", "user:Bot"], "user:Bot must be on a server that runs already; name it with --server"),
        (["--accept"], "--accept is for battles against user:NAME"),
        (
            ["--opponents", "user:A", "--server", "ws://x", "--accept"],
            "--accept without --username NAME: user:A must know",
        ),
        (["user:Bot"], "user:Bot can only be an opponent"),
        (["--opponents", "user:A", "user:B", "--server", "ws://x", "--username", "Us"], "--username Us is one name"),
        (["--opponents", "user:A", "--server", "ws://x", "--round_robin"], "user:A cannot take part in a round robin"),
        (["--temperature", "0"], "--temperature 0.0; it must be above 0"),
        (["--temperature", "nan"], "--temperature nan; it must be above 0"),
        (["--round_robin"], "a round robin needs two players or more"),
        (["RandomPlayer"], "RandomPlayer would meet itself"),
        (["--server", "localhost:8000"], "--server localhost:8000; give its address, as ws://"),
        (["--out", __file__], "test_evaluate_command.py cannot be made (File exists); name another folder"),
        (["--server", "ws://127.0.0.1:1/showdown/websocket"], "cannot connect to ws://127.0.0.1:1/showdown/websocket"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], complaint: str, trained: Path, capsys: pytest.CaptureFixture
) -> None:
    assert complaint in command_fails(["--run_dir", str(trained), *arguments], capsys)
