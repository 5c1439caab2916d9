"""bfloat16 while training: nearly the same losses, float32 weights, said in the checkpoint, kept on resuming."""

import json
import logging
from pathlib import Path

import pytest
import torch
from support.paths import BATTLE_FILES
from support.small_agent import SMALL, TINY, train_command

from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.errors import ConfigError
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.view import BattleView

BF16 = ["--gin_override", "MetamonAMAGOExperiment.mixed_precision = 'bf16'"]


def losses_of(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines for name in ("loss/actor", "loss/critic") if name in line]


@pytest.mark.slow
def test_it_trains_nearly_as_in_float32_and_resumes_exactly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = train_command(tmp_path, "--log_interval", "1", run_name="plain")
    half = train_command(tmp_path, "--log_interval", "1", *BF16, run_name="half")
    with caplog.at_level(logging.INFO):
        assert main(plain) == 0
        assert "autocast" not in caplog.text
        assert main(half) == 0
    assert "training multiplies in bfloat16 (autocast)" in caplog.text
    float32, bfloat16 = losses_of(tmp_path / "plain"), losses_of(tmp_path / "half")
    assert bfloat16 != float32
    assert bfloat16 == pytest.approx(float32, rel=0.05, abs=0.02)
    agent, meta = load_agent(Checkpoint(tmp_path / "half", 1), "cpu")
    assert {parameter.dtype for parameter in agent.parameters()} == {torch.float32}
    assert "MetamonAMAGOExperiment.mixed_precision = 'bf16'" in meta.config

    assert main([*half, "--ckpt", "1", "--epochs", "2"]) == 0
    assert main([*half, "--run_name", "whole", "--epochs", "2"]) == 0
    stopped, whole = (load_agent(Checkpoint(tmp_path / name, 2), "cpu")[0] for name in ("half", "whole"))
    assert all(torch.equal(whole.state_dict()[name], weight) for name, weight in stopped.state_dict().items())
    with caplog.at_level(logging.WARNING):
        resumed = train_command(tmp_path, "--log_interval", "1", run_name="half")
        assert main([*resumed, "--ckpt", "2", "--epochs", "3"]) == 0
    assert "MetamonAMAGOExperiment.mixed_precision is gone: 'bf16'" in caplog.text


@pytest.mark.parametrize("model", [TINY, "gemma_tiny_lm_actor.gin"])
def test_losses_and_what_critics_say_stay_float32(model: str) -> None:
    resolve.load(model, "binary_rl.gin", SMALL)
    view = BattleView.default()
    agent = configurable(EXPERIMENT)().build_agent(view).train()
    seen = []
    agent.critics.register_forward_hook(lambda _module, _args, out: seen.append(out.dtype))
    agent.actor.register_forward_hook(lambda _module, _args, out: seen.extend([out.probs.dtype, out.logits.dtype]))
    batch = collate([take_window(encode_battle(BATTLE_FILES[0], view), 0, 6)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = agent(batch)
    assert {*seen, losses.actor_loss.dtype, losses.critic_loss.dtype} == {torch.float32}
    (losses.actor_loss + losses.critic_loss).backward()
    assert {parameter.grad.dtype for parameter in agent.trainable_parameters() if parameter.grad is not None} == {
        torch.float32
    }


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("mixed_precision = 'fp16'", r"mixed_precision = 'fp16'"),
        ("mixed_precision = True", r"mixed_precision = True"),
        ("tf32 = 'high'", r"tf32 = 'high'"),
    ],
)
def test_another_precision_is_refused_by_name(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        resolve.load(TINY, "il.gin", [f"MetamonAMAGOExperiment.{override}"])


def test_tf32_is_off_unless_asked_for_and_a_cpu_does_not_say_it() -> None:
    resolve.load(TINY, "il.gin")
    assert configurable(EXPERIMENT)().tf32 is False
    resolve.load(TINY, "il.gin", ["MetamonAMAGOExperiment.tf32 = True"])
    experiment = configurable(EXPERIMENT)()
    assert experiment.describe_precision("cpu") == ""
    assert experiment.describe_precision("cuda") == "; float32 is multiplied as TF32"
