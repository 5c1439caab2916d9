"""Reading the numbers that AMAGO computed, building the modules that they belong to, replaying recorded draws."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gemma_metamon.nets.actors import MetamonMaskedActor
from gemma_metamon.nets.agents import MultiTaskAgent
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.critics import NCriticsTwoHot
from gemma_metamon.nets.draws import Draws
from gemma_metamon.nets.filters import binary_filter, exp_filter, leaky_relu_filter
from gemma_metamon.nets.traj_encoder import TformerTrajEncoder

ROOT = Path(__file__).parent / "goldens" / "amago"


class Golden:
    """One file: `golden["outputs/loss"]` is a tensor, `golden.group("params")` a dict, `golden.config` the settings."""

    def __init__(self, name: str, root: Path = ROOT) -> None:
        with np.load(root / f"{name}.npz") as file:
            self.config: dict[str, Any] = json.loads(str(file["config"]))
            self.arrays = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind != "U"}
            names = [str(name) for name in file["grad_norm_names"]] if "grad_norm_names" in file.files else []
        self.grad_norms = dict(zip(names, self.arrays.get("grad_norms", ()), strict=True))

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def group(self, name: str) -> dict[str, Tensor]:
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}


def relative_error(ours: Tensor, golden: Tensor, where: Tensor | None = None) -> float:
    """The largest |difference| / (1 + |golden|), over the entries where `where` (broadcastable) is True."""
    error = (ours.detach() - golden).abs() / (1.0 + golden.abs())
    if where is not None:
        error = error[where.expand_as(error)]
    return float(error.max())


class RecordedDraws(Draws):
    """Hands out recorded draws instead of random ones."""

    def __init__(self, recorded: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.samples = [recorded[name] for name in ("next_action_samples", "policy_action_samples") if name in recorded]
        self.subsets = [recorded[name] for name in recorded if name == "critic_subset"]
        self.noise = [recorded[name] for name in sorted(recorded) if name.startswith("gumbel_noise")]

    def action_samples(self, probs: Tensor, num_samples: int) -> Tensor:
        return self.samples.pop(0).long()

    def critic_subset(self, num_critics: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        return self.subsets.pop(0).long()

    def gumbel_noise(self, logits: Tensor) -> Tensor:
        return self.noise.pop(0)

    def all_used(self) -> bool:
        return not (self.samples or self.subsets or self.noise)


class LinearTstepEncoder(nn.Module):
    """The goldens' timestep encoder: one linear layer over numbers and rl2s."""

    def __init__(self, obs_space: Mapping[str, Any], rl2_space: Any, emb_dim: int = 24) -> None:
        super().__init__()
        self.emb_dim = emb_dim
        self.linear = nn.Linear(obs_space["numbers"].shape[0] + rl2_space.shape[0], emb_dim)

    def forward(self, obs: Mapping[str, Tensor], rl2s: Tensor, log_dict: dict[str, Any] | None = None) -> Tensor:
        out: Tensor = self.linear(torch.cat((obs["numbers"], rl2s), dim=-1))
        return out


FILTERS = {
    "binary": binary_filter,
    "exp": functools.partial(exp_filter, beta=1.0, clip_weights_high=100.0),
    "leaky": functools.partial(
        leaky_relu_filter, beta=0.5, tau=0.01, neg_slope=0.05, clip_weights_low=1e-3, clip_weights_high=15.0
    ),
}


def build_agent(config: Mapping[str, Any], **options: Any) -> MultiTaskAgent:
    """The goldens' small agent; `config` is that of its params file."""
    actions, critic = config["actions"], config["critic"]
    return MultiTaskAgent(
        {"numbers": SimpleNamespace(shape=(config["numbers"],))},
        SimpleNamespace(shape=(1 + actions,)),
        SimpleNamespace(n=actions),
        functools.partial(LinearTstepEncoder, emb_dim=config["tstep_dim"]),
        functools.partial(TformerTrajEncoder, **config["traj_encoder"]),
        max_seq_len=config["length"],
        num_critics=config["num_critics"],
        num_critics_td=config["num_critics_td"],
        reward_multiplier=config["reward_multiplier"],
        tau=config["tau"],
        num_actions_for_value_in_critic_loss=config["K_c"],
        num_actions_for_value_in_actor_loss=config["K_a"],
        actor_type=functools.partial(MetamonMaskedActor, **config["actor"]),
        critic_type=functools.partial(NCriticsTwoHot, **critic),
        pass_obs_keys_to_actor=["illegal_actions"],
        **options,
    )


def load_agent(setting: str, amago_version: str = "3.3", **options: Any) -> MultiTaskAgent:
    """The agent of il, binary_rl, exp_rl, leaky_rl or binary_maxq_rl with the golden weights, in training mode."""
    params = Golden("multitask_params")
    weights = params.group("params")
    if setting == "il":
        weights |= Golden("multitask_params_il").group("params")
    config = Golden(f"multitask_{setting}_3.1").config
    names = ("fake_filter", "online_coeff", "offline_coeff", "use_multigamma")
    agent = build_agent(
        params.config,
        amago_version=amago_version,
        **{"fbc_filter_func": FILTERS[config["filter"]]} | {name: config[name] for name in names} | options,
    )
    load_params(agent, weights)
    return agent.train()


def load_params(agent: MultiTaskAgent, weights: dict[str, Tensor]) -> None:
    """Strictly; the maximized critics start as copies of the critics."""
    weights = dict(weights)
    if agent.maximized_critics is not None:
        for key in [key for key in weights if key.startswith("critics.")]:
            weights[f"maximized_{key}"] = weights[key]
    agent.load_state_dict(weights)


def golden_batch() -> Batch:
    return batch_of(Golden("multitask_batch").group("batch"))


def batch_of(arrays: Mapping[str, Tensor]) -> Batch:
    obs = {key.removeprefix("obs."): value for key, value in arrays.items() if key.startswith("obs.")}
    return Batch(obs, *(arrays[name] for name in ("rl2s", "rews", "dones", "actions", "time_idxs")))
