"""Reading the numbers that AMAGO computed, building the modules that they belong to, replaying recorded draws."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from support.paths import GOLDENS
from torch import Tensor, nn

from gemma_metamon.nets.agents.amago2 import Agent, MultiTaskAgent
from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.heads.actors import MetamonMaskedActor
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot
from gemma_metamon.nets.heads.filters import binary_filter, exp_filter, leaky_relu_filter
from gemma_metamon.nets.trajectory.traj_encoder import TformerTrajEncoder
from gemma_metamon.runs.experiment import Experiment

ROOT = GOLDENS / "amago"
FOLDERS = {"3.1": "amago-3.1.1", "3.3": "amago-3.3.0"}
FED = ("params", "inputs", "batch", "draws")
"""What goes into a module; every other array came out of one."""


class Golden:
    """One file: `golden["outputs/loss"]` is a tensor, `golden.group("params")` a dict, `golden.config` the settings.

    Args:
        path: below root, without the ending; `amago-3.3.0/critic/NCriticsTwoHot_seed0`.
        root: a folder that is laid out like tests/goldens/amago.
    """

    def __init__(self, path: str, root: Path = ROOT) -> None:
        self.path = path
        self.root = root
        self.version = "3.3" if path.startswith(FOLDERS["3.3"]) else "3.1"
        with np.load(root / f"{path}.npz") as file:
            self.config: dict[str, Any] = json.loads(str(file["config"]))
            self.arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "config"}

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def group(self, name: str) -> dict[str, Tensor]:
        """The arrays `name/*`. Where a file of 3.3.0 has none to feed in, those of the file of 3.1.1 apply."""
        prefix = f"{name}/"
        found = {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}
        if not found and name in FED and self.version == "3.3":
            older = self.path.replace(FOLDERS["3.3"], FOLDERS["3.1"])
            return Golden(older, self.root).group(name)
        return found

    def results(self) -> list[str]:
        """The names of the arrays that a module of ours should give."""
        return [key for key in self.arrays if key.partition("/")[0] not in FED]


def relative_error(ours: Tensor, golden: Tensor, where: Tensor | None = None) -> float:
    """The largest |difference| / (1 + |golden|), over the entries where `where` (broadcastable) is True."""
    ours, golden = ours.detach().cpu().double(), golden.double()
    # both -inf, as masked outputs are, is no difference
    error = torch.where(ours == golden, 0.0, (ours - golden).abs() / (1.0 + golden.abs()))
    if where is not None:
        error = error[where.expand_as(error)]
    return float(error.max())


def errors(golden: Golden, ours: Mapping[str, Tensor], where: Mapping[str, Tensor] | None = None) -> dict[str, float]:
    """The relative error of every result in the file.

    Args:
        golden: the file.
        ours: name -> our value; names that the file has not are passed over.
        where: name -> True on the entries that mean something, broadcastable to ours. Where upstream's array goes on
            after the end of ours, it is cut.
    """
    where = where or {}
    unknown = [name for name in golden.results() if name not in ours]
    if unknown:
        raise KeyError(f"{golden.path} has results that nothing here gives: {', '.join(unknown)}")
    found = {}
    for name in golden.results():
        expected = golden[name]
        if name in where:
            expected = expected[tuple(slice(length) for length in ours[name].shape)]
        found[name] = relative_error(ours[name], expected, where.get(name))
    return found


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """The gradients of a module as the goldens name them; a norm of -1 says that there is none."""
    found: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        if parameter.grad is None:
            found[f"grad_norms/{name}"] = torch.tensor(-1.0)
        else:
            found |= {f"grads/{name}": parameter.grad, f"grad_norms/{name}": parameter.grad.norm()}
    return found


def experiment(**options: Any) -> Experiment:
    """An experiment for its schedule and optimizer alone; the agent is built elsewhere."""
    return Experiment(agent_type=object, tstep_encoder_type=object, traj_encoder_type=object, max_seq_len=17, **options)


class RecordedDraws(Draws):
    """Hands out recorded draws instead of random ones."""

    def __init__(self, recorded: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.samples = [recorded[name] for name in ("next_action_samples", "policy_action_samples") if name in recorded]
        self.subsets = [recorded[name] for name in recorded if name == "critic_subset"]
        self.noise = [recorded[name] for name in sorted(recorded) if name.startswith("gumbel_noise")]

    def action_samples(self, probs: Tensor, num_samples: int) -> Tensor:
        return self.samples.pop(0).long().to(probs.device)

    def critic_subset(self, num_critics: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        return self.subsets.pop(0).long().to(device)

    def gumbel_noise(self, logits: Tensor) -> Tensor:
        return self.noise.pop(0).to(logits.device)

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


AGENTS = {"multitask": (MultiTaskAgent, NCriticsTwoHot), "agent": (Agent, NCritics)}
FILTERS = {
    "binary": binary_filter,
    "exp": functools.partial(exp_filter, beta=1.0, clip_weights_high=100.0),
    "leaky": functools.partial(
        leaky_relu_filter, beta=0.5, tau=0.01, neg_slope=0.05, clip_weights_low=1e-3, clip_weights_high=15.0
    ),
}


def build_agent(config: Mapping[str, Any], **options: Any) -> Any:
    """The goldens' small agent; `config` is that of its params file."""
    agent_type, critic_type = AGENTS[config["kind"]]
    agent_type = options.pop("agent_type", agent_type)
    actions = config["actions"]
    return agent_type(
        obs_space={"numbers": SimpleNamespace(shape=(config["numbers"],))},
        rl2_space=SimpleNamespace(shape=(1 + actions,)),
        action_space=SimpleNamespace(n=actions),
        tstep_encoder_type=functools.partial(LinearTstepEncoder, emb_dim=config["tstep_dim"]),
        traj_encoder_type=functools.partial(TformerTrajEncoder, **config["traj_encoder"]),
        max_seq_len=config["length"],
        num_critics=config["num_critics"],
        num_critics_td=config["num_critics_td"],
        reward_multiplier=config["reward_multiplier"],
        tau=config["tau"],
        num_actions_for_value_in_critic_loss=config["K_c"],
        num_actions_for_value_in_actor_loss=config["K_a"],
        actor_type=functools.partial(MetamonMaskedActor, **config["actor"]),
        critic_type=functools.partial(critic_type, **config["critic"]),
        pass_obs_keys_to_actor=["illegal_actions"],
        **{"online_coeff": 0.0, "offline_coeff": 1.0} | options,
    )


def load_agent(
    setting: str, amago_version: str = "3.3", *, folder: str = "multitask_seed0", root: Path = ROOT, **options: Any
) -> Any:
    """The agent of il, binary_rl, exp_rl, leaky_rl or binary_maxq_rl with the golden weights, in training mode.

    Args:
        setting: which.
        amago_version: 3.3 or 3.1.
        folder: `multitask_seed<n>` (MultiTaskAgent) or `agent_seed<n>` (Agent).
        root: see Golden.
        options: of the agent, in place of the setting's.
    """
    home = f"{FOLDERS['3.1']}/agent/{folder}"
    params, config = Golden(f"{home}/params", root), Golden(f"{home}/{setting}", root).config
    weights = params.group("params")
    if setting == "il":
        weights |= Golden(f"{home}/params_il", root).group("params")
    names = ("fake_filter", "online_coeff", "offline_coeff", "use_multigamma")
    agent = build_agent(
        params.config,
        amago_version=amago_version,
        **{"fbc_filter_func": FILTERS[config["filter"]]} | {name: config[name] for name in names} | options,
    )
    # the maximized critics are not stored: they start as copies of the critics
    copies = {f"maximized_{key}": value for key, value in weights.items() if key.startswith("critics.")}
    agent.load_state_dict(weights | copies)
    if agent.options.online_coeff > 0:
        agent.maximized_critics.requires_grad_(True)  # as upstream has it in both versions
    return agent.train()


def recorded_draws(setting: str, *, folder: str = "multitask_seed0", root: Path = ROOT) -> RecordedDraws:
    return RecordedDraws(Golden(f"{FOLDERS['3.1']}/agent/{folder}/{setting}", root).group("draws"))


def golden_batch(*, folder: str = "multitask_seed0", root: Path = ROOT) -> Batch:
    return batch_of(Golden(f"{FOLDERS['3.1']}/agent/{folder}/batch", root).group("batch"))


def batch_of(arrays: Mapping[str, Tensor]) -> Batch:
    obs = {key.removeprefix("obs."): value for key, value in arrays.items() if key.startswith("obs.")}
    return Batch(obs, *(arrays[name] for name in ("rl2s", "rews", "dones", "actions", "time_idxs")))
