"""All of Gemma trained: no adapters, float32, in every checkpoint, resumed exactly, what it needs computed."""

from pathlib import Path

import pytest
import torch
from support.small_agent import train_command
from training_memory import training_bytes

from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.runs import resolve
from gemma_metamon.runs.architecture import describe_architecture
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.view import BattleView

FULL = "gemma_synthetic_multitaskagent_full.gin"


def test_all_of_the_reader_trains_in_float32() -> None:
    resolve.load(FULL, "binary_rl.gin")
    counts = describe_architecture(BattleView.default())["parameters"]["tstep_encoder"]
    assert counts["total"] == counts["trainable"]
    with torch.device("meta"):
        agent = configurable(EXPERIMENT)().build_agent(BattleView.default())
    assert {parameter.dtype for parameter in agent.parameters()} == {torch.float32}
    assert not [name for name, _ in agent.named_parameters() if "lora_" in name]
    assert len(configurable(EXPERIMENT)().build_optimizer(agent).param_groups) == 1


@pytest.mark.parametrize("chunk", ["None", "64"])
def test_it_recomputes_saves_gemma_and_resumes_exactly(chunk: str, tmp_path: Path) -> None:
    """`64`: every chunk of activations is recomputed in the backward pass."""
    small = ["GemmaTstepEncoder.pretrained = False", f"GemmaTstepEncoder.encoder_chunk_tokens = {chunk}"]
    small += ["GemmaTstepEncoder.fusion_heads = 2"]
    command = train_command(tmp_path, *(word for line in small for word in ("--gin_override", line)), model=FULL)
    assert main([*command, "--epochs", "2"]) == 0
    assert main([*command, "--run_name", "stopped"]) == 0
    assert main([*command, "--run_name", "stopped", "--ckpt", "1", "--epochs", "2"]) == 0
    (whole, _), (stopped, _) = (load_agent(Checkpoint(tmp_path / name, 2), "cpu") for name in ("run", "stopped"))
    for name, weight in whole.state_dict().items():
        assert torch.equal(stopped.state_dict()[name], weight), name
    first, last = (Checkpoint(tmp_path / "run", epoch).read_weights() for epoch in (0, 2))
    layers = [name for name in first if name.startswith("tstep_encoder.backbone.")]
    assert layers
    assert all(not torch.equal(first[name], last[name]) for name in layers if name.endswith("q_proj.weight"))


def test_the_computed_memory_is_that_of_a_real_optimizer() -> None:
    computed = training_bytes("gemma_tiny_multitaskagent.gin")
    resolve.load("gemma_tiny_multitaskagent.gin")
    experiment = configurable(EXPERIMENT)()
    agent = experiment.build_agent(BattleView.default())
    optimizer = experiment.build_optimizer(agent)
    for parameter in agent.trainable_parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moments = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.ndim)
    assert computed["moments"] == moments
    assert computed["gradients"] == sum(p.grad.nbytes for p in agent.parameters() if p.grad is not None)
    assert computed["weights"] == sum(t.nbytes for t in agent.state_dict().values())
