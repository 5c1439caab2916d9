"""Imports and exports that are refused: what does not fit, what is there already, files that are damaged or hostile."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amago_exports import import_command, write_run
from support.small_agent import SMALL, TINY
from support.tensors import assert_same_bits
from torch import Tensor

from gemma_metamon.commands import main
from gemma_metamon.errors import DataError
from gemma_metamon.runs.checkpoints import META, Checkpoint
from gemma_metamon.upstream import interchange


def test_a_file_without_our_description_needs_the_flags(
    policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (policy_file.parents[1] / interchange.DESCRIPTION).unlink()
    assert main(import_command(policy_file, tmp_path)) == 1
    assert "has no gemma_metamon.json" in capsys.readouterr().err
    flags = ["--model_gin_config", TINY, *(word for line in SMALL for word in ("--gin_override", line))]
    assert main(import_command(policy_file, tmp_path, *flags)) == 0
    imported = Checkpoint.find(tmp_path / "imported", 1)
    assert_same_bits(imported.read_weights(), interchange.read_policy(policy_file))


REFUSED_IMPORTS = {
    "another observation space": (["--obs_space", "DefaultObservationSpace"], "use --obs_space TeamPreview"),
    "another reward": (["--reward_function", "BinaryReward"], "reward_function 'DefaultShapedReward'"),
    "another phrasing": (["--gin_override", "GemmaTstepEncoder.phrasing = 'raw'"], "phrasing 'natural'"),
    "another width": (
        ["--gin_override", "TformerTrajEncoder.d_ff = 24"],
        "ff1.weight is [16, 16], not [24, 16]",
    ),
    "another depth": (["--gin_override", "TformerTrajEncoder.n_layers = 2"], "missing (traj_encoder.tformer.layers.1."),
    "a training config alone": (["--train_gin_config", "il.gin"], "--train_gin_config needs --model_gin_config"),
    "no word list": (["--tokenizer", "DefaultObservationSpace-v1"], "no word list DefaultObservationSpace-v1"),
    "a negative epoch": (["--ckpt", "-1"], "say which epoch it is with --ckpt N"),
}


@pytest.mark.parametrize("name", REFUSED_IMPORTS)
def test_what_does_not_fit_is_refused_in_one_sentence(
    name: str, policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags, complaint = REFUSED_IMPORTS[name]
    assert main(import_command(policy_file, tmp_path, *flags)) == 1
    said = capsys.readouterr().err
    assert complaint in said
    assert said.startswith("gemma-metamon import: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "imported").exists()


def test_missing_extra_and_misshapen_entries_are_counted_and_named(
    policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    state = interchange.read_policy(policy_file)
    missing = [key for key in state if key.startswith("target_actor.")]
    for key in missing:
        del state[key]
    state["popart.mu"] = torch.zeros(3)
    state["steps"] = torch.zeros(1)
    torch.save(state, policy_file)
    assert main(import_command(policy_file, tmp_path)) == 1
    said = capsys.readouterr().err
    assert f"{len(missing)} missing ({missing[0]}, {missing[1]}, {missing[2]}, ...)" in said
    assert "1 extra (steps)" in said
    assert "1 misshapen (popart.mu is [3], not [7, 1])" in said


def test_nothing_is_overwritten(policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    export = ["export", "--run_dir", str(tmp_path / "run"), "--to", "amago", "--out", str(tmp_path / "out")]
    assert main(export) == 1
    assert "policy_epoch_1.pt exists" in capsys.readouterr().err
    assert main(import_command(policy_file, tmp_path)) == 0
    assert main(import_command(policy_file, tmp_path)) == 1
    assert "imported has a checkpoint 1 already" in capsys.readouterr().err
    (tmp_path / "out" / "run" / "ckpts" / "config.txt").write_text("another run's")
    write_run(tmp_path / "run", epoch=2)
    assert main(export) == 1
    assert "config.txt is there with another configuration" in capsys.readouterr().err
    assert main([*export[:3], "--to", "merged", "--out", str(tmp_path / "run")]) == 1
    assert "run exists; delete it" in capsys.readouterr().err


def test_the_untrained_network_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_run(tmp_path / "run", epoch=0)
    assert main(["export", "--run_dir", str(tmp_path / "run"), "--to", "amago", "--out", str(tmp_path / "out")]) == 1
    assert "metamon loads no checkpoint 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_other_subwords_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = write_run(tmp_path / "run")
    meta = (checkpoint.folder / META).read_text()
    subword_hash = checkpoint.read_meta().identity.subword_hash
    (checkpoint.folder / META).write_text(meta.replace(subword_hash, "0" * len(subword_hash)))
    assert main(["export", "--run_dir", str(tmp_path / "run"), "--to", "amago", "--out", str(tmp_path / "out")]) == 1
    assert "was trained with subword_hash" in capsys.readouterr().err


class RunsCode:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_in_a_file_is_run(zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file, made = tmp_path / "policy_epoch_1.pt", tmp_path / "made"
    torch.save({"popart.mu": torch.zeros(1), "more": RunsCode(made)}, file, _use_new_zipfile_serialization=zipped)
    assert main(import_command(file, tmp_path, "--model_gin_config", TINY)) == 1
    said = capsys.readouterr().err
    assert "mkdir, which could run code and is not opened" in said
    assert "weights_only" not in said
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"model": {"popart.mu": torch.zeros(1)}}, "no state dict, it holds 'model': dict"),
        ([torch.zeros(1)], "no state dict, it holds list"),
        ({"epoch": 3, "popart.mu": torch.zeros(1)}, "no state dict, it holds 'epoch': int"),
    ],
)
def test_what_is_no_state_dict_is_refused(content: object, complaint: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(DataError, match=complaint):
        interchange.read_policy(tmp_path / "file.pt")


@given(st.integers(0, 10_000), st.booleans(), st.binary(max_size=8))
@settings(max_examples=60)
def test_a_damaged_file_is_refused_and_nothing_else(place: int, cut: bool, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy_epoch_1.pt"
        torch.save({"popart.mu": torch.zeros(1), "popart.nu": torch.ones(2)}, file)
        whole = file.read_bytes()
        place %= len(whole)
        file.write_bytes(whole[:place] + junk + (b"" if cut else whole[place + len(junk) :]))
        with contextlib.suppress(DataError):
            state = interchange.read_policy(file)
            assert all(isinstance(value, Tensor) for value in state.values())


def test_an_entry_that_says_it_is_larger_than_its_zip_file_gets_no_room(tmp_path: Path) -> None:
    file = tmp_path / "policy_epoch_1.pt"
    torch.save({"popart.mu": torch.zeros(1)}, file)
    content = bytearray(file.read_bytes())
    entry = content.index(b"PK\x01\x02")  # of the directory; the size of what it packs is 24 bytes further
    content[entry + 24 : entry + 28] = (4_000_000_000).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(DataError, match="an entry of 4000000000 bytes is larger than the file"):
        interchange.read_policy(file)


def test_a_missing_file_and_a_damaged_description_are_refused(
    policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(import_command(tmp_path / "policy_epoch_9.pt", tmp_path)) == 1
    assert "no file" in capsys.readouterr().err
    (policy_file.parents[1] / interchange.DESCRIPTION).write_text("{}")
    assert main(import_command(policy_file, tmp_path)) == 1
    assert "gemma_metamon.json is no description of a run" in capsys.readouterr().err
