"""What trainings of chat models have in common: a disk that fills up under them, and what a refused one leaves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.chats import chats_of, write_chats
from support.disks import disk_with_room, fill
from support.seen_battles import bundled
from support.small_agent import BACKBONE

from gemma_metamon.commands import main
from gemma_metamon.language import models
from gemma_metamon.language.fine_tuning import FineTuning, find_model

FEW = ["--batch_size", "4", "--generated", "0", "--warmup_updates", "0", "--device", "cpu"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "TINY_CONFIG", BACKBONE | {"max_position_embeddings": 4096})


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chats, pictures, and a model of each kind to begin with."""
    root = tmp_path_factory.mktemp("sources")
    write_chats(root / "chats.jsonl", chats_of(most=8))
    return root


def pictures(sources: Path) -> Path:
    if not (sources / "seen").exists():
        pytest.importorskip("PIL", reason="needs pillow: pip install 'gemma-metamon[vision]'")
        (sources / "battles/gen1ou").mkdir(parents=True)
        shutil.copy(bundled("gen1ou", 1)[0], sources / "battles/gen1ou")
        export = ["vlm", "export", "--parsed_replay_dir", str(sources / "battles"), "--out", str(sources / "seen")]
        assert main([*export, "--size", "112", "--workers", "1", "--frames", "single", "--subset", "8"]) == 0
    return sources / "seen/dataset.jsonl"


def taught(sources: Path) -> Path:
    if not (sources / "words").exists():
        assert main(TRAININGS["sft"](sources, sources / "words")) == 0
    return sources / "words"


TRAININGS: dict[str, Callable[[Path, Path], list[str]]] = {
    "sft": lambda sources, out: [
        *("sft", "--data", str(sources / "chats.jsonl"), "--out", str(out), "--epochs", "2", *FEW),
    ],
    "grpo": lambda sources, out: [
        *("grpo", "--data", str(sources / "chats.jsonl"), "--model", str(taught(sources)), "--out", str(out), *FEW),
        *("--max_updates", "2", "--keep_every", "1", "--answer_subwords", "2", "--num_generations", "2"),
    ],
    "vlm": lambda sources, out: [
        *("vlm", "train", "--data", str(pictures(sources)), "--out", str(out), "--epochs", "2", *FEW),
    ],
}


def said_of(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(command) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert not any(line.startswith("Traceback") for line in said)
    assert said[-1].startswith(f"gemma-metamon {command[0]}: ")
    return said[-1]


def files_of(run_dir: Path) -> dict[str, bytes]:
    """What a user would find of the models and of what training goes on from."""
    found = [path for name in ("ckpts", "trainer") for path in (run_dir / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in found}


def numbers_of(run_dir: Path) -> list[int]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["update"] for line in lines if "loss/total" in line]


@pytest.mark.parametrize("written", ["model", "state"])
@pytest.mark.parametrize("training", TRAININGS)
def test_a_disk_that_fills_up_leaves_the_last_whole_checkpoint_which_resume_goes_on_from(
    training: str,
    written: str,
    sources: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While the second model is written, or while TRL writes what it goes on from."""
    keep = FineTuning.keep
    before: dict[str, bytes] = {}
    with disk_with_room(tmp_path / "disk", 2**27, size_mib=128) as disk:
        run_dir = disk / "run"
        command = TRAININGS[training](sources, run_dir)

        def filling(self: Any, number: int, updates: int) -> None:
            if number == 2 and written == "model":
                before.update(files_of(run_dir))
                fill(disk, 50_000)
            keep(self, number, updates)
            if number == 2 and written == "state":
                before.update(files_of(run_dir))
                fill(disk, 50_000)

        with monkeypatch.context() as patch:
            patch.setattr(FineTuning, "keep", filling)
            said = said_of(command, capsys)
        assert f"{run_dir} cannot be written (No space left on device" in said
        done = 2 if training != "grpo" else 1  # updates of an epoch
        assert said.endswith(f"the run is saved up to update {done}: the same command with --resume goes on")
        assert files_of(run_dir) == before
        assert before
        assert not [path for path in run_dir.rglob("*") if path.name.endswith((".part", ".old"))]
        (disk / "filler").unlink()
        assert main([*command, "--resume"]) == 0
        assert main(TRAININGS[training](sources, tmp_path / "whole")) == 0
        found, wanted = (load_weights(find_model(folder)) for folder in (run_dir, tmp_path / "whole"))
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)
        assert numbers_of(run_dir) == numbers_of(tmp_path / "whole")


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
