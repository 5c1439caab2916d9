"""A checkpoint by run and epoch, the agent that plays from it, and the identity that decides whether it may."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.run_files import identity_of
from support.small_agent import BATTLES, SMALL, TINY, train_command

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.errors import CheckpointMismatchError, ConfigError, MissingFileError
from gemma_metamon.explain.follow import Follower, follow_recorded
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import Checkpoint, copy_as_start, list_checkpoints
from gemma_metamon.runs.experiment import build_without_weights
from gemma_metamon.runs.identity import RunIdentity
from gemma_metamon.runs.loading import load_agent, load_for_play
from gemma_metamon.view import BattleView

BATTLE = sorted((BATTLES / "gen1ou").iterdir())[0]
LORA = ["GemmaTstepEncoder.use_lora = True", "GemmaTstepEncoder.lora_r = 2"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_dir = tmp_path_factory.mktemp("runs")
    assert main(train_command(save_dir, *(text for line in LORA for text in ("--gin_override", line)))) == 0
    return save_dir / "run"


# ---- by run and epoch


@given(epochs=st.sets(st.integers(0, 10**9 - 1), min_size=1, max_size=5), name=st.sampled_from(["run", "a@3", "a b"]))
@settings(max_examples=30)
def test_a_checkpoints_text_and_its_folder_find_it_again(
    tmp_path_factory: pytest.TempPathFactory, epochs: set[int], name: str
) -> None:
    run = tmp_path_factory.mktemp("runs") / name
    for epoch in epochs:
        Checkpoint(run, epoch).folder.mkdir(parents=True)
    assert list_checkpoints(run) == sorted(epochs)
    assert Checkpoint.find(run) == Checkpoint.find_named(str(run)) == Checkpoint(run, max(epochs))
    for epoch in epochs:
        checkpoint = Checkpoint.find(run, epoch)
        assert Checkpoint.find_named(str(checkpoint)) == checkpoint
        assert checkpoint.label == f"{name}@{epoch}"


def test_what_is_exported_is_named_like_what_plays(run_dir: Path, tmp_path: Path) -> None:
    export = ["export", "--to", "merged", "--run_dir"]
    assert main([*export, f"{run_dir}@0", "--out", str(tmp_path / "named")]) == 0
    assert main([*export, str(run_dir), "--ckpt", "0", "--out", str(tmp_path / "asked")]) == 0
    assert main([*export, str(run_dir), "--out", str(tmp_path / "last")]) == 0
    named, asked, last = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("named", "asked", "last"))
    assert named == asked != last


def test_a_label_is_the_runs_name_however_its_folder_is_written(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_dir)
    assert Checkpoint.find_named(".").label == "run@1"
    assert Checkpoint.find(Path("../run")).label == "run@1"


def test_a_checkpoint_that_is_not_there_says_which_are(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="run has no checkpoint 7; it has 0, 1"):
        Checkpoint.find_named(f"{run_dir}@7")
    with pytest.raises(MissingFileError, match="no checkpoint in it; expected a run of"):
        Checkpoint.find(tmp_path)
    with pytest.raises(MissingFileError, match="nowhere: no such folder"):
        Checkpoint.find_named("nowhere@1")


def test_a_copy_begins_a_run_and_plays_as_it_did(run_dir: Path, tmp_path: Path) -> None:
    source = Checkpoint.find(run_dir)
    copy_as_start(source, tmp_path / "other")
    copied = Checkpoint.find(tmp_path / "other")
    assert (copied.epoch, copied.read_meta().updates) == (0, 0)
    assert copied.read_meta().identity == source.read_meta().identity
    for name, weight in source.read_weights().items():
        assert torch.equal(copied.read_weights()[name], weight), name


# ---- to play


def test_what_plays_is_what_was_saved_with_its_adapters_merged(run_dir: Path) -> None:
    checkpoint = Checkpoint.find(run_dir)
    playable = load_for_play(checkpoint, "cpu")
    saved, meta = load_agent(checkpoint, "cpu")
    assert playable.meta == meta
    assert not playable.agent.training
    assert any("lora" in name for name, _ in saved.named_parameters())
    assert not any("lora" in name for name, _ in playable.agent.named_parameters())
    merged, apart = (
        [
            [option.probability for option in decision.options]
            for decision in follow_recorded(Follower(agent, playable.view), load_battle(BATTLE))
        ]
        for agent in (playable.agent, saved)
    )
    assert len(merged) > 5
    for ours, theirs in zip(merged, apart, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_a_device_or_a_dtype_that_cannot_be_is_refused(run_dir: Path) -> None:
    with pytest.raises(ConfigError, match="device 'gameboy' cannot be used"):
        load_for_play(Checkpoint.find(run_dir), "gameboy")
    with pytest.raises(ConfigError, match="dtype 'int8' of acting must be one of"):
        load_for_play(Checkpoint.find(run_dir), "cpu", "int8")


# ---- identity


@pytest.mark.parametrize("model", [TINY, "gemma_tiny_entity.gin", "gemma_tiny_words.gin"])
@pytest.mark.parametrize("phrasing", ["natural", "raw"])
def test_an_identity_is_the_same_with_weights_and_without(model: str, phrasing: str) -> None:
    binding = f"GemmaTstepEncoder.phrasing = '{phrasing}'"
    resolve.load(model, None, [*SMALL[:1], binding])
    view = BattleView.default()
    agent: Any = configurable(EXPERIMENT)().build_agent(view)
    identity = RunIdentity.of(view, agent.tstep_encoder)
    hollow: Any = build_without_weights(view)
    assert identity == RunIdentity.of(view, hollow.tstep_encoder)
    assert (identity.phrasing, identity.obs_space) == (phrasing, view.obs_space.name)
    assert identity.granularity == ("turn" if model == TINY else "entity")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunIdentity)])
def test_two_identities_that_differ_are_refused_with_both_values(name: str) -> None:
    resolve.load(TINY, None, SMALL)
    own = identity_of(BattleView.default())
    own.require(own, "run")
    other = dataclasses.replace(own, **{name: "another"})
    said = f"run was trained with {name} 'another', but this run uses '{getattr(own, name)}'"
    with pytest.raises(CheckpointMismatchError, match=said):
        other.require(own, "run")
