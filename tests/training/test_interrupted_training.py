"""Training that is killed, asked to end or loses a process: whole checkpoints, no orphans, and the same run."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError

import psutil
import pytest
import torch
from safetensors.torch import load_file
from support.paths import SCRIPTS
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.data.dataset import BattleDataset
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.nets.batch import Batch
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint, list_all, list_checkpoints
from gemma_metamon.training.readers import failures_in_a_sentence, read_batches
from gemma_metamon.training.tracking import Tracker

DROPOUT = ["--gin_override", "TformerTrajEncoder.dropout_ff = 0.5", "--log_interval", "1"]


def start(command: list[str]) -> "subprocess.Popen[str]":
    """As from a terminal: tests may run where Ctrl-C is ignored."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from gemma_metamon.commands import main
sys.exit(main(sys.argv[1:]))
"""


def wait_until(true: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def weights(run_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(Checkpoint(run_dir, epoch).folder / WEIGHTS)
    return loaded


def updates(run_dir: Path) -> list[int]:
    *whole, _ = (run_dir / "metrics.jsonl").read_text().split("\n")  # the last may be half written
    metrics = [json.loads(line) for line in whole]
    return [line["update"] for line in metrics if "loss/total" in line]


def test_an_end_that_comes_in_a_destructor_is_not_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    class AsksForTheEnd:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)  # what is raised in a destructor, Python only prints

    def log(self: Tracker, update: int, metrics: Mapping[str, float]) -> None:
        if update == 3:
            AsksForTheEnd()

    monkeypatch.setattr(Tracker, "log", log)
    assert main(train_command(tmp_path, "--steps_per_epoch", "9", "--log_interval", "1")) == 128 + signal.SIGTERM
    assert "epoch 1/1:  33%" in capsys.readouterr().err
    assert "the run is saved up to update 3 (in epoch 1): the same command with --resume auto goes on" in caplog.text
    assert [one.folder.name for one in list_all(tmp_path / "run")] == ["epoch_0", "epoch_0_update_3"]
    assert "had not begun" not in caplog.text
    # and one that comes before an update is made is not taken for a save
    monkeypatch.setattr(BattleDataset, "preload", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    assert main(train_command(tmp_path, "--steps_per_epoch", "9", "--resume", "auto")) == 128 + signal.SIGTERM
    assert caplog.messages[-1].startswith("training had not begun; the run is saved up to update 3 (in epoch 1): ")


@pytest.mark.slow
@pytest.mark.long
def test_a_run_that_is_killed_again_and_again_is_the_run_it_would_have_been(tmp_path: Path) -> None:
    length = ["--steps_per_epoch", "10", *DROPOUT]
    assert main(train_command(tmp_path / "whole", *length, "--epochs", "3")) == 0
    run_dir = tmp_path / "killed" / "run"
    ckpts = run_dir / "ckpts"
    draw = random.Random(0)
    moments = {
        "in the first epoch": lambda: (ckpts / "epoch_0").exists() and updates(run_dir),
        "in a save": lambda: (ckpts / ".epoch_1.part").exists() or (ckpts / "epoch_1").exists(),
        "some time later": lambda: len(updates(run_dir)) > 10 + draw.randrange(10),
    }
    go_on: list[str] = []
    for has_come in moments.values():
        process = start(train_command(tmp_path / "killed", *length, "--epochs", "3", *go_on))
        wait_until(has_come, process)
        process.kill()
        process.communicate()
        there = list_checkpoints(run_dir)
        assert there == [*range(len(there))]
        for epoch in there:
            assert weights(run_dir, epoch).keys() == weights(tmp_path / "whole" / "run", epoch).keys()
        go_on = ["--ckpt", str(there[-1])]
    assert main(train_command(tmp_path / "killed", *length, "--epochs", "3", *go_on)) == 0
    for epoch in range(4):
        whole, killed = weights(tmp_path / "whole" / "run", epoch), weights(run_dir, epoch)
        assert all(torch.equal(killed[name], value) for name, value in whole.items())
    assert updates(run_dir) == [*range(1, 31)]
    assert not [path for path in ckpts.iterdir() if path.name.startswith(".")]


def test_a_run_begun_and_resumed_at_epoch_0_is_the_run_it_would_have_been(tmp_path: Path) -> None:
    assert main(train_command(tmp_path, *DROPOUT)) == 0
    run_dir = tmp_path / "run"
    first = weights(run_dir, 1)
    assert main(train_command(tmp_path, *DROPOUT, "--ckpt", "0", "--discard_later")) == 0
    assert all(torch.equal(first[name], value) for name, value in weights(run_dir, 1).items())
    assert updates(run_dir) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "ended by SIGTERM"), (signal.SIGINT, "interrupted")])
def test_a_run_that_is_asked_to_end_says_how_to_go_on_and_leaves_nobody(
    number: signal.Signals, said: str, tmp_path: Path
) -> None:
    length = ["--steps_per_epoch", "10", "--epochs", "10000", "--dloader_workers", "2", "--log_interval", "1"]
    process = start(train_command(tmp_path, *length))
    run_dir = tmp_path / "run"
    wait_until(lambda: (run_dir / "metrics.jsonl").exists() and 12 in updates(run_dir), process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    last = list_all(run_dir)[-1]
    *_, how, why = complaints.strip().splitlines()
    assert how.endswith(f"the run is saved up to {last.place}: the same command with --resume auto goes on")
    assert complaints.count(f"{number.name}: this update is finished and saved") == 1
    assert why == f"gemma-metamon train: {said}"
    assert "Traceback" not in complaints
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert last.read_weights()
    assert last.read_meta().updates == updates(run_dir)[-1]  # what was made is saved
    assert not [path for path in (run_dir / "ckpts").iterdir() if path.name.startswith(".")]


# torch raises it from a signal's handler, in whatever runs just then: multiprocessing leaves a socket of the hand-over
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_a_killed_reader_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    here, before = psutil.Process(), {child.pid for child in psutil.Process().children()}
    killed = threading.Event()

    def kill_a_reader() -> None:
        while not killed.wait(0.01):
            for child in here.children():
                if child.pid not in before and (tmp_path / "run" / "metrics.jsonl").exists():
                    os.kill(child.pid, signal.SIGKILL)
                    killed.set()
                    return

    killer = threading.Thread(target=kill_a_reader)
    killer.start()
    try:
        status = main(
            train_command(tmp_path, "--steps_per_epoch", "2000", "--dloader_workers", "2", "--save_every", "2")
        )
    finally:
        killed.set()
        killer.join()
    assert status == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("gemma-metamon train: a process that reads battles was killed, perhaps for want of memory")
    assert "--resume auto goes on, perhaps with fewer --dloader_workers" in said
    start = list_all(tmp_path / "run")[-1]
    assert start.read_weights()
    length = ["--steps_per_epoch", str(start.read_meta().updates + 2), "--dloader_workers", "2", "--resume", "auto"]
    assert main(train_command(tmp_path, *length)) == 0


@pytest.mark.parametrize(
    ("error", "killed"),
    [
        (EOFError(), False),
        (EOFError(), True),
        (ConnectionResetError(104, "Connection reset by peer"), False),
        (OSError("got end of file during message"), True),
        (UnpicklingError("pickle data was truncated"), True),
    ],
    ids=repr,
)
def test_a_reader_that_dies_while_it_hands_a_batch_over_is_one_sentence(
    error: Exception, killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hand_over() -> Iterator[Batch]:
        raise error
        yield

    def hear_of_it(_seconds: float) -> None:  # as torch's handler of SIGCHLD does, in whatever runs just then
        if killed:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr(time, "sleep", hear_of_it)
    said = "a process that reads battles was killed, perhaps for want of memory (DataLoader worker"
    said += " (pid 7) is killed" if killed else " is gone"
    with pytest.raises(GemmaMetamonError, match=re.escape(said)), failures_in_a_sentence(tmp_path):
        next(read_batches(hand_over()))


def test_what_a_reader_refuses_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "battles" / "gen9ou"
    folder.mkdir(parents=True)
    for number in range(6000):  # more than are read before training starts
        (folder / f"{number}.json.lz4").write_bytes(b"damaged")
    data = ["--parsed_replay_dir", str(folder.parent), "--formats", "gen9ou", "--holdout_share", "0"]
    assert main(train_command(tmp_path, *data, "--dloader_workers", "1")) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(
        "gemma-metamon train: 20 of 20 battle files are damaged: 100%, and --max_set_aside allows 5%"
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("kills", "processes"), [(3, 1), (2, 2)])
def test_killed_at_random_moments_a_run_ends_bit_for_bit_as_if_it_had_not_been(
    kills: int, processes: int, tmp_path: Path
) -> None:
    command = [sys.executable, str(SCRIPTS / "kill_train.py"), "--kills", str(kills), "--processes", str(processes)]
    command += ["--epochs", "2", "--steps_per_epoch", "8", "--save_every", "3", "--out", str(tmp_path / "kills")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["kills"], result["differences"]) == (kills, 0)
