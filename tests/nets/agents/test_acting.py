"""An agent made ready to play decides as before, without adapters; in bfloat16 nearly so."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.encoders import build, make_batch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.acting import prepare_to_act, share_texts
from gemma_metamon.nets.timestep import TimestepEncoder
from gemma_metamon.nets.trajectory.traj_encoder import SigmaReparam, TformerTrajEncoder


def make_agent(**options: Any) -> Any:
    """An encoder whose adapters do something, and a trajectory transformer."""
    encoder = build(**options)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    torch.manual_seed(1)
    traj = TformerTrajEncoder(encoder.emb_dim, 8, d_model=32, n_heads=4, d_ff=64, n_layers=2)
    return nn.ModuleDict({"tstep_encoder": encoder, "traj_encoder": traj}).eval()


def as_agent(modules: Any) -> Any:
    return SimpleNamespace(tstep_encoder=modules["tstep_encoder"], traj_encoder=modules["traj_encoder"])


@torch.no_grad()
def states(modules: Any) -> Tensor:
    obs, rl2s = make_batch()
    tsteps = modules["tstep_encoder"](obs, rl2s)
    cache = modules["traj_encoder"].init_cache(len(tsteps))
    rows = torch.arange(len(tsteps))
    steps = [
        modules["traj_encoder"].step(tsteps[:, t], torch.full((len(tsteps), 1), t), cache, rows)
        for t in range(tsteps.shape[1])
    ]
    return torch.stack(steps, 1)


def test_merged_adapters_decide_the_same() -> None:
    agent = make_agent()
    before = states(agent)
    without = copy.deepcopy(agent)
    with torch.no_grad():
        for name, parameter in without.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    assert (states(without) - before).abs().max() > 1e-2, "the adapters do nothing"
    prepare_to_act(as_agent(agent))
    assert not any("lora" in name for name, _ in agent.named_modules())
    torch.testing.assert_close(states(agent), before, rtol=0, atol=1e-5)


def test_twice_is_once() -> None:
    agent = make_agent()
    prepare_to_act(as_agent(agent))
    once = states(agent)
    prepare_to_act(as_agent(agent))
    torch.testing.assert_close(states(agent), once, rtol=0, atol=0)


def test_texts_read_before_are_forgotten() -> None:
    agent = make_agent(text_cache_mb=1)
    states(agent)
    held = len(agent["tstep_encoder"].reader.cache)
    prepare_to_act(as_agent(agent))
    states(agent)
    assert agent["tstep_encoder"].reader.cache.misses == 2 * held


def test_bfloat16_rounds_the_large_weights_and_nothing_else() -> None:
    agent = make_agent()
    before = states(agent)
    prepare_to_act(as_agent(agent), "bfloat16")
    rounded = [layer.weight for layer in agent["traj_encoder"].modules() if isinstance(layer, SigmaReparam)]
    rounded += list(agent["tstep_encoder"].backbone.parameters())
    assert all(weight.dtype == torch.bfloat16 for weight in rounded)
    others = {id(p) for p in agent.parameters()} - {id(p) for p in rounded}
    assert all(p.dtype == torch.float32 for p in agent.parameters() if id(p) in others)
    after = states(agent)
    assert after.dtype == torch.float32
    assert (after - before).abs().max() > 1e-5
    assert torch.cosine_similarity(after.flatten(), before.flatten(), dim=0) > 0.995


def test_bfloat16_weights_stay_unmerged() -> None:
    """A merged sum would be rounded once more than what was trained."""
    agent = make_agent(dtype="bfloat16")
    before = states(agent)
    prepare_to_act(as_agent(agent))
    assert any("lora" in name for name, _ in agent.named_modules())
    torch.testing.assert_close(states(agent), before, rtol=0, atol=0)


class OwnEncoder(TimestepEncoder):
    """Somebody's, whose backbone is no Gemma."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 4)


def test_an_encoder_without_gemma_stays_as_it_is() -> None:
    agents = [SimpleNamespace(tstep_encoder=OwnEncoder(), traj_encoder=nn.Identity()) for _ in range(2)]
    for agent in agents:
        prepare_to_act(agent, "bfloat16")
        assert agent.tstep_encoder.backbone.weight.dtype == torch.float32
    share_texts(agents)
    assert agents[0].tstep_encoder.backbone is not agents[1].tstep_encoder.backbone


def test_another_dtype_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dtype 'int8' of acting"):
        prepare_to_act(as_agent(make_agent()), "int8")
