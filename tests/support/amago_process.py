"""Run as a program, where amago is: its own agent over our encoder loads an exported file and says what it would play.

    python tests/support/amago_process.py FOLDER

FOLDER holds build.json, policy.pt and inputs.safetensors, and gets probs.safetensors and resaved.pt. A process of its
own, because amago's names in gin and the embedded ones exclude each other.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import amago.agent
import gymnasium
import numpy as np
import torch
from amago.nets import actor_critic, traj_encoders, transformer
from safetensors.torch import load_file, save_file

from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder


def box(width: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-np.inf, np.inf, shape=(width,))


def build_agent(
    widths: dict[str, int], agent: str, critic: str, num_critics: int, parameters: dict[str, dict[str, Any]]
) -> Any:
    return getattr(amago.agent, agent)(
        obs_space=gymnasium.spaces.Dict({name: box(widths[name]) for name in ("numbers", "text_tokens")}),
        rl2_space=box(widths["rl2s"]),
        action_space=gymnasium.spaces.Discrete(widths["rl2s"] - 1),
        max_seq_len=parameters["MetamonAMAGOExperiment"]["max_seq_len"],
        tstep_encoder_type=functools.partial(GemmaTstepEncoder, **parameters["GemmaTstepEncoder"]),
        traj_encoder_type=functools.partial(
            traj_encoders.TformerTrajEncoder,
            **parameters["TformerTrajEncoder"],
            attention_type=transformer.VanillaAttention,
        ),
        actor_type=functools.partial(actor_critic.Actor, **parameters["Actor"]),
        critic_type=functools.partial(getattr(actor_critic, critic), **parameters[critic]),
        num_critics=num_critics,
    )


@torch.no_grad()
def main(folder: Path) -> None:
    torch.compiler.set_stance("force_eager")
    inputs = load_file(folder / "inputs.safetensors")
    widths = {name: array.shape[-1] for name, array in inputs.items()}
    agent = build_agent(widths, **json.loads((folder / "build.json").read_text()))
    policy = torch.load(folder / "policy.pt", weights_only=True)
    if [*policy] != [*agent.state_dict()]:
        sys.exit("the entries are not amago's, in amago's order")
    agent.load_state_dict(policy, strict=True)
    agent.eval()
    B, L, _ = inputs["rl2s"].shape
    memory = agent.traj_encoder.init_hidden_state(B, torch.device("cpu"))
    steps = []
    for t in range(L):  # amago acts step by step only
        now = {name: array[:, t : t + 1] for name, array in inputs.items()}
        tstep = agent.tstep_encoder(now, now["rl2s"])  # (B, 1, tstep_dim)
        state, memory = agent.traj_encoder(tstep, now["time_idxs"], memory)  # (B, 1, state_dim)
        steps.append(agent.actor(state).probs[:, :, -1])  # (B, 1, A), of the discount that acts
    torch.save(agent.state_dict(), folder / "resaved.pt")  # as amago writes its checkpoints
    save_file({"probs": torch.cat(steps, dim=1)}, folder / "probs.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
