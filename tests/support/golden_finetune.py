"""The goldens of metamon's fine-tuning agent: what goes in, and what compares ours.

Weights and batch are those of amago-3.1.1/agent/multitask_seed0. The copies must differ from the networks that learn,
or nothing would be told apart; so that no file has to hold them, they are the same weights, changed by a formula. Two
updates: draws, terms, gradients, and the slow copy after them.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from support.amago_goldens import ROOT, Golden, RecordedDraws, build_agent, golden_batch, relative_error
from torch import Tensor, nn

from gemma_metamon.nets.agents.copies import COPIES
from gemma_metamon.nets.agents.finetune import MetamonFinetuneAgent
from gemma_metamon.nets.heads.batch_filters import AboutBatch, ISAdvantageFilter, Weighed

FOLDER: Final = "amago-3.3.0/finetune"
HOME: Final = "amago-3.1.1/agent/multitask_seed0"
CASES: Final[dict[str, dict[str, Any]]] = {
    "corrected": {"use_is_correction": True, "bc_coeff": 0.5, "tortoise_tau": 0.005},
    "uncorrected": {"use_is_correction": False, "bc_coeff": 1.0, "tortoise_tau": 0.02},
}
FILTER: Final = {
    "beta": 3.0,
    "clip_weights_low": 1e-6,
    "clip_weights_high": 100.0,
    "clip_delta": 0.08,  # small, so that some are clipped
    "seq_p_low": 0.4,
    "seq_p_full": 0.8,
    "seq_floor": 0.05,
    "seq_floor_warmup_steps": 4,
    "seq_buffer_size": 6,  # the second batch of four battles goes around it
    "seq_warmup": 5,
}
UPDATES: Final = 2
LEARNING_RATE: Final = 1e-3
STRENGTH: Final = {"_tortoise": 0.02, "_base": 0.05, "_bc": 0.4}


def changed(value: Tensor, copy: str) -> Tensor:
    """The weights of a copy, of those that it is a copy of. `copy` begins with one of STRENGTH."""
    strength = next(size for start, size in STRENGTH.items() if copy.startswith(start))
    phase = torch.arange(value.numel(), dtype=torch.float64).sin().view(value.shape) * strength
    return (value.double() * (1.0 + phase) + 0.1 * phase).to(value.dtype)


@torch.no_grad()
def settle_sigmas(module: nn.Module) -> None:
    """u and v of each layer are its weight's first singular vectors: more power iteration changes nothing."""
    for layer in module.modules():
        if hasattr(layer, "u") and hasattr(layer, "gamma"):
            left, _, right = torch.linalg.svd(layer.weight.double(), full_matrices=False)
            layer.u.copy_(left[:, 0])
            layer.v.copy_(right[0])


def checksum(value: Tensor) -> Tensor:
    """A number that hardly two tensors have in common, whatever is exchanged or left out."""
    flat = value.detach().double().flatten()
    return (flat * (torch.arange(len(flat), dtype=torch.float64) * 0.7).cos()).sum()


def weights() -> dict[str, Tensor]:
    """Of the networks that learn, and their targets."""
    params = Golden(f"{HOME}/params").group("params")
    return params | {f"maximized_{key}": value for key, value in params.items() if key.startswith("critics.")}


class WatchedFilter(ISAdvantageFilter):
    """Keeps the weights that it has given."""

    def forward(self, adv: Tensor, about: AboutBatch) -> Weighed:
        self.advantage, self.given = adv, super().forward(adv, about)
        return self.given


def load_ours(case: str) -> Any:
    """Our agent with the goldens' weights, in training mode."""
    config = Golden(f"{HOME}/params").config
    agent = build_agent(config, agent_type=MetamonFinetuneAgent, fbc_filter_func=WatchedFilter(**FILTER), **CASES[case])
    state = agent.starting_state(weights())
    agent.load_state_dict({key: _as_copied(key, value) for key, value in state.items()})
    for name in COPIES:
        settle_sigmas(agent.get_submodule(name))
    return agent.train()


def _as_copied(key: str, value: Tensor) -> Tensor:
    names = {"slow": "_tortoise", "frozen": "_base", "data": "_bc"}
    kind = key.partition(".")[0].partition("_")[0]
    trained = not key.endswith((".u", ".v"))
    return changed(value, names[kind]) if kind in names and trained else value


def compare_finetune(golden: Golden) -> dict[str, float]:
    """Name of an array -> the largest relative error of ours."""
    case = golden.path.rpartition("/")[2]
    agent, batch = load_ours(case), golden_batch()
    optimizer = torch.optim.AdamW(agent.trainable_parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    real = ~(batch.rl2s == 4.0).all(-1)[..., None, None]  # (B, T, 1, 1)
    errors: dict[str, float] = {}
    for number in range(UPDATES):
        judged: list[tuple[Tensor, Tensor]] = []
        judge = agent._judge_recorded

        def note(*args: Any, judge: Any = judge, judged: Any = judged) -> Any:
            judged.append(judge(*args))
            return judged[-1]

        agent._judge_recorded = note
        draws = RecordedDraws(
            {
                name: golden[f"draws/{name}_{number}"]
                for name in ("next_action_samples", "critic_subset", "policy_action_samples")
            }
        )
        losses = agent(batch, draws)
        del agent._judge_recorded
        total = losses.actor_loss + 10 * losses.critic_loss
        optimizer.zero_grad()
        total.backward()
        ((of_frozen, of_data),) = judged
        data_loss = losses.stats["data_policy_loss"]
        found: dict[str, tuple[Tensor, Tensor | None]] = {
            "loss": (total, None),
            "actor_loss": (losses.actor_loss - agent.bc_coeff * data_loss, None),
            "critic_loss": (losses.critic_loss, None),
            "data_loss": (data_loss, None),
            "log_pi_frozen": (of_frozen, real),
            "log_pi_data": (of_data, real),
            "advantage": (agent.fbc_filter_func.advantage, real),
            "filter": (agent.fbc_filter_func.given.weights, real),
        }
        parameters: Mapping[str, nn.Parameter] = dict(agent.named_parameters())
        found |= {f"grad_norm/{name}": (p.grad.norm(), None) for name, p in parameters.items() if p.grad is not None}
        found |= {f"grad/{name}": (parameters[name].grad, None) for name in FULL_GRADIENTS}  # type: ignore[dict-item]
        agent.update_targets()
        optimizer.step()
        found |= {f"slow/{name}": (checksum(p), None) for name, p in parameters.items() if name.startswith("slow_")}
        expected = {key for key in golden.arrays if key.startswith(f"update{number}/")}
        ours = {f"update{number}/{name}" for name in found}
        if expected != ours:
            raise KeyError(f"{case}: {sorted(expected ^ ours)[:5]}")
        for name, (value, where) in found.items():
            key = f"update{number}/{name}"
            errors[key] = relative_error(value, golden[key], where)
    return errors


FULL_GRADIENTS: Final = ("data_actor.base.out_layer.weight", "actor.base.out_layer.bias", "tstep_encoder.linear.bias")


def write(case: str, arrays: Mapping[str, np.ndarray], versions: str) -> None:
    path = ROOT / FOLDER / f"{case}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, config=np.array(f'{{"versions": "{versions}", "case": "{case}"}}'), **arrays)  # type: ignore[arg-type]
