"""Evaluation while training: in another process, one at a time, never in training's way."""

import json
import logging
import struct
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from support.node import path_with_node_that
from support.processes import command_line, descendants, eventually, is_running
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.loops import background_evaluation
from gemma_metamon.loops.background_evaluation import EvaluationPlan, Evaluations, find_missed
from gemma_metamon.results.schema import PairRow, TrainingEvaluation, counts_of
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.training.tracking import Tracker

# in place of `gemma-metamon evaluate`, which takes a server and half a minute: a process that prints a result
PLAYS = "import time; time.sleep({seconds}); print({printed!r})"
PRINTED = {
    "format": "gen1ou",
    "seed": 0,
    "seconds": 1.0,
    "battles_per_pair": 1,
    "unfinished": None,
    "contestants": [],
    "pairs": [],
    "decisions": 0,
    "decisions_per_s": 0.0,
    "unknown_words": {},
}
FAILS = "import sys; sys.exit('first line\\nno such server')"


class Plan(EvaluationPlan):
    """Runs a piece of Python as its process."""

    def command(self, run_dir: Path, epoch: int, battle_format: str) -> list[str]:
        code = FAILS if battle_format == "fails" else PLAYS.format(seconds=battle_format, printed=json.dumps(PRINTED))
        return [sys.executable, "-c", code]


def plan(*formats: str, every: int = 1, last_epoch: int = 9) -> Plan:
    return Plan(every=every, last_epoch=last_epoch, formats=formats, opponents=["A"], battles=1, device="cpu")


def checkpoint(epoch: int) -> Checkpoint:
    return Checkpoint(Path("run"), epoch)


class Results(list[tuple[int, str]]):
    """What came in, as `on_result` of Evaluations."""

    def __call__(self, played: TrainingEvaluation) -> None:
        self.append((played.epoch, played.format))


def test_epochs_are_due_by_the_number_and_at_the_end() -> None:
    every_third = plan("0", every=3, last_epoch=8)
    assert [epoch for epoch in range(9) if every_third.is_due(epoch)] == [3, 6, 8]


def test_training_does_not_wait_and_the_end_does() -> None:
    results = Results()
    with Evaluations(Path("run"), plan("0.3", "0"), results) as evaluations:
        started = time.monotonic()
        evaluations.on_checkpoint(checkpoint(1))
        assert time.monotonic() - started < 0.1
        assert results == []
    assert results == [(1, "0.3"), (1, "0")]


def test_the_newest_waiting_checkpoint_takes_the_place_of_an_older_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    results = Results()
    with Evaluations(Path("run"), plan("0.5"), results) as evaluations:
        evaluations.on_checkpoint(checkpoint(1))
        time.sleep(0.2)
        evaluations.on_checkpoint(checkpoint(2))
        evaluations.on_checkpoint(checkpoint(3))
        assert evaluations.in_use() == [1, 3]
    assert evaluations.in_use() == []
    assert results == [(1, "0.5"), (3, "0.5")]
    assert "epoch 2 is not evaluated: epoch 3 is newer" in caplog.text
    assert "waiting for the evaluation of epoch 1 and 3" in caplog.text


def test_what_an_earlier_stop_has_left_comes_first_and_is_not_passed_over() -> None:
    results = Results()
    evaluations = Evaluations(Path("run"), plan("0.2", "0"), results, {2: ("0",), 4: ("0.2", "0")})
    assert evaluations.in_use() == [2, 4]
    with evaluations:
        evaluations.on_checkpoint(checkpoint(5))
    assert results == [(2, "0"), (4, "0.2"), (4, "0"), (5, "0.2"), (5, "0")]


def test_missed_is_what_is_due_and_there_from_the_newest_that_was_played(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "evaluations.jsonl"
    both = ("gen1ou", "gen9ou")
    every_second = plan(*both, every=2, last_epoch=9)
    assert find_missed(tmp_path, every_second) == {}
    for name in ("0", "2", "4", "5", "8", "8_update_90", "9"):
        (tmp_path / "ckpts" / f"epoch_{name}").mkdir(parents=True)
    assert find_missed(tmp_path, every_second) == {2: both, 4: both, 8: both, 9: both}

    def played(epoch: int, battle_format: str) -> str:
        row = TrainingEvaluation(epoch=epoch, format=battle_format, seconds=1.0, pairs=[])
        return json.dumps(asdict(row)) + "\n"

    # 2 was passed over; stopped between the formats of 4, and in a line of 8
    path.write_text(played(4, "gen1ou") + played(8, "gen1ou")[:-9])
    assert find_missed(tmp_path, every_second) == {4: ("gen9ou",), 8: both, 9: both}
    path.write_text("".join(played(9, one) for one in both))
    assert find_missed(tmp_path, every_second) == {}
    path.write_text('{"epoch": "nine"}\n')
    assert find_missed(tmp_path, every_second) == {}
    assert "what a stop has left unplayed is not known: line 1 of" in caplog.text


def test_a_failed_evaluation_is_told_counted_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    results = Results()
    with Evaluations(Path("run"), plan("fails", "0"), results) as evaluations:
        evaluations.on_checkpoint(checkpoint(1))
    assert results == [(1, "0")]
    assert (evaluations.done, evaluations.failed) == (1, 1)
    assert "the evaluation of epoch 1 in fails failed: no such server" in caplog.text
    assert "1 of 2 evaluations failed" in caplog.text


def test_an_interrupt_ends_the_evaluation_at_once() -> None:
    results = Results()
    started = time.monotonic()
    evaluations = Evaluations(Path("run"), plan("60", "60"), results)

    def train() -> None:
        with evaluations:
            evaluations.on_checkpoint(checkpoint(1))
            time.sleep(0.5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert time.monotonic() - started < 10
    assert results == []
    assert evaluations.failed == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--eval_gens", "1", "--eval_opponents", "Nobody"], "'Nobody'"),
        (["--eval_gens", "2"], "gen2ou"),
        (["--eval_gens", "1", "--eval_device", "gameboy"], "device 'gameboy' cannot be used"),
        (["--eval_gens", "1", "--eval_every", "0"], "--eval_every 0; it must be at least 1"),
        (["--eval_gens", "1", "--eval_battles", "0"], "--eval_battles 0; it must be at least 1"),
    ],
)
def test_an_evaluation_that_could_only_fail_is_refused_before_training(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path, *arguments)) == 1
    assert complaint in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="/proc, and a script in the place of Node.js")
@pytest.mark.long
def test_a_training_run_is_evaluated_on_the_real_simulator_whatever_is_killed_or_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    command = train_command(tmp_path, "--resume", "auto", "--eval_gens", "1", "--eval_opponents", "RandomPlayer")

    # killed in the evaluation of the last epoch: the processes of that end, too
    long = [*command, "--epochs", "1", "--eval_battles", "5000"]
    with subprocess.Popen([sys.executable, "-m", "gemma_metamon", *long], stderr=subprocess.DEVNULL) as training:
        try:
            eventually(lambda: any("worker.js" in command_line(pid) for pid in descendants(training.pid)))
            started = descendants(training.pid)
        finally:
            training.kill()
    eventually(lambda: not any(map(is_running, started)))
    path = tmp_path / "run" / "evaluations.jsonl"
    assert not path.exists()

    # gone on with, to its end
    command += ["--epochs", "2", "--eval_battles", "2", "--eval_every", "2"]
    assert main(command) == 0
    (line,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert (line["epoch"], line["format"]) == (2, "gen1ou")
    (pair,) = line["pairs"]
    assert (pair["opponent"], pair["battles"]) == ("RandomPlayer", 2)
    # training had ended before the result came
    assert caplog.text.index("epoch_2") < caplog.text.index("epoch 2 wins")
    assert "waiting for the evaluation of epoch 2" in caplog.text
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "Battles won in gen1ou" in (tmp_path / "run" / "report.html").read_text()

    # trained already, and its evaluations were cut off; a stand-in plays them
    path.unlink()
    command[-1] = "1"
    stand_in = [sys.executable, "-c", PLAYS.format(seconds=0, printed=json.dumps(PRINTED))]
    with monkeypatch.context() as patched:
        patched.setattr(EvaluationPlan, "command", lambda *_: stand_in)
        for _ in range(2):  # the second time nothing is left
            capsys.readouterr()
            assert main(command) == 0
            assert "trained to epoch 2 already" in capsys.readouterr().out
            assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]
    assert caplog.text.count("not evaluated yet when the run was stopped, and now: epoch 1, 2") == 1

    # a simulator that dies, in an evaluation more of the same run; nobody trains beside it
    monkeypatch.setattr(background_evaluation, "NICENESS", 0)
    monkeypatch.setenv("PATH", path_with_node_that("kill -9 $$", "worker.js", tmp_path))
    results = Results()
    dies = EvaluationPlan(
        every=1, last_epoch=2, formats=["gen1ou"], opponents=["RandomPlayer"], battles=1, device="cpu"
    )
    with Evaluations(tmp_path / "run", dies, results) as evaluations:
        evaluations.on_checkpoint(Checkpoint(tmp_path / "run", 2))
    assert (evaluations.failed, results) == (1, [])
    said = "gemma-metamon evaluate: the simulator does not run here: its process was ended by signal 9"
    assert f"the evaluation of epoch 2 in gen1ou failed: {said}" in caplog.text


def test_wandb_gets_the_epoch_beside_each_win_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'gemma-metamon[wandb]'")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with Tracker(tmp_path, "run", {}, wandb=True) as tracker:
        tracker.log(20, {"loss/total": 1.5})
        for epoch, wins in ((1, 1), (2, 2)):  # both after the update that is logged last
            counts = counts_of(wins=wins, losses=4 - wins, ties=0, turns=0, choices=0, refused=0)
            pair = PairRow(player="run@1", opponent="RandomPlayer", **vars(counts))
            tracker.log_evaluation(TrainingEvaluation(epoch=epoch, format="gen1ou", seconds=1.0, pairs=[pair]))
    deadline = time.monotonic() + 30  # wandb's own process writes the file, and is not done when finish() is
    while len(history := wandb_history(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
    rates = [record for record in history if "evaluation/gen1ou/RandomPlayer" in record]
    assert [(record["epoch"], record["evaluation/gen1ou/RandomPlayer"]) for record in rates] == [(1, 0.25), (2, 0.5)]


def wandb_history(run_dir: Path) -> list[dict[str, Any]]:
    """What wandb has written for its server: records in LevelDB's log format (blocks of 32 KiB) after 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    data, at, history = path.read_bytes(), 7, []
    while at + 7 <= len(data):
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if at + 7 + length > len(data):
            break  # half written
        assert kind == 1, "a record in several parts; this test writes none so long"
        record = Record()
        record.ParseFromString(data[at + 7 : at + 7 + length])
        if record.WhichOneof("record_type") == "history":
            history.append(
                {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            )
        at += 7 + length
    return history
