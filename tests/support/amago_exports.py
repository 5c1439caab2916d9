"""Small agents to bring to AMAGO's layout and back: random bits for weights, and the command that imports."""

from pathlib import Path
from typing import Any

import torch
from support.run_files import identity_of
from support.small_agent import SMALL, TINY
from torch import Tensor

from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import Checkpoint, write_checkpoint
from gemma_metamon.runs.identity import CheckpointMeta
from gemma_metamon.upstream import interchange
from gemma_metamon.view import BattleView

AGENTS = {
    "MultiTaskAgent": SMALL,
    "Agent": [
        *SMALL,
        "MetamonAMAGOExperiment.agent_type = @agent.Agent",
        "Agent.actor_type = @MetamonMaskedActor",
        "Agent.pass_obs_keys_to_actor = ['illegal_actions']",
        "Agent.critic_type = @actor_critic.NCritics",
        "NCritics.d_hidden = 16",
    ],
}


DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)


def random_bits(shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Any bits of finite numbers."""
    if dtype == torch.bool:
        return torch.randint(2, shape, generator=generator).bool()
    n_bytes = shape.numel() * torch.empty((), dtype=dtype).element_size()
    drawn = torch.randint(256, (n_bytes,), generator=generator, dtype=torch.uint8).view(dtype).reshape(shape)
    return torch.where(drawn.isfinite(), drawn, 1)  # a checkpoint whose numbers are not is refused


def write_run(
    run_dir: Path, *, agent: str = "MultiTaskAgent", epoch: int = 1, seed: int = 0, **meta: Any
) -> Checkpoint:
    """A checkpoint of a small agent, with random bits in many dtypes for weights; its configuration is left in gin."""
    resolved, view = resolve.load(TINY, None, AGENTS[agent]), BattleView.default()
    generator = torch.Generator().manual_seed(seed)
    weights = {
        key: random_bits(tensor.shape, DTYPES[(i + seed) % len(DTYPES)], generator)
        for i, (key, tensor) in enumerate(interchange.expected_weights(view).items())
    }
    known = {"identity": identity_of(view), "config": resolved.text, "epoch": epoch, "updates": 7, "draws": 14}
    return write_checkpoint(run_dir, CheckpointMeta(**{**known, "settings": {}, **meta}), weights)


def import_command(file: Path, save_dir: Path, *extra: str) -> list[str]:
    return ["import", "--from", "amago", str(file), "--save_dir", str(save_dir), "--run_name", "imported", *extra]
