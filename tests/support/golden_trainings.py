"""Goldens of metamon's trainings of 2026 held against ours: whole losses by the packaged configs, filters, HL-Gauss."""

import functools
from collections.abc import Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from support import golden_recipe as recipe
from support.amago_goldens import FOLDERS, Golden, LinearTstepEncoder, RecordedDraws, errors, golden_batch
from torch import Tensor, nn

from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.nets.batch import padded_timesteps
from gemma_metamon.nets.heads import batch_filters
from gemma_metamon.nets.heads.batch_filters import AboutBatch, BatchFilter
from gemma_metamon.nets.heads.critics import NCriticsTwoHot
from gemma_metamon.runs import resolve

TINY = "gemma_tiny_multitaskagent.gin"
PARTS = ("tstep_encoder", "traj_encoder", "actor", "critics")


class RecipeDraws(RecordedDraws):
    """The recorded draws, and the recipe's noise."""

    def __init__(self, recorded: Mapping[str, Tensor]) -> None:
        super().__init__(recorded)
        self.calls = 0

    def gumbel_noise(self, logits: Tensor) -> Tensor:
        self.calls += 1
        return recipe.gumbel_noise(self.calls - 1, *logits.shape)


def compare_training(golden: Golden) -> dict[str, float]:
    """One batch under a packaged training config, with the small agent of the other goldens."""
    config = golden.config
    resolve.load(TINY, f"{config['training']}.gin", config["overrides"])
    agent = _build(config, golden.version)
    home = f"{FOLDERS['3.1']}/agent/multitask_seed0"
    agent.load_state_dict(recipe.weights(Golden(f"{home}/params", golden.root).group("params"), agent.state_dict()))
    agent.train()
    if isinstance(agent.fbc_filter_func, batch_filters.ISAdvantageFilter):
        every = torch.ones(4, 5, 1, 1, dtype=torch.bool)
        for number in range(recipe.WARM_BATCHES):
            agent.fbc_filter_func(recipe.warm_advantages(number, len(agent.gammas)), AboutBatch(every, every))
    batch, draws = golden_batch(root=golden.root), RecipeDraws(golden.group("draws"))
    recipe.end_in_mid_battle(batch.obs)
    with _watched(agent) as seen:
        losses = agent(batch, draws)
    if not draws.all_used():
        raise AssertionError("not all recorded draws were asked for")
    experiment = configurable(EXPERIMENT)()
    total = experiment.total_loss(agent, losses.actor_loss, losses.critic_loss)
    total.backward()
    ours = {
        **seen,
        "outputs/loss": total,
        "outputs/actor_loss_masked_mean": losses.actor_loss,
        "outputs/critic_loss_masked_mean": losses.critic_loss,
        "after/popart_mu": agent.popart.mu,
        "after/popart_nu": agent.popart.nu,
    }
    for name, parameter in agent.named_parameters():
        if parameter.grad is not None:
            ours[f"grads/{name}"] = parameter.grad
    for part in PARTS:
        gradients = [p.grad for p in getattr(agent, part).parameters() if p.grad is not None]
        ours[f"outputs/grad_norm_{part}"] = nn.utils.get_total_norm(gradients)
    real = ~padded_timesteps(batch.rl2s)[..., None, None]  # (B, T, 1, 1)
    where = {"mid/advantage": real, "mid/filter": real, "mid/td_target": real[:, 1:, None]}
    return errors(golden, ours, where)


def _build(config: Mapping[str, Any], amago_version: str) -> Any:
    """By gin, with the goldens' sizes in place of the tiny config's."""
    sizes = config["sizes"]
    critic = {**sizes["critic"], "output_bins": config["output_bins"]}
    if "hlgauss" in config["training"]:
        del critic["output_bins"]  # the training config has it
    return configurable("MultiTaskAgent")(
        obs_space={"numbers": SimpleNamespace(shape=(sizes["numbers"],))},
        rl2_space=SimpleNamespace(shape=(1 + sizes["actions"],)),
        action_space=SimpleNamespace(n=sizes["actions"]),
        tstep_encoder_type=functools.partial(LinearTstepEncoder, emb_dim=sizes["tstep_dim"]),
        traj_encoder_type=functools.partial(configurable("TformerTrajEncoder"), **sizes["traj_encoder"]),
        max_seq_len=sizes["length"],
        num_critics=sizes["num_critics"],
        num_critics_td=sizes["num_critics_td"],
        actor_type=functools.partial(configurable("MetamonMaskedActor"), **sizes["actor"]),
        critic_type=functools.partial(configurable("NCriticsTwoHot"), **critic),
        amago_version=amago_version,
    )


@contextmanager
def _watched(agent: Any) -> Any:
    """Fills with the advantages, their weights and the TD target, of all timesteps that the filter is shown."""
    seen: dict[str, Tensor] = {}
    filter_, weigh, move = agent.fbc_filter_func, agent._weigh, agent.popart.update_stats

    def weighed(advantage: Tensor, *args: Any) -> Any:
        result = weigh(advantage, *args)
        seen.update({"mid/advantage": advantage, "mid/filter": result.weights})
        return result

    def update_stats(target: Tensor, counted: Tensor) -> None:
        seen["mid/td_target"] = target.clone()
        move(target, counted)

    agent._weigh, agent.popart.update_stats = weighed, update_stats
    yield seen
    if agent.fbc_filter_func is not filter_:
        raise AssertionError("the filter was exchanged")


def compare_batch_filters(golden: Golden) -> dict[str, float]:
    """Forty batches in a row through each filter, with and without a correction of the data's policy."""
    ours = {}
    for name, (kind, options) in golden.config["filters"].items():
        filter_: BatchFilter = getattr(batch_filters, kind)(**options)
        weights = []
        for number in range(recipe.FILTER_BATCHES):
            adv, recorded, real, ratio = recipe.filter_batch(number)
            about = AboutBatch(real[..., None], recorded[..., None], ratio if number % 2 else None)
            weights.append(filter_(adv, about).weights)
        ours[f"outputs/{name}"] = torch.stack(weights)
    return errors(golden, ours)


def compare_hlgauss(golden: Golden) -> dict[str, float]:
    """256 bins: labels, the loss that they make and its gradient, and what value a distribution is read as."""
    config = {name: value for name, value in golden.config.items() if name != "versions"}
    critics = NCriticsTwoHot(4, 3, [0.992], True, **config)
    logits = recipe.normal("logits", 90, 256, scale=2.0).requires_grad_()
    labels = critics.labels(recipe.hlgauss_returns())
    log_probs = F.log_softmax(logits, dim=-1)
    loss = -(labels * log_probs).sum(-1)
    loss.sum().backward()
    ours = {"labels": labels, "loss": loss, "grad_logits": logits.grad, "decoded_logits": critics.values(log_probs)}
    return errors(golden, {f"outputs/{name}": value for name, value in ours.items()})
