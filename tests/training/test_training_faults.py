"""What goes wrong around a training: a disk that fills up, a folder that is closed, a wandb that nobody answers for."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.disks import disk_with_room, fill, read_only
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint, list_all, write_checkpoint
from gemma_metamon.training.tracking import Tracker

LENGTH = ["--steps_per_epoch", "4", "--save_every", "2", "--log_interval", "1", "--resume", "auto"]


@pytest.mark.parametrize("fault", ["full", "closed"])
@pytest.mark.parametrize("writer", ["checkpoint", "metrics"])
def test_what_cannot_be_written_ends_in_a_sentence_and_the_run_goes_on_where_it_was_whole(
    writer: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with ExitStack() as held:
        disk = held.enter_context(disk_with_room(tmp_path / "disk", 2**22))
        run_dir = disk / "run"
        trouble = held.enter_context(ExitStack())

        def begin(place: Path) -> None:
            if fault == "full":
                fill(disk, 0 if writer == "metrics" else 100_000)
                trouble.callback((disk / "filler").unlink)
            else:
                trouble.enter_context(read_only(place))

        def write(run_dir: Path, meta: Any, *others: Any) -> Checkpoint:
            if writer == "checkpoint" and meta.updates == 4:
                begin(run_dir / "ckpts")
            return write_checkpoint(run_dir, meta, *others)

        log = Tracker.log

        def note(self: Tracker, update: int, metrics: Mapping[str, float]) -> None:
            if writer == "metrics" and update == 3:
                metrics = {
                    **metrics,
                    **{f"metric {number}": 0.0 for number in range(1000)},
                }  # beyond a page of the disk
                begin(run_dir / "metrics.jsonl")
            log(self, update, metrics)

        with monkeypatch.context() as patched:
            patched.setattr("gemma_metamon.training.saving.write_checkpoint", write)
            patched.setattr(Tracker, "log", note)
            assert main(train_command(disk, *LENGTH)) == 1
        said = capsys.readouterr().err.strip().splitlines()[-1]
        reason = "No space left on device" if fault == "full" else "Read-only file system"
        assert said.startswith(f"gemma-metamon train: {run_dir} cannot be written ({reason}")
        assert said.endswith(
            "the run is saved up to update 2 (in epoch 1): the same command with --resume auto goes on"
        )
        assert [one.folder.name for one in list_all(run_dir)] == ["epoch_0", "epoch_0_update_2"]
        assert (run_dir / "ckpts" / "last").read_text() == "epoch_0_update_2\n"
        trouble.close()
        assert main(train_command(disk, *LENGTH)) == 0
        assert main(train_command(tmp_path / "whole", *LENGTH)) == 0
        for name in (WEIGHTS, TRAINING):
            ours, theirs = (Checkpoint(folder, 1).folder / name for folder in (run_dir, tmp_path / "whole" / "run"))
            assert ours.read_bytes() == theirs.read_bytes()
        metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        assert [line["update"] for line in metrics if "loss/total" in line] == [1, 2, 3, 4]
        assert not list((run_dir / "ckpts").glob(".*"))


@pytest.mark.slow
def test_a_training_whose_wandb_nobody_answers_for_goes_on_and_says_so_once(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install 'gemma-metamon[wandb]'")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "gemma_metamon", *train_command(tmp_path, "--log")],
        env=environment | {"WANDB_SILENT": "true"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wandb is offline, because it could not begin") == 1
    assert "trained to epoch 1 (2 updates)" in done.stdout
    assert Checkpoint(tmp_path / "run", 1).read_weights()
