"""A run's folder: nobody overwrites it, one training at a time, each update once; and paths that cannot be written."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from support.small_agent import BATTLES, train_command

from gemma_metamon.commands import main
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.runs import run_folder
from gemma_metamon.runs.checkpoints import list_checkpoints
from gemma_metamon.runs.run_folder import move_later_aside


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def last_sentence(capsys: pytest.CaptureFixture) -> str:
    said: str = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("gemma-metamon ")
    return said


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of two updates."""
    save_dir = tmp_path_factory.mktemp("trained")
    assert main(train_command(save_dir, "--epochs", "2", "--log_interval", "1")) == 0
    return save_dir / "run"


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


# --- going on ------------------------------------------------------------------------------------------------------


def test_later_checkpoints_are_never_overwritten(run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    before = (run_dir / "ckpts" / "epoch_2" / "weights.safetensors").read_bytes()
    for changed in ([], ["--seed", "5"], ["--batch_size_per_gpu", "1"]):
        assert main(train_command(run_dir.parent, "--epochs", "3", "--ckpt", "1", *changed)) == 1
        said = last_sentence(capsys)
        assert "holds later checkpoints (2), which going on from 1 would overwrite; go on with --resume auto" in said
        assert "--discard_later" in said
    assert (run_dir / "ckpts" / "epoch_2" / "weights.safetensors").read_bytes() == before
    assert not (run_dir / "discarded").exists()


def test_later_checkpoints_are_moved_aside_on_demand(
    run_dir: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before = (run_dir / "ckpts" / "epoch_2" / "weights.safetensors").read_bytes()
    metrics = (run_dir / "metrics.jsonl").read_text()
    go_on = ["--ckpt", "1", "--discard_later", "--log_interval", "1"]
    assert main(train_command(run_dir.parent, "--epochs", "2", "--seed", "5", *go_on)) == 0
    moved = run_dir / "discarded" / "1"
    assert f"what came after epoch 1 of {run_dir} is in {moved} now" in caplog.text
    assert "seed was 0 and is 5" in caplog.text
    assert (moved / "ckpts" / "epoch_2" / "weights.safetensors").read_bytes() == before
    assert (run_dir / "ckpts" / "epoch_2" / "weights.safetensors").read_bytes() != before
    assert list_checkpoints(run_dir) == [0, 1, 2]
    kept = "".join(line for line in metrics.splitlines(keepends=True) if json.loads(line)["update"] <= 2)
    assert kept + (moved / "metrics.jsonl").read_text() == metrics
    assert [line["update"] for line in lines(run_dir / "metrics.jsonl") if "loss/total" in line] == [1, 2, 3, 4]


@pytest.mark.parametrize("how", ["--resume auto", "--ckpt 1 --discard_later"])
@pytest.mark.parametrize("best", [1, 2])
def test_last_and_best_name_what_is_there_before_the_first_save_of_a_run_that_goes_on(
    how: str, best: int, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ckpts = run_dir / "ckpts"
    (ckpts / "best").write_text(f"epoch_{best}\n")
    (run_dir / "wandb_run.json").write_text('{"id": "a"}')
    if how == "--resume auto":  # which passes over what is damaged
        os.truncate(ckpts / "epoch_2" / "weights.safetensors", 100)
    rename = Path.rename

    def killed(path: Path, *_: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    command = train_command(run_dir.parent, "--epochs", "3", *how.split())
    assert main(command) == 130
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr("gemma_metamon.training.trainer.Trainer.train", lambda *_, **__: None)  # it saves nothing
    for moved in (False, True):
        if moved:
            assert main(command) == 0
        assert (ckpts / "epoch_2").exists() != moved
        assert (ckpts / "last").read_text() == "epoch_1\n"
        assert (ckpts / "best").exists() == (best == 1)
    # what is done again is the same run of wandb's, and what is another way is not
    assert (run_dir / "wandb_run.json").exists() == (how == "--resume auto")


def test_a_run_that_goes_on_as_it_was_is_not_warned_of(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(train_command(run_dir.parent, "--epochs", "3", "--ckpt", "2", "--dloader_workers", "1")) == 0
    assert "other settings" not in caplog.text


def test_what_a_run_goes_on_with_otherwise_is_said(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    rate = ["--gin_override", "MetamonAMAGOExperiment.learning_rate = 1e-5"]
    changed = ["--batch_size_per_gpu", "1", "--holdout_share", "0.3"]
    assert main(train_command(run_dir.parent, "--epochs", "3", "--ckpt", "2", *rate, *changed)) == 0
    (said,) = [record.message for record in caplog.records if "other settings" in record.message]
    assert "batch_size_per_gpu was 2 and is 1; holdout_share was 0.2 and is 0.3" in said
    assert re.search(r"MetamonAMAGOExperiment.learning_rate (was \S+ and is 1e-05|is new: 1e-05)", said)


def test_each_update_is_there_once_and_torn_lines_are_moved_away(run_dir: Path) -> None:
    (run_dir / "discarded" / "4").mkdir(parents=True)
    before = (run_dir / "metrics.jsonl").read_bytes()
    (run_dir / "metrics.jsonl").write_bytes(before + b'{"update": 5, "loss/total": 1.0}\n{"upd')
    (run_dir / "evaluations.jsonl").write_text('{"epoch": 2}\n{"epoch": 3}\n[]\n')
    (run_dir / "set_aside.jsonl").write_text('{"file": "a", "reason": "b"}\n{"fil')
    moved = move_later_aside(run_dir, epoch=2, updates=4)
    assert moved == run_dir / "discarded" / "5"
    assert (run_dir / "metrics.jsonl").read_bytes() == before
    assert (moved / "metrics.jsonl").read_text() == '{"update": 5, "loss/total": 1.0}\n{"upd'
    assert lines(run_dir / "evaluations.jsonl") == [{"epoch": 2}]
    assert lines(run_dir / "set_aside.jsonl") == [{"file": "a", "reason": "b"}]
    assert move_later_aside(run_dir, epoch=2, updates=4) is None


@given(updates=st.lists(st.integers(0, 9)), torn=st.binary(max_size=9), last=st.integers(-1, 10))
def test_going_back_keeps_every_line_somewhere(
    tmp_path_factory: pytest.TempPathFactory, updates: list[int], torn: bytes, last: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    written = [json.dumps({"update": update, "number": number}) for number, update in enumerate(updates)]
    content = b"".join(f"{line}\n".encode() for line in written) + torn
    (folder / "metrics.jsonl").write_bytes(content)
    moved = move_later_aside(folder, epoch=0, updates=last)
    kept = (folder / "metrics.jsonl").read_text().splitlines()
    assert kept == [line for line in written if json.loads(line)["update"] <= last]
    away = (moved / "metrics.jsonl").read_bytes() if moved else b""
    assert len(away) + sum(len(line) + 1 for line in kept) == len(content)


def test_a_damaged_file_is_recorded_once_however_often_a_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "battles" / "gen9ou"
    folder.mkdir(parents=True)
    source = next((BATTLES / "gen9ou").glob("*.lz4"))
    for i in range(24):
        (folder / f"{i}.json.lz4").write_bytes(source.read_bytes()[: 900 if i == 0 else None])
    data = ["--parsed_replay_dir", str(folder.parent), "--formats", "gen9ou", "--holdout_share", "0"]
    assert main(train_command(tmp_path, *data)) == 0
    assert main(train_command(tmp_path, *data, "--ckpt", "1", "--epochs", "2")) == 0
    assert len(lines(tmp_path / "run" / "set_aside.jsonl")) == 1


def test_a_checkpoint_without_optimizer_state_says_what_it_can_begin(
    run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    (run_dir / "ckpts" / "epoch_2" / "training.safetensors").unlink()
    assert main(train_command(run_dir.parent, "--epochs", "3", "--ckpt", "2")) == 1
    said = last_sentence(capsys)
    assert "cannot be resumed: it has no training.safetensors" in said
    assert f"--init_from {run_dir}@2" in said


# --- alone ---------------------------------------------------------------------------------------------------------


def test_two_trainings_do_not_share_a_folder(
    run_dir: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "RELEASE_S", 0.3)
    with FileLock(run_dir / ".lock"):
        assert main(train_command(run_dir.parent, "--epochs", "3", "--ckpt", "2")) == 1
    assert "another process trains in" in last_sentence(capsys)
    assert main(train_command(run_dir.parent, "--epochs", "3", "--ckpt", "2")) == 0


def test_what_a_killed_training_left_is_cleared(run_dir: Path) -> None:
    (run_dir / "ckpts" / ".epoch_3.part").mkdir()
    (run_dir / "ckpts" / ".epoch_3.part" / "weights.safetensors").write_bytes(b"half")
    assert list_checkpoints(run_dir) == [0, 1, 2]
    assert main(train_command(run_dir.parent, "--epochs", "3", "--ckpt", "2")) == 0
    there = sorted(path.name for path in (run_dir / "ckpts").iterdir())
    assert there == ["epoch_0", "epoch_1", "epoch_2", "epoch_3", "last"]


# --- names and paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["run_name", "formats"])
@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../../escape",
        "/tmp/x",
        "a/b",
        "a\\b",
        "a\nb",
        "a\0b",
        "\x1b[31m",
        "\udcff",
        "x" * 300,
        "é" * 150,
    ],
)
def test_a_name_that_is_no_folders_is_refused(
    flag: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path / "runs", f"--{flag}", name)) == 1
    assert f"--{flag} " in last_sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_name_in_any_script_is_taken(tmp_path: Path) -> None:
    assert main(train_command(tmp_path, "--steps_per_epoch", "1", run_name="größer 対戦 v1.2-b")) == 0


def test_a_folder_outside_utf8_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(train_command(Path(os.fsdecode(bytes(tmp_path) + b"/\xff")))) == 1
    assert "is not UTF-8; name another folder" in last_sentence(capsys)


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_a_battle_file_outside_utf8_is_named(command: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = Path(shutil.copytree(BATTLES / "gen1ou", tmp_path / "battles" / "gen1ou")).parent
    (folder / "gen1ou" / os.fsdecode(b"\xff.json.lz4")).write_bytes(b"")
    if command == "train":
        arguments = train_command(tmp_path, "--parsed_replay_dir", str(folder), "--formats", "gen1ou")
    else:
        arguments = ["prepare", "--parsed_replay_dir", str(folder), "--out", str(tmp_path / "store"), "--workers", "1"]
    assert main(arguments) == 1
    said = last_sentence(capsys)
    assert "\\xff.json.lz4" in said
    assert "not UTF-8" in said


@pytest.mark.parametrize("command", ["train", "prepare"])
@pytest.mark.parametrize("what", ["a file", "too long"])
def test_a_folder_that_cannot_be_is_one_sentence(
    command: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    where = tmp_path / "file" / "inside" if what == "a file" else tmp_path / ("x" * 300)
    if command == "train":
        arguments = train_command(where)
    else:
        arguments = ["prepare", "--parsed_replay_dir", str(BATTLES), "--out", str(where), "--workers", "1"]
    assert main(arguments) == 1
    said = last_sentence(capsys)
    assert ("not a directory" if what == "a file" else "file name too long") in said.lower()


@pytest.mark.parametrize("name", ["ckpts", "metrics.jsonl", "config.gin", "discarded"])
def test_a_file_or_folder_in_the_place_of_another_is_one_sentence(
    name: str, run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    path = run_dir / name
    was_file = path.is_file()
    if path.exists():
        path.rename(run_dir / "before")
    if was_file:
        path.mkdir()
        (path / "inside").write_text("")
    else:
        path.write_text("")
    go_on = [] if name == "ckpts" else ["--ckpt", "1", "--discard_later"]
    assert main(train_command(run_dir.parent, "--epochs", "3", *go_on)) == 1
    assert "cannot be written (" in last_sentence(capsys)


# --- full disks ----------------------------------------------------------------------------------------------------


@contextmanager
def files_no_longer_than(size_bytes: int) -> Iterator[None]:
    """What a full disk is to whoever writes: `File too large` in place of `No space left`, and for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# config.gin, weights, optimizer state, metrics: about 3 kB, 190 kB, 300 kB
@pytest.mark.parametrize("size_bytes", [0, 1_000, 20_000, 200_000])
def test_a_disk_that_is_full_is_one_sentence_and_leaves_whole_checkpoints(
    size_bytes: int, run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    with files_no_longer_than(size_bytes):
        assert main(train_command(run_dir.parent, "--epochs", "3", "--ckpt", "2")) == 1
    said = last_sentence(capsys)
    assert f"{run_dir} cannot be written " in said
    if size_bytes > 4096:  # else it does not even begin
        assert said.endswith("the run is saved up to epoch 2: the same command with --resume auto goes on")
    assert sorted(path.name for path in (run_dir / "ckpts").iterdir()) == ["epoch_0", "epoch_1", "epoch_2", "last"]
    assert main(train_command(run_dir.parent, "--epochs", "3", "--ckpt", "2")) == 0


@pytest.mark.parametrize("size_bytes", [0, 100, 10_000])
def test_a_full_disk_while_preparing_is_one_sentence(
    size_bytes: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["prepare", "--parsed_replay_dir", str(BATTLES), "--out", str(tmp_path / "store"), "--workers", "1"]
    with files_no_longer_than(size_bytes):
        assert main(command) == 1
    assert "cannot be written" in last_sentence(capsys)
    assert main(command) == 0


def in_small_folder(options: str, folder: Path, command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Of a file system of its own, which only that process sees."""
    mount = f'mount -t tmpfs -o {options} tmpfs "{folder}" && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-m", "gemma_metamon", *command],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("options", "reason"), [("size=100k", "No space left"), ("ro", "Read-only file system")])
def test_a_file_system_that_takes_nothing_is_one_sentence(options: str, reason: str, tmp_path: Path) -> None:
    may_mount = shutil.which("unshare") and subprocess.run(["unshare", "--mount", "true"], capture_output=True)
    if not may_mount or may_mount.returncode:
        pytest.skip("mounting takes root")
    done = in_small_folder(options, tmp_path, train_command(tmp_path))
    assert done.returncode == 1
    assert reason in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_error_of_ours_passes_through(tmp_path: Path) -> None:
    with pytest.raises(GemmaMetamonError, match="as it was"), run_folder.writing_in(tmp_path):
        raise GemmaMetamonError("as it was")
