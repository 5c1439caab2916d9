"""Trainings with the options that are ours, bound by gin: they run, and a resumed one equals one that never stopped."""

from pathlib import Path

import pytest
from support.run_files import changed, metrics, weights
from support.small_agent import train_command

from gemma_metamon.commands import main

LEVERS = {
    "target": [
        "MultiTaskAgent.advantage = 'target'",
        "MultiTaskAgent.lambda_return = 0.9",
        "MultiTaskAgent.use_multigamma = False",
        "MultiTaskAgent.critics_train_trunk = False",
        "MultiTaskAgent.critic_warmup_updates = 3",
    ],
    "above the state": [
        "MultiTaskAgent.baseline = 'state'",
        "MultiTaskAgent.lambda_return = 1.0",
        "MultiTaskAgent.use_multigamma = False",
        "MultiTaskAgent.fbc_filter_func = @ISAdvantageFilter()",
        "ISAdvantageFilter.seq_p_low = 0.2",
        "ISAdvantageFilter.seq_p_full = 0.7",
        "ISAdvantageFilter.seq_warmup = 4",
    ],
    "many steps": [
        "MultiTaskAgent.n_step = 20",
        "MultiTaskAgent.critic_warmup_updates = 2",
        "MultiTaskAgent.critic_warmup = 'wait'",
    ],
}


@pytest.mark.parametrize("levers", LEVERS)
def test_a_resumed_run_with_levers_equals_one_that_never_stopped(
    tmp_path: Path, levers: str, caplog: pytest.LogCaptureFixture
) -> None:
    bound = [word for override in LEVERS[levers] for word in ("--gin_override", override)]
    steps = ["--steps_per_epoch", "2", "--log_interval", "1"]
    for folder, *flags in (("whole", "3"), ("parts", "1"), ("parts", "3", "--ckpt", "1")):
        assert main(train_command(tmp_path / folder, *bound, *steps, "--epochs", *flags)) == 0
    whole, parts = tmp_path / "whole" / "run", tmp_path / "parts" / "run"
    assert not changed(weights(whole, 3), weights(parts, 3))
    assert "has no memory" not in caplog.text
    shares = metrics(whole, "filter_mean")
    if levers == "target":
        assert shares[:3] == pytest.approx([1.0] * 3)  # imitation until the middle of an epoch
        assert shares[3] < 0.99
    elif levers == "many steps":
        assert [loss > 0.0 for loss in metrics(whole, "loss/actor")[:3]] == [False, False, True]
        assert 0.0 < shares[2] < 1.0
