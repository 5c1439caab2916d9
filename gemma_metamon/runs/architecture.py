"""What a configuration would build, counted without building its weights."""

from dataclasses import asdict
from typing import Any

from torch import nn

from gemma_metamon.nets.agents.copies import COPIES
from gemma_metamon.nets.heads.critics import NCriticsTwoHot
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.runs.experiment import build_without_weights
from gemma_metamon.view import BattleView

PARTS = (
    "tstep_encoder",
    "traj_encoder",
    "actor",
    "critics",
    "popart",
    "target_actor",
    "target_critics",
    "maximized_critics",
    "state_critics",
)


def describe_architecture(view: BattleView) -> dict[str, Any]:
    """Widths, layers and parameter counts of the agent that the loaded gin configuration builds for `view`.

    The agent is made on torch's meta device: no memory, no download. A frozen or target parameter counts in `total`
    and not in `trainable`; what copies share is in the `total` of each of them, and once in that of the whole.
    """
    agent: Any = build_without_weights(view)
    trained = {id(parameter) for parameter in agent.trainable_parameters()}
    parts = [part for part in (*PARTS, *COPIES) if hasattr(agent, part)]
    parameters = {part: count_parameters(getattr(agent, part), trained) for part in parts}
    parameters["whole"] = count_parameters(agent, trained)
    encoder = agent.tstep_encoder
    of_gemma = isinstance(encoder, GemmaTstepEncoder)
    return {
        **({"text_dim": encoder.text_emb_dim, "numerical_dim": encoder.numerical_emb_dim} if of_gemma else {}),
        "timestep_dim": encoder.emb_dim,
        "trajectory_dim": agent.traj_encoder.emb_dim,
        "trajectory_layers": agent.traj_encoder.n_layers,
        "critics": len(agent.critics),
        **(asdict(agent.critics.bins) if isinstance(agent.critics, NCriticsTwoHot) else {}),
        "actions": agent.action_dim,
        "discounts": agent.discounts,
        "parameters": parameters,
    }


def count_parameters(module: nn.Module, trained: set[int]) -> dict[str, int]:
    """How many numbers a module holds; `trained` has the ids of the parameters that an optimizer changes."""
    parameters = list(module.parameters())
    return {
        "total": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if id(p) in trained),
    }
