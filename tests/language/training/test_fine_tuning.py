"""What trainings of chat models have in common: a disk that fills up under them, NaN and infinity, and SIGTERM."""

import json
import math
import os
import re
import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from support.chats import chats_of, write_chats
from support.disks import disk_with_room, fill, read_only_disk
from support.seen_battles import bundled
from support.small_agent import BACKBONE

from gemma_metamon.commands import main
from gemma_metamon.language.models import chat_model as models
from gemma_metamon.language.training import fine_tuning, sft
from gemma_metamon.language.training.fine_tuning import FineTuning, find_model
from gemma_metamon.language.training.update_guard import UpdateGuard

DRAWN = ["--max_updates", "2", "--keep_every", "1", "--answer_subwords", "2", "--num_generations", "2"]
FEW = ["--batch_size", "4", "--generated", "0", "--warmup_updates", "0", "--device", "cpu"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "TINY_CONFIG", BACKBONE | {"max_position_embeddings": 4096})


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chats, pictures, and a model of each kind to begin with."""
    import transformers

    transformers.logging.get_logger()  # its handler keeps the stream that it finds here, and a test's is closed
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


def whole(sources: Path, training: str) -> Path:
    """A run that nothing happened to."""
    out = sources / f"whole {training}"
    if not out.exists():
        assert main(TRAININGS[training](sources, out)) == 0
    return out


TRAININGS: dict[str, Callable[[Path, Path], list[str]]] = {
    "sft": lambda sources, out: [
        *("sft", "--data", str(sources / "chats.jsonl"), "--out", str(out), "--epochs", "2", *FEW),
    ],
    "grpo": lambda sources, out: [
        *("grpo", "--data", str(sources / "chats.jsonl"), "--model", str(whole(sources, "sft")), "--out", str(out)),
        *(*FEW, *DRAWN),
    ],
    "vlm": lambda sources, out: [
        *("vlm", "train", "--data", str(pictures(sources)), "--out", str(out), "--epochs", "2", *FEW),
    ],
    "grpo on pictures": lambda sources, out: [
        *("grpo", "--data", str(pictures(sources)), "--model", str(whole(sources, "vlm")), "--out", str(out)),
        *(*FEW, *DRAWN),
    ],
}
EACH = ["sft", "grpo", "vlm", pytest.param("grpo on pictures", marks=pytest.mark.slow)]
UPDATES = {"sft": 2, "vlm": 2, "grpo": 1, "grpo on pictures": 1}
"""Of an epoch; there are two."""


def said_of(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(command) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert not any(line.startswith("Traceback") for line in said), said
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
@pytest.mark.parametrize("training", ["sft", "grpo", "vlm"])
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
        done = UPDATES[training]
        assert said.endswith(f"the run is saved up to update {done}: the same command with --resume goes on")
        assert files_of(run_dir) == before
        assert before
        assert not [path for path in run_dir.rglob("*") if path.name.endswith((".part", ".old"))]
        (disk / "filler").unlink()
        assert main([*command, "--resume"]) == 0
        require_alike(run_dir, whole(sources, training))


@pytest.mark.parametrize("training", ["sft", "grpo", "vlm"])
@pytest.mark.parametrize("disk", [lambda place: disk_with_room(place, 0), read_only_disk], ids=["full", "read-only"])
def test_a_full_or_read_only_disk_is_one_sentence(
    training: str, disk: Any, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk(tmp_path / "disk") as place:
        said = said_of(TRAININGS[training](sources, place / "run"), capsys)
        assert re.search("o space left on device|ead-only file system", said)
        assert not (place / "run").exists()


def require_alike(run_dir: Path, other: Path) -> None:
    found, wanted = (load_weights(find_model(folder)) for folder in (run_dir, other))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)
    assert numbers_of(run_dir) == numbers_of(other)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


# --- NaN and infinity ------------------------------------------------------------------------------------------------


@pytest.fixture
def logged_each_update(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = FineTuning.arguments
    monkeypatch.setattr(FineTuning, "arguments", lambda self, *given: arguments(self, *given) | {"logging_steps": 1})


def spoil_losses(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[int, Any, torch.Tensor], torch.Tensor]) -> None:
    """What our own loss of answers is: `spoil` is given the number of the batch, from 0, the model, and the loss."""
    sound, batches = sft.answer_loss, count()

    def spoilt(gemma: Any, inputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, int]:
        total, n = sound(gemma, inputs, labels)
        return spoil(next(batches), gemma, total), n

    monkeypatch.setattr(sft, "answer_loss", spoilt)


def poison(monkeypatch: pytest.MonkeyPatch, *, begin: int, end: int = 1000) -> None:
    """These batches, from 0, have a loss that is NaN: our own, or TRL's of answers that were drawn."""
    spoil_losses(monkeypatch, lambda batch, gemma, total: total * (math.nan if begin <= batch < end else 1))
    import trl

    sound, batches = trl.GRPOTrainer.compute_loss, count()

    def spoilt(self: Any, *given: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = sound(self, *given, **named)
        return loss * (math.nan if begin <= next(batches) < end else 1)

    monkeypatch.setattr(trl.GRPOTrainer, "compute_loss", spoilt)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text(encoding="utf-8").splitlines()]


def optimizer_steps(run_dir: Path) -> set[int]:
    """Of all weights of what the run goes on from."""
    (path,) = run_dir.glob("trainer/checkpoint-*/optimizer.pt")
    return {int(state["step"]) for state in torch.load(path, weights_only=True)["state"].values()}


@pytest.mark.usefixtures("logged_each_update")
@pytest.mark.parametrize("training", EACH)
def test_updates_without_a_finite_loss_change_nothing_and_are_named_and_counted(
    training: str, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the second epoch."""
    command, of_epoch, run_dir = TRAININGS[training](sources, tmp_path / "run"), UPDATES[training], tmp_path / "run"
    poison(monkeypatch, begin=of_epoch)
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["updates"], printed["left_out"]) == (2 * of_epoch, of_epoch)
    before, after = (load_weights(find_model(run_dir, epoch)) for epoch in (1, 2))
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert optimizer_steps(run_dir) == {of_epoch}
    left_out = lines_of(run_dir / "not_finite.jsonl")
    assert [line["update"] for line in left_out] == list(range(of_epoch + 1, 2 * of_epoch + 1))
    rows = [row for line in left_out for batch in line["batches"] for row in batch["rows"]]
    assert len(rows) == 4 * of_epoch
    assert all(1 <= row["row"] <= 8 and ("answer" in row) == ("grpo" in training) for row in rows)
    numbers = [line for line in lines_of(run_dir / "metrics.jsonl") if "updates_left_out" in line]
    assert [line["updates_left_out"] for line in numbers] == [0.0] * of_epoch + [1.0] * of_epoch
    assert ["loss/total" in line for line in numbers] == [True] * of_epoch + [False] * of_epoch


@pytest.mark.usefixtures("logged_each_update")
def test_of_an_update_of_several_batches_the_one_without_a_finite_loss_is_named_and_the_next_update_is_made(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, begin=2, end=3)
    command = [*TRAININGS["sft"](sources, tmp_path / "run"), "--batch_size", "2", "--grad_accum", "2"]
    assert main(command) == 0
    (left_out,) = lines_of(tmp_path / "run/not_finite.jsonl")
    (batch,) = left_out["batches"]
    assert (left_out["update"], batch["loss"], len(batch["rows"])) == (2, "nan", 2)
    assert optimizer_steps(tmp_path / "run") == {3}
    assert all(value.isfinite().all() for value in load_weights(find_model(tmp_path / "run")).values())


@pytest.mark.parametrize("gradient", ["steep", "huge"])
def test_a_gradient_without_end_of_a_finite_loss_never_reaches_the_optimizer(
    gradient: str, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(batch: int, gemma: Any, total: torch.Tensor) -> torch.Tensor:
        weight = gemma.get_input_embeddings().weight
        root = (weight - weight.detach()).abs().sum().sqrt()  # 0, and infinitely steep there
        return total if batch != 1 else total + root if gradient == "steep" else total * 1e30

    spoil_losses(monkeypatch, spoil)
    assert main([*TRAININGS["sft"](sources, tmp_path / "run"), "--max_updates", "3"]) == 0
    (left_out,) = lines_of(tmp_path / "run/not_finite.jsonl")
    assert left_out["grad_norm"] == ("nan" if gradient == "steep" else "inf")
    assert all(batch["loss"] not in ("nan", "inf") for batch in left_out["batches"])
    assert optimizer_steps(tmp_path / "run") == {2}


def test_too_many_updates_in_a_row_without_a_finite_loss_end_the_run_and_are_counted_over_a_restart(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fine_tuning, "MAX_LEFT_OUT", 3)
    command, run_dir = [*TRAININGS["sft"](sources, tmp_path / "run"), "--epochs", "4"], tmp_path / "run"
    for begin, more in ((1, []), (0, ["--resume"])):
        poison(monkeypatch, begin=begin)
        said = said_of([*command, *more], capsys)
        assert "3 updates in a row had no finite loss or gradient" in said
        assert said.endswith("the run is saved up to update 2: the same command with --resume goes on")
        assert [line["update"] for line in lines_of(run_dir / "not_finite.jsonl")] == [2, 3, 4]
    assert [line["update"] for line in lines_of(run_dir / "discarded/1/not_finite.jsonl")] == [3, 4]


@pytest.mark.parametrize("updates", ["1", "2"])  # the last, and one that others come after
@pytest.mark.parametrize("training", EACH)
def test_spoilt_weights_are_never_saved(
    training: str, updates: str, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TRAININGS[training](sources, tmp_path / "run"), "--max_updates", updates]
    if "grpo" in training:
        command += ["--keep_every", "2"]
    said = said_of([*command, "--learning_rate", "1e38"], capsys)
    assert "the weights give no finite loss any more, and are not saved; lower --learning_rate (1e+38)" in said
    assert [path.name for path in (tmp_path / "run/ckpts").iterdir()] == ["epoch_0"]
    assert not list((tmp_path / "run/trainer").rglob("*.safetensors"))


# --- SIGTERM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", EACH)
def test_sigterm_saves_the_update_that_is_being_made_and_resume_goes_on_as_if_it_had_not_come(
    training: str, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the middle of an epoch."""
    wanted, run_dir, add, batches = whole(sources, training), tmp_path / "run", UpdateGuard.add, count(1)
    command = TRAININGS[training](sources, run_dir)
    if "grpo" in training:
        command += ["--keep_every", "2"]
    last = 2 * UPDATES[training] - 1

    def asked(self: UpdateGuard, loss: torch.Tensor) -> torch.Tensor:
        if next(batches) == last:
            os.kill(os.getpid(), signal.SIGTERM)
        return add(self, loss)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(UpdateGuard, "add", asked)
        assert main(command) == 143
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == f"gemma-metamon {command[0]}: ended by SIGTERM"
    assert not (run_dir / f"ckpts/epoch_{2 if 'grpo' not in training else 1}").exists()
    assert main([*command, "--resume"]) == 0
    require_alike(run_dir, wanted)
