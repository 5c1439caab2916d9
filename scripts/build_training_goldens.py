"""How metamon's trainings of 2026 compute: `python scripts/build_training_goldens.py`, where metamon and amago are.

With metamon 1.6.0 (and amago 48eea05, which must call itself 3.4.0) it writes trainings, batch_filters and hlgauss in
tests/goldens/amago/amago-3.3.0; with 1.5.1 (amago 3.1.2) trainings in amago-3.1.1. What goes in is made by
tests/support/golden_recipe.py or lies in the goldens; the training configs are metamon's own files. CPU, float32, one
thread.
"""

import functools
import importlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import amago
import gin
import gymnasium as gym
import metamon
import numpy as np
import torch
from amago.loading import Batch
from amago.nets import actor_critic, policy_dists, traj_encoders, transformer, tstep_encoders
from metamon.rl import TRAINING_CONFIG_DIR, metamon_to_amago

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
recipe = importlib.import_module("support.golden_recipe")
GOLDENS = ROOT / "tests" / "goldens" / "amago"
HOME = GOLDENS / "amago-3.1.1" / "agent" / "multitask_seed0"
AGENTS_HAVE_WEIGHT = hasattr(amago.agent.Agent, "edit_actor_mask")
TRAININGS = {
    "kakuna": [],
    "alakazam_bnorm_beta3": [],
    # 100,000 steps of warm-up would leave every battle's weight at 1
    "alakazam3_isfilter": ["custom_agent.ISAdvantageFilter.seq_floor_warmup_steps = 100"],
    "alakazam_bnorm_beta3_hlgauss": [],
}
PARTS = ("tstep_encoder", "traj_encoder", "actor", "critics")
GRADIENTS = ("actor.base.out_layer.bias", "critics.net.inp_layer.bias", "tstep_encoder.linear.bias")


class LinearTstepEncoder(tstep_encoders.TstepEncoder):
    """One linear layer over numbers and rl2s, as in the goldens of whole agents."""

    def __init__(self, obs_space: Any, rl2_space: Any, emb_dim: int = 24) -> None:
        super().__init__(obs_space=obs_space, rl2_space=rl2_space)
        self._emb_dim = emb_dim
        self.linear = torch.nn.Linear(obs_space["numbers"].shape[0] + rl2_space.shape[0], emb_dim)

    @property
    def emb_dim(self) -> int:
        return self._emb_dim

    def inner_forward(self, obs: Any, rl2s: Any, log_dict: Any = None) -> Any:
        return self.linear(torch.cat((obs["numbers"], rl2s), dim=-1))


def load(path: Path, group: str) -> dict[str, torch.Tensor]:
    with np.load(path) as file:
        return {k.removeprefix(f"{group}/"): torch.from_numpy(file[k]) for k in file.files if k.startswith(group)}


def box(*shape: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, shape, np.float32)


def build_agent(sizes: dict[str, Any]) -> Any:
    traj = functools.partial(
        traj_encoders.TformerTrajEncoder, **sizes["traj_encoder"], attention_type=transformer.VanillaAttention
    )
    critic = {name: value for name, value in sizes["critic"].items() if name != "output_bins"}
    agent = amago.agent.MultiTaskAgent(
        obs_space=gym.spaces.Dict({"numbers": box(sizes["numbers"])}),
        rl2_space=box(1 + sizes["actions"]),
        action_space=gym.spaces.Discrete(sizes["actions"]),
        tstep_encoder_type=functools.partial(LinearTstepEncoder, emb_dim=sizes["tstep_dim"]),
        traj_encoder_type=traj,
        max_seq_len=sizes["length"],
        num_critics=sizes["num_critics"],
        num_critics_td=sizes["num_critics_td"],
        actor_type=functools.partial(metamon_to_amago.MetamonMaskedActor, **sizes["actor"]),
        critic_type=functools.partial(actor_critic.NCriticsTwoHot, **critic),
        pass_obs_keys_to_actor=["illegal_actions"],
    )
    agent.load_state_dict(recipe.weights(load(HOME / "params.npz", "params"), agent.state_dict()))
    return agent.train()


def read_batch() -> Batch:
    arrays = load(HOME / "batch.npz", "batch")
    obs = {name.removeprefix("obs."): arrays.pop(name) for name in [*arrays] if name.startswith("obs.")}
    recipe.end_in_mid_battle(obs)
    return Batch(obs=obs, **arrays)


class Watched:
    """A filter that keeps what it was given and gave; everything else about it is the filter's own."""

    def __init__(self, filter_: Any, seen: dict[str, torch.Tensor]) -> None:
        self._filter = filter_
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._filter, name)

    def __call__(self, advantage: torch.Tensor) -> torch.Tensor:
        weights = self._filter(advantage)
        self._seen |= {"mid/advantage": advantage.clone(), "mid/filter": weights.float().clone()}
        return weights


@contextmanager
def watching(agent: Any, seen: dict[str, torch.Tensor]) -> Iterator[None]:
    """Keeps the draws and what is computed on the way; the Gumbel noise comes from the recipe."""
    names = iter(("draws/next_action_samples", "draws/policy_action_samples"))
    noise = iter(range(100))
    sample, randint, update = policy_dists.DiscreteLikeContinuous.sample, torch.randint, agent.popart.update_stats

    def drawn(self: Any, *args: Any) -> torch.Tensor:
        actions = sample(self, *args)
        seen[next(names)] = actions.argmax(-1).to(torch.uint8)
        return actions

    def subset(*args: Any, **options: Any) -> torch.Tensor:
        chosen = randint(*args, **options)
        seen["draws/critic_subset"] = chosen.to(torch.uint8)
        return chosen

    def exponential(self: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return self.copy_(torch.exp(-recipe.gumbel_noise(next(noise), *self.shape)))

    def update_stats(target: torch.Tensor, *args: Any, **options: Any) -> Any:
        seen["mid/td_target"] = target.clone()
        return update(target, *args, **options)

    with ExitStack() as stack:
        stack.enter_context(patch.object(policy_dists.DiscreteLikeContinuous, "sample", drawn))
        stack.enter_context(patch.object(torch, "randint", subset))
        stack.enter_context(patch.object(torch.Tensor, "exponential_", exponential))
        stack.enter_context(patch.object(agent.popart, "update_stats", update_stats))
        yield


def loss_of(agent: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss as metamon's own experiment has it computed, which tells masks to agent and filter."""
    experiment = metamon_to_amago.MetamonAMAGOExperiment.__new__(metamon_to_amago.MetamonAMAGOExperiment)
    experiment.accelerator = SimpleNamespace(unwrap_model=lambda model: model)
    experiment.policy_aclr = agent
    if not AGENTS_HAVE_WEIGHT:
        terms = experiment.compute_loss(batch, log_step=False)
        weight = gin.query_parameter("MetamonAMAGOExperiment.critic_loss_weight")
        return terms["Actor Loss"] + weight * terms["Critic Loss"], terms
    with (
        patch.object(amago.Experiment, "init_model", lambda self: None),
        patch.object(amago.Experiment, "train_step", lambda self, batch, log_step: agent(batch, log_step)),
    ):
        experiment.init_model()
        total = experiment.train_step(batch, log_step=False)
    return total, agent.update_info


def record_training(name: str, overrides: list[str]) -> dict[str, Any]:
    with np.load(HOME / "params.npz") as file:
        sizes = json.loads(str(file["config"]))
    gin.clear_config()
    gin.bind_parameter("NCriticsTwoHot.output_bins", sizes["critic"]["output_bins"])
    gin.parse_config_file(str(Path(TRAINING_CONFIG_DIR) / f"{name}.gin"))
    gin.parse_config(overrides)
    agent, batch = build_agent(sizes), read_batch()
    if hasattr(agent.fbc_filter_func, "set_seq_mask"):
        for number in range(recipe.WARM_BATCHES):
            agent.fbc_filter_func.set_seq_mask(torch.ones(4, 5, 1, dtype=torch.bool))
            agent.fbc_filter_func(recipe.warm_advantages(number, len(agent.gammas)))
    seen: dict[str, torch.Tensor] = {}
    agent.fbc_filter_func = Watched(agent.fbc_filter_func, seen)
    torch.manual_seed(0)
    with watching(agent, seen):
        total, terms = loss_of(agent, batch)
    total.backward()
    gradients = {key: parameter.grad for key, parameter in agent.named_parameters() if parameter.grad is not None}
    seen |= {
        "outputs/loss": total,
        "outputs/actor_loss_masked_mean": terms["Actor Loss"],
        "outputs/critic_loss_masked_mean": terms["Critic Loss"],
        **{f"grads/{key}": gradients[key] for key in GRADIENTS},
        **{f"outputs/grad_norm_{part}": norm_of(gradients, part) for part in PARTS},
        "after/popart_mu": agent.popart.mu,
        "after/popart_nu": agent.popart.nu,
    }
    config = {"training": name, "overrides": overrides, "output_bins": agent.critics.num_bins, "sizes": sizes}
    return {"config": config, **seen}


def norm_of(gradients: dict[str, torch.Tensor], part: str) -> torch.Tensor:
    return torch.nn.utils.get_total_norm([g for key, g in gradients.items() if key.startswith(f"{part}.")])


def record_filters() -> dict[str, Any]:
    from metamon.rl.custom_agent import ISAdvantageFilter

    gin.clear_config()
    normalised = metamon_to_amago.BatchNormalizedExpFilter
    seq = {"seq_p_low": 0.2, "seq_p_full": 0.7, "seq_floor": 0.1, "seq_floor_warmup_steps": 30}
    options: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "BatchNormalizedExpFilter_default": (normalised, {}),
        "BatchNormalizedExpFilter_beta3": (normalised, {"beta": 3.0, "clip_weights_low": 1e-6}),
        "BatchNormalizedExpFilter_unclipped": (normalised, {"clip_weights_low": None, "clip_weights_high": None}),
        "ISAdvantageFilter_default": (ISAdvantageFilter, {}),
        # so small a buffer goes round four times
        "ISAdvantageFilter_battles": (ISAdvantageFilter, {**seq, "seq_buffer_size": 50, "seq_warmup": 20}),
        "ISAdvantageFilter_smaller_than_a_batch": (ISAdvantageFilter, {**seq, "seq_buffer_size": 4, "seq_warmup": 4}),
    }
    results = {}
    for name, (kind, given) in options.items():
        filter_, weights = kind(**given), []
        for number in range(recipe.FILTER_BATCHES):
            adv, recorded, real, ratio = recipe.filter_batch(number)
            filter_.set_mask(recorded)
            if kind is ISAdvantageFilter:
                filter_.set_delta_log(ratio if number % 2 else None)
                filter_.set_seq_mask(real)
            weights.append(filter_(adv))
        results[f"outputs/{name}"] = torch.stack(weights)
    return {"config": {"filters": {name: [kind.__name__, given] for name, (kind, given) in options.items()}}, **results}


def record_hlgauss() -> dict[str, Any]:
    gin.clear_config()
    options = {"num_critics": 2, "d_hidden": 8, "min_return": -1100, "max_return": 1100, "output_bins": 256}
    options |= {"use_symlog": False, "label_type": "hlgauss"}
    critics = actor_critic.NCriticsTwoHot(4, 3, torch.tensor([0.992]), discrete=True, **options)
    returns, logits = recipe.hlgauss_returns(), recipe.normal("logits", 90, 256, scale=2.0)
    logits = logits.requires_grad_()
    labels = critics.raw_vals_to_labels(returns)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    loss.sum().backward()
    decode = critics.bin_dist_to_raw_vals
    categorical = torch.distributions.Categorical
    return {
        "config": options,
        "outputs/labels": labels,
        "outputs/loss": loss,
        "outputs/grad_logits": logits.grad,
        "outputs/decoded_logits": decode(categorical(logits=logits.detach())),
    }


def save(folder: str, name: str, arrays: dict[str, Any]) -> None:
    versions = {name: importlib.metadata.version(name) for name in ("amago", "torch")}
    versions["metamon"] = metamon.__version__
    path = GOLDENS / folder / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    config = json.dumps({**arrays.pop("config"), "versions": versions})
    tensors = {key: value.detach().numpy() for key, value in arrays.items()}
    np.savez_compressed(path, config=np.array(config), **tensors)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.compiler.set_stance("force_eager")
    folder = "amago-3.3.0" if AGENTS_HAVE_WEIGHT else "amago-3.1.1"
    for name, overrides in TRAININGS.items():
        if (Path(TRAINING_CONFIG_DIR) / f"{name}.gin").is_file():
            save(f"{folder}/trainings", name, record_training(name, overrides))
    if AGENTS_HAVE_WEIGHT:
        save(f"{folder}/batch_filters", "in_a_row", record_filters())
        save(f"{folder}/hlgauss", "hlgauss_256", record_hlgauss())
