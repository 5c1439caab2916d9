"""Goldens of whole agents held against ours: one batch, acting, five updates, the state_dict's keys.

What an agent computes on the way is read by hooks on its parts; nothing in the agents knows of this.
"""

import functools
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from support.amago_goldens import (
    FOLDERS,
    Golden,
    RecordedDraws,
    batch_of,
    errors,
    experiment,
    golden_batch,
    gradients,
    load_agent,
    recorded_draws,
)
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gemma_metamon.nets.agents import base
from gemma_metamon.nets.agents.amago2 import MultiTaskAgent
from gemma_metamon.nets.agents.interface import AgentLosses
from gemma_metamon.nets.batch import Batch, countable_actions, padded_timesteps
from gemma_metamon.nets.heads.actors import ActionDistribution, MetamonMaskedActor
from gemma_metamon.nets.heads.critics import NCriticsTwoHot
from gemma_metamon.nets.trajectory.traj_encoder import TformerTrajEncoder
from gemma_metamon.training.meter import Meter
from gemma_metamon.training.schedule import Schedule
from gemma_metamon.training.trainer import Trainer


def compare_agent(golden: Golden) -> dict[str, float]:
    """One batch in one setting: what is computed on the way, losses, gradients, and what has moved afterwards."""
    root, setting, folder = golden.root, Path(golden.path).name, Path(golden.path).parent.name
    batch = golden_batch(folder=folder, root=root)

    def losses_of(batch: Batch, **options: Any) -> tuple[Any, AgentLosses, dict[str, Tensor]]:
        agent = load_agent(setting, golden.version, folder=folder, root=root, **options)
        return agent, *_watched(agent, batch, recorded_draws(setting, folder=folder, root=root))

    agent, losses, mid = losses_of(batch)
    _total(losses).backward()
    if isinstance(agent, MultiTaskAgent):
        mid |= _values_of_samples(agent, mid["state_embedding"], golden.group("draws"))
    where = {f"mid/{name}": _real(name, value, batch) for name, value in mid.items()}
    received = [parameter.grad for parameter in agent.parameters() if parameter.grad is not None]
    ours = {f"mid/{name}": value for name, value in mid.items()} | gradients(agent)
    real = ~padded_timesteps(batch.rl2s)[:, 1:, None]  # (B, L, 1)
    counted = countable_actions(batch)[..., None, None]  # (B, L, 1, 1)
    ours |= {
        "mid/td_target_mask": real[..., None, None],
        "mid/state_mask": real,
        "mid/pad_mask_actor": real[..., None],
        "mid/final_mask_actor": counted,
        "mid/final_mask_critic": counted[..., None],
        "outputs/loss": _total(losses),
        "outputs/actor_loss_masked_mean": losses.actor_loss,
        "outputs/critic_loss_masked_mean": losses.critic_loss,
        "outputs/grad_total_norm_all_parameters": nn.utils.get_total_norm(received),
    }
    ours |= {f"after/popart_{name}": getattr(agent.popart, name) for name in ("mu", "nu", "w", "b", "_t", "sigma")}
    ours |= {f"after/{key}": value for key, value in agent.named_buffers()}
    if "outputs/loss_nstep3" in golden:
        _, losses, mid = losses_of(batch, n_step=3)
        ours |= {"outputs/loss_nstep3": _total(losses), "mid/td_target_nstep3": mid["td_target"]}
        where["mid/td_target_nstep3"] = where["mid/td_target"]
    if "outputs/loss_without_missing_action_mask" in golden:
        seen = {key: value for key, value in batch.obs.items() if key != "missing_action_mask"}
        ours["outputs/loss_without_missing_action_mask"] = _total(losses_of(batch._replace(obs=seen))[1])
    return errors(golden, ours, where)


def _total(losses: AgentLosses) -> Tensor:
    return losses.actor_loss + 10 * losses.critic_loss


def _watched(agent: Any, batch: Batch, draws: RecordedDraws) -> tuple[AgentLosses, dict[str, Tensor]]:
    """The losses, and what was computed on the way under the goldens' names (all timesteps, padding too)."""
    calls: dict[str, list[Any]] = {}

    def note(name: str, value: Any) -> Any:
        calls.setdefault(name, []).append(value)
        return value

    def hooked(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        note(name, output)

    def weigh(advantage: Tensor, **options: Any) -> Tensor:
        return note("filter", filter_func(note("advantage", advantage), **options))

    def update_stats(values: Tensor, counted: Tensor) -> None:
        note("td_target", values.clone())
        move(values, counted)

    def mean(x: Tensor, counted: Tensor) -> Tensor:
        if x.requires_grad:  # the losses, not what is only logged
            note("critic_loss" if x.ndim == 5 else "actor_loss", x)
        return masked_mean(x, counted)

    filter_func, move, masked_mean = agent.fbc_filter_func, agent.popart.update_stats, base.masked_mean
    parts = ("tstep_encoder", "traj_encoder", "actor", "target_actor", "critics", "target_critics", "maximized_critics")
    with ExitStack() as watching:
        for name in parts:
            hook = getattr(agent, name).register_forward_hook(functools.partial(hooked, name))
            watching.callback(hook.remove)
        watching.enter_context(patch.object(agent, "fbc_filter_func", weigh))
        watching.enter_context(patch.object(agent.popart, "update_stats", update_stats))
        watching.enter_context(patch.object(base, "masked_mean", mean))
        losses = agent(batch, draws)
    if not draws.all_used():
        raise AssertionError("not all recorded draws were asked for")
    return losses, _named(agent, calls)


def _named(agent: Any, calls: Mapping[str, list[Any]]) -> dict[str, Tensor]:
    """The first call of each part, as the goldens name and show it."""
    names = {"tstep_encoder": "timestep_embedding", "traj_encoder": "state_embedding"}
    names |= {"actor": "policy_probs", "target_actor": "target_policy_probs"}
    classified = isinstance(agent, MultiTaskAgent)
    ours = {}
    for part, (value, *_) in calls.items():
        if isinstance(value, ActionDistribution):
            value = value.normalized().probs if classified else value.probs
        elif part.endswith("critics") and classified:
            value = agent.critics.values(value)
        ours[f"{part}_value" if part.endswith("critics") else names.get(part, part)] = value
    return ours


@torch.no_grad()
def _values_of_samples(agent: MultiTaskAgent, state: Tensor, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What MultiTaskAgent's critics say of the drawn actions; the agent itself asks for their means alone."""

    def values(critics: NCriticsTwoHot, state: Tensor, samples: Tensor) -> Tensor:
        return critics.values(critics(state, F.one_hot(samples.long(), agent.action_dim).float()))

    ours = {}
    if "next_action_samples" in draws:
        next_samples = draws["next_action_samples"][:, :, 1:]
        ours["target_critics_value"] = values(agent.target_critics, state[:, 1:], next_samples)
        ours["critics_value#1"] = values(agent.critics, state, draws["policy_action_samples"])
    noisy = [draws[name] for name in sorted(draws) if name.startswith("gumbel_action_index")]
    if noisy:
        ours["maximized_critics_value"] = values(agent.maximized_critics, state, torch.stack(noisy))
    return ours


def _real(name: str, value: Tensor, batch: Batch) -> Tensor:
    """True where a value from the way belongs to a real timestep; what padding holds means nothing."""
    time_axis = 2 if name.partition("#")[0].endswith("critics_value") else 1  # critics' values have K in front
    real = ~padded_timesteps(batch.rl2s)
    if value.shape[time_axis] < real.shape[1]:  # one value per action, not per state
        real = real[:, 1:]
    return real.view(*real.shape, *[1] * (value.ndim - time_axis - 1))


def compare_acting(golden: Golden) -> dict[str, float]:
    """Twenty single decisions of three battles, one of them restarted."""
    folder, inputs = Path(golden.path).parent.name, golden.group("inputs")
    agent = load_agent("binary_rl", golden.version, folder=folder, root=golden.root).eval()
    B, T = inputs["numbers"].shape[:2]
    cache, actions, probs = agent.traj_encoder.init_cache(B), [], []
    agent.actor.register_forward_hook(lambda *hooked: probs.append(hooked[-1].probs))
    for step in range(T):
        if step == golden.config["reset_before_step"]:
            cache.reset(golden.config["reset_row"])
        obs = {name: value[:, step : step + 1] for name, value in inputs.items()}
        chosen, _ = agent.act(obs, obs.pop("rl2s"), obs.pop("time_idxs"), cache, torch.arange(B))
        actions.append(chosen[:, None])
    return errors(golden, {"outputs/action": torch.stack(actions, 1), "outputs/probs": torch.cat(probs, 1)})


ROUNDED_UP = {("amago-3.1.1/optimizer/multitask_binary_maxq_rl_warmup2_seed0", 2)}
"""Updates in which an advantage of 0 counted as positive.

Where all samples are the recorded action, the advantage is 0 but for rounding, which the binary filter then turns into
0 or 1. Ours is exactly 0. The file does not hold the filter, but its actor loss says which it was: in this update the
one advantage of 0 (of 308 counted) came out above 0, for the loss is larger by that action's -log pi, 2.436 / 308.
"""


def compare_optimizer(golden: Golden) -> dict[str, float]:
    """Five updates of our trainer's own loop: losses, rates, norms after each, weights after the last."""
    config, root = golden.config, golden.root
    folder, setting = f"{config['kind']}_seed{config['seed']}", config["config"]
    agent = load_agent(setting, golden.version, folder=folder, root=root)
    batches = Golden(f"{FOLDERS['3.1']}/optimizer/batches_seed{config['seed']}", root)
    trainer = _trainer(agent, config)
    device = trainer.accelerator.device
    recorded = golden.group("draws")
    steps: dict[str, list[Any]] = {}
    targets: list[Tensor] = []
    move = agent.popart.update_stats

    def update_stats(values: Tensor, counted: Tensor) -> None:
        targets.append(values.clone())
        move(values, counted)

    def weigh(advantage: Tensor) -> Tensor:
        weights = filter_func(advantage)
        return weights.masked_fill(advantage == 0, 1.0) if (golden.path, trainer.updates) in ROUNDED_UP else weights

    filter_func, agent.fbc_filter_func = agent.fbc_filter_func, weigh
    agent.popart.update_stats = update_stats
    where: dict[str, Tensor] = {}
    for step in range(5):
        prefix = f"step{step}/"
        draws = {key.removeprefix(prefix): value for key, value in recorded.items() if key.startswith(prefix)}
        feed = _feed(agent, RecordedDraws(draws))
        meter, batch = Meter(), batch_of(batches.group(f"batch{step}"))
        trainer.guard.begin()
        trainer._learn(batch.to(device), meter)
        where[f"mid/td_target_step{step}"] = _real("td_target", targets[-1], batch)
        feed.remove()
        trainer.updates += 1
        logged = meter.means(trainer.accelerator)
        row = {"loss": logged["loss/total"], "actor_loss": logged["loss/actor"], "critic_loss": logged["loss/critic"]}
        row |= {"grad_norm_before_clip": logged["grad_norm"], "lr_used": logged["learning_rate"]}
        row["lr_after"] = config["learning_rate"] * trainer.experiment.learning_rate_factor(trainer.updates)
        weights = {key: value.cpu() for key, value in agent.state_dict().items()}
        values = {f"steps/{name}": value for name, value in row.items()}
        values |= {f"norms_after_step/{key}": value.norm().item() for key, value in weights.items()}
        for name, value in values.items():
            steps.setdefault(name, []).append(value)
    ours = {name: torch.tensor(values) for name, values in steps.items()}
    ours |= {f"mid/td_target_step{step}": target for step, target in enumerate(targets)}
    ours |= {f"final/{key}": value for key, value in weights.items()}
    return errors(golden, ours, where)


def _feed(agent: Any, draws: RecordedDraws) -> RemovableHandle:
    """Whoever calls the agent with a batch alone, as the trainer does, gives it these draws."""
    return agent.register_forward_pre_hook(lambda _, args: (*args, draws))


def _trainer(agent: Any, config: Mapping[str, Any]) -> Trainer:
    """The trainer of `agent`, without battles: whoever holds it feeds the batches."""
    names = ("learning_rate", "l2_coeff", "grad_clip", "critic_loss_weight")
    settings = experiment(**{name: config[name] for name in names}, lr_warmup_steps=config["warmup"])
    with patch.object(settings, "build_agent", lambda view: agent):
        return Trainer(
            run_dir=Path(),
            experiment=settings,
            dataset=SimpleNamespace(view=None),
            schedule=Schedule(epochs=1, steps_per_epoch=5, batch_size=4),
            config="",
            settings={},
            held_out=[],
        )


class _Placeholder(nn.Module):
    """A timestep encoder without parameters."""

    def __init__(self, obs_space: Any, rl2_space: Any, emb_dim: int) -> None:
        super().__init__()
        self.emb_dim = emb_dim


def compare_state_dict_keys(file: Path) -> dict[str, float]:
    """How many keys of metamon's full-size agent differ from ours, in what; its timestep encoder is left out."""
    theirs = json.loads(file.read_text())
    entries = {key: entry for key, entry in theirs["state_dict"].items() if not key.startswith("tstep_encoder.")}
    with torch.device("meta"):
        agent = MultiTaskAgent(
            obs_space={},
            rl2_space=SimpleNamespace(shape=(theirs["rl2_dim"],)),
            action_space=SimpleNamespace(n=theirs["action_dim"]),
            tstep_encoder_type=functools.partial(_Placeholder, emb_dim=theirs["tstep_emb_dim"]),
            traj_encoder_type=functools.partial(TformerTrajEncoder, d_model=1280, n_heads=20, d_ff=5120, n_layers=9),
            max_seq_len=theirs["max_seq_len"],
            num_critics=6,
            actor_type=functools.partial(MetamonMaskedActor, d_hidden=512),
            critic_type=functools.partial(NCriticsTwoHot, d_hidden=512, output_bins=96),
            pass_obs_keys_to_actor=["illegal_actions"],
        )
    ours, parameters = agent.state_dict(), dict(agent.named_parameters())
    trained = {id(parameter) for parameter in agent.trainable_parameters()}
    differences = dict.fromkeys(("names_in_order", "shapes", "dtypes", "kinds", "in_optimizer"), 0.0)
    differences["names_in_order"] = float(list(ours) != list(entries))
    for key in ours.keys() & entries.keys():
        entry, parameter = entries[key], parameters.get(key)
        differences["shapes"] += list(ours[key].shape) != entry["shape"]
        differences["dtypes"] += str(ours[key].dtype) != f"torch.{entry['dtype']}"
        differences["kinds"] += (parameter is None) != (entry["kind"] == "buffer")
        differences["in_optimizer"] += (id(parameter) in trained) != entry.get("in_optimizer", False)
    return differences
