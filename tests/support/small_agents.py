"""Both agents with one small layer of everything, and battles of random actions for them."""

import functools
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from gemma_metamon.nets.agents.amago2 import Agent, MultiTaskAgent
from gemma_metamon.nets.agents.base import ActorCriticAgent
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.heads.actors import Actor
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot
from gemma_metamon.nets.trajectory.traj_encoder import TformerTrajEncoder

ACTIONS = 4
KINDS = {
    "agent": (Agent, {}),
    "multitask": (MultiTaskAgent, {}),
    "multitask, exact": (MultiTaskAgent, {"value_estimate": "exact"}),
}


class NumbersAlone(nn.Module):
    """A timestep encoder of one linear layer."""

    emb_dim = 16

    def __init__(self, obs_space: Any, rl2_space: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(3, self.emb_dim)

    def forward(self, obs: dict[str, Tensor], rl2s: Tensor) -> Tensor:
        out: Tensor = self.linear(obs["numbers"])
        return out


def build(agent_type: type[ActorCriticAgent], **options: Any) -> Any:
    torch.manual_seed(0)
    critics = {
        Agent: functools.partial(NCritics, d_hidden=32),
        MultiTaskAgent: functools.partial(
            NCriticsTwoHot, d_hidden=32, min_return=-11, max_return=11, output_bins=23, use_symlog=False
        ),
    }
    defaults = {
        "num_critics": 3,
        "online_coeff": 0.0,
        "offline_coeff": 1.0,
        "reward_multiplier": 1.0,
        "critic_type": critics[agent_type],
        "actor_type": functools.partial(Actor, d_hidden=32),
    }
    return agent_type(
        obs_space={"numbers": SimpleNamespace(shape=(3,))},
        rl2_space=SimpleNamespace(shape=(1 + ACTIONS,)),
        action_space=SimpleNamespace(n=ACTIONS),
        tstep_encoder_type=NumbersAlone,
        traj_encoder_type=functools.partial(
            TformerTrajEncoder, d_model=16, n_heads=2, d_ff=32, n_layers=1, dropout_ff=0.0, dropout_emb=0.0
        ),
        max_seq_len=6,
        **(defaults | options),
    )


def random_batch(seed: int, battles: int = 12, decisions: int = 6) -> Batch:
    """Random actions; the reward of a decision is 1 for the action that the first number asks for, else 0."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(battles, decisions + 1, 3, generator=generator)
    chosen = torch.randint(ACTIONS, (battles, decisions), generator=generator)
    best = best_actions(numbers)[:, :-1]
    return Batch(
        {"numbers": numbers},
        torch.zeros(battles, decisions + 1, 1 + ACTIONS),
        (chosen == best).float()[..., None],
        torch.ones(battles, decisions, 1, dtype=torch.bool),
        nn.functional.one_hot(chosen, ACTIONS).float(),
        torch.arange(decisions + 1).expand(battles, -1)[..., None],
    )


def best_actions(numbers: Tensor) -> Tensor:
    return (numbers[..., 0] > 0).long() * 2  # action 2 or action 0
