"""scripts/tune_trainer.py: real battles, two a row."""

import json
import sys
from pathlib import Path

import pytest
import tune_trainer
from support.node import needs_node

from gemma_metamon.showdown.players.registry import PLAYERS


@pytest.mark.server
@needs_node
def test_rows_are_played_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (tune_trainer.FIRST, tune_trainer.TUNED):  # taken out again after the test
        monkeypatch.setitem(PLAYERS, name, tune_trainer.DuelTrainer)
    argv = ["tune_trainer.py", "--out", str(tmp_path), "--battles", "2", "--names", "setup_stages"]
    monkeypatch.setattr(sys, "argv", argv)
    tune_trainer.main()
    table = capsys.readouterr().out
    rows = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    assert [len(json.loads(line)["wins"]) for line in rows.splitlines()] == [2, 2]
    assert {line.split("  ")[0].strip() for line in table.splitlines()} == {"as it is", "setup_stages = 4"}

    monkeypatch.setattr(tune_trainer, "play", None)  # what is known needs no battle
    tune_trainer.main()
    assert capsys.readouterr().out == table
