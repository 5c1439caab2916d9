"""Stages of a training, chained by --init_from: imitation, critics alone on a frozen policy, reinforcement learning."""

from pathlib import Path

import pytest
from support.run_files import changed, metrics, moments, weights
from support.small_agent import train_command

from gemma_metamon.commands import main

POLICY = {"tstep_encoder", "traj_encoder", "actor"}
MANY_DISCOUNTS = ["--gin_override", "MultiTaskAgent.use_multigamma = True"]
WARMUP = "binary_rl_critic_warmup.gin"


def test_three_stages_hand_their_weights_on_and_the_second_leaves_the_policy_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    imitated, judged, learned = (tmp_path / name for name in ("il", "warmup", "rl"))
    steps = ["--steps_per_epoch", "6"]
    assert main(train_command(tmp_path, *steps, *MANY_DISCOUNTS, run_name="il", training="il.gin")) == 0
    dropout = ["--gin_override", "TformerTrajEncoder.dropout_ff = 0.5"]  # a frozen policy has none
    stage = train_command(tmp_path, *steps, *dropout, "--init_from", str(imitated), run_name="warmup", training=WARMUP)
    with caplog.at_level("INFO"):
        assert main(stage) == 0
    assert "the critics train alone, encoders and actor are frozen" in caplog.text
    stage = train_command(tmp_path, *steps, "--init_from", str(judged), run_name="rl")
    assert main(stage) == 0

    # each begins with the weights that the one before ended with, and with no moment of its optimizer
    for earlier, later in ((imitated, judged), (judged, learned)):
        assert not changed(weights(earlier, 1), weights(later, 0))
        assert not moments(later, 0)
    assert changed(weights(judged, 0), weights(judged, 1)) == {
        "critics",
        "target_critics",
        "maximized_critics",
        "target_actor",
        "popart",
    }
    assert changed(weights(learned, 0), weights(learned, 1)) >= POLICY


@pytest.mark.slow
def test_critics_alone_learn_and_their_run_resumes_exactly(tmp_path: Path) -> None:
    command = ["--steps_per_epoch", "12", "--batch_size_per_gpu", "8", "--log_interval", "3"]
    command += ["--gin_override", "MetamonAMAGOExperiment.learning_rate = 3e-3"]

    def train(where: str, *more: str) -> None:
        assert main(train_command(tmp_path / where, *command, *more, training=WARMUP)) == 0

    train("whole", "--epochs", "3")
    train("parts", "--epochs", "2")
    train("parts", "--epochs", "3", "--ckpt", "2")
    whole, parts = tmp_path / "whole" / "run", tmp_path / "parts" / "run"
    assert not changed(weights(whole, 3), weights(parts, 3))
    losses = metrics(whole, "loss/critic")
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert set(metrics(whole, "loss/actor")) == {0.0}
    # only the critics are the optimizer's
    assert len(moments(whole, 3)) == 3 * sum(key.startswith("critics.") for key in weights(whole, 3))


def test_a_run_with_a_frozen_gemma_resumes_exactly(tmp_path: Path) -> None:
    frozen = ["--gin_override", "GemmaTstepEncoder.freeze_base_model = True", "--steps_per_epoch", "6"]
    for where, *more in (["whole", "--epochs", "3"], ["parts", "--epochs", "2"], ["parts", "--epochs", "3"]):
        resumed = ["--ckpt", "2"] if where == "parts" and more[-1] == "3" else []
        assert main(train_command(tmp_path / where, *frozen, *more, *resumed)) == 0
    assert not changed(weights(tmp_path / "whole" / "run", 3), weights(tmp_path / "parts" / "run", 3))


def test_critics_alone_without_a_weight_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    without = ["--gin_override", "MetamonAMAGOExperiment.critic_loss_weight = 0.0"]
    assert main(train_command(tmp_path, *without, training=WARMUP)) == 1
    assert "critic_loss_weight are all 0: nothing would be learned" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after"), [(WARMUP, "binary_rl.gin"), ("binary_rl.gin", WARMUP), ("quick.gin", "exp_rl.gin")]
)
def test_another_stage_is_no_way_to_go_on_and_changes_nothing(
    tmp_path: Path, before: str, after: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path, training=before)) == 0
    config = (tmp_path / "run" / "config.gin").read_text()
    for other in (after, "finetune.gin"):
        assert main(train_command(tmp_path, "--epochs", "2", "--ckpt", "1", training=other)) == 1
        said = capsys.readouterr().err
        assert "epoch_1 was saved by another training than this run's configs describe" in said
        assert f"it was made with --model_gin_config gemma_tiny_multitaskagent.gin --train_gin_config {before}" in said
        assert f"--init_from {tmp_path / 'run'}@1" in said
    assert (tmp_path / "run" / "config.gin").read_text() == config


def test_a_start_of_another_model_is_refused_by_the_name_of_its_config(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path, training="il.gin")) == 0
    start = ["--init_from", str(tmp_path / "run")]
    assert main(train_command(tmp_path, *start, run_name="other")) == 1
    assert "(it was made with --model_gin_config gemma_tiny_multitaskagent.gin --train_gin_config il.gin)" in (
        capsys.readouterr().err
    )


def test_an_override_of_what_no_part_is_made_of_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    switch = "MetamonFinetuneAgent.use_is_correction = True"
    assert main(train_command(tmp_path, "--gin_override", switch)) == 1
    assert "would change nothing: these configs make no MetamonFinetuneAgent" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    parents = "agent.MultiTaskAgent.tau = 0.01"  # what the fine-tuning agent is, too
    assert (
        main(train_command(tmp_path, "--gin_override", parents, "--gin_override", switch, training="finetune.gin")) == 0
    )
