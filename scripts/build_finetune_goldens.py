"""Goldens of metamon's fine-tuning agent: `python scripts/build_finetune_goldens.py --amago COMMIT`.

Runs where metamon 1.6.0 and amago are; COMMIT is amago's, which has had one version number for several.

Two updates of metamon's own class, with the weights and the batch of an older golden, into
tests/goldens/amago/amago-3.3.0/finetune: the random draws, each term of the loss, gradients, the slow copy.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import metamon
import numpy as np
import torch
from amago.loading import MAGIC_PAD_VAL, Batch
from amago.nets.actor_critic import NCriticsTwoHot
from amago.nets.policy_dists import DiscreteLikeContinuous
from amago.nets.traj_encoders import TformerTrajEncoder
from amago.nets.transformer import VanillaAttention
from amago.nets.tstep_encoders import TstepEncoder
from metamon.rl.custom_agent import ISAdvantageFilter, MetamonFinetuneAgent
from metamon.rl.metamon_to_amago import MetamonMaskedActor
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support import golden_finetune as goldens
from support.amago_goldens import Golden, golden_batch

from gemma_metamon.upstream.interchange import from_amago


class LinearTstepEncoder(TstepEncoder):
    """The older goldens' encoder: one linear layer over numbers and rl2s."""

    def __init__(self, obs_space: Any, rl2_space: Any, width: int) -> None:
        super().__init__(obs_space=obs_space, rl2_space=rl2_space)
        self.width = width
        self.linear = nn.Linear(obs_space["numbers"].shape[0] + rl2_space.shape[0], width)

    @property
    def emb_dim(self) -> int:
        return self.width

    def inner_forward(self, obs: Any, rl2s: Tensor, log_dict: Any = None) -> Tensor:
        return self.linear(torch.cat((obs["numbers"], rl2s), dim=-1))


def build(case: str) -> Any:
    config = Golden(f"{goldens.HOME}/params").config
    box: Callable[..., Any] = lambda width: gymnasium.spaces.Box(-np.inf, np.inf, (width,))  # noqa: E731
    agent = MetamonFinetuneAgent(
        obs_space=gymnasium.spaces.Dict({"numbers": box(config["numbers"])}),
        rl2_space=box(1 + config["actions"]),
        action_space=gymnasium.spaces.Discrete(config["actions"]),
        max_seq_len=config["length"],
        tstep_encoder_type=lambda **spaces: LinearTstepEncoder(**spaces, width=config["tstep_dim"]),
        traj_encoder_type=lambda **sizes: TformerTrajEncoder(
            **sizes, **config["traj_encoder"], attention_type=VanillaAttention
        ),
        actor_type=lambda **head: MetamonMaskedActor(**head, **config["actor"]),
        critic_type=lambda **head: NCriticsTwoHot(**head, **config["critic"]),
        num_critics=config["num_critics"],
        num_critics_td=config["num_critics_td"],
        reward_multiplier=config["reward_multiplier"],
        tau=config["tau"],
        num_actions_for_value_in_critic_loss=config["K_c"],
        num_actions_for_value_in_actor_loss=config["K_a"],
        online_coeff=0.0,
        offline_coeff=1.0,
        critic_loss_weight=10.0,
        pass_obs_keys_to_actor=["illegal_actions"],
        fbc_filter_func=ISAdvantageFilter(**goldens.FILTER),
        **goldens.CASES[case],
    )
    agent.load_state_dict(goldens.weights(), strict=True)
    agent.on_checkpoint_loaded(is_resume=False)
    with torch.no_grad():
        for name, part in agent.named_children():
            if name.startswith(tuple(goldens.STRENGTH)):
                for parameter in part.parameters():
                    parameter.copy_(goldens.changed(parameter, name))
                goldens.settle_sigmas(part)
    agent.edit_actor_mask = lambda batch, _loss, mask: mask & ~batch.obs["missing_action_mask"][:, :-1, None]
    agent.edit_critic_mask = lambda batch, _loss, mask: mask & ~batch.obs["missing_action_mask"][:, :-1, None, None]
    return agent.train()


def record(case: str) -> dict[str, np.ndarray]:
    agent, ours = build(case), golden_batch()
    arrays = ours._asdict()
    batch = Batch(rews=arrays.pop("rewards"), **arrays)
    state = ~(batch.rl2s == MAGIC_PAD_VAL).all(-1, keepdim=True)  # (B, T, 1)
    optimizer = torch.optim.AdamW(agent.trainable_params, lr=goldens.LEARNING_RATE, weight_decay=1e-4)
    arrays: dict[str, Tensor] = {}
    for number in range(goldens.UPDATES):
        seen: dict[str, list[Any]] = {"samples": [], "subset": [], "log_probs": [], "filter": []}
        with watching(agent, seen):
            # as metamon's experiment does before each update
            agent.fbc_filter_func.set_mask(state & ~batch.obs["missing_action_mask"])
            loss = agent(batch, log_step=False)
        optimizer.zero_grad()
        loss.backward()
        next_samples, policy_samples = (one.argmax(-1).to(torch.uint8) for one in seen["samples"])
        arrays |= {
            f"draws/next_action_samples_{number}": next_samples,
            f"draws/policy_action_samples_{number}": policy_samples,
            f"draws/critic_subset_{number}": seen["subset"][0].to(torch.uint8),
        }
        of_frozen, of_data = seen["log_probs"]
        ((advantage, weights),) = seen["filter"]
        real = state[:, 1:] & ~batch.obs["missing_action_mask"][:, :-1]
        data_loss = -(of_data[:, :-1] * real[..., None]).sum() / (real.sum() * of_data.shape[2])
        total = agent.update_info["Actor Loss"] + 10 * agent.update_info["Critic Loss"] + agent.bc_coeff * data_loss
        torch.testing.assert_close(total, loss)  # the terms are all of it
        found = {
            "loss": loss,
            "actor_loss": agent.update_info["Actor Loss"],
            "critic_loss": agent.update_info["Critic Loss"],
            "data_loss": data_loss,
            "log_pi_frozen": of_frozen,
            "log_pi_data": of_data,
            "advantage": advantage,
            "filter": weights,
        }
        named = from_amago(dict(agent.named_parameters()))
        found |= {f"grad_norm/{name}": p.grad.norm() for name, p in named.items() if p.grad is not None}
        found |= {f"grad/{name}": named[name].grad for name in goldens.FULL_GRADIENTS}
        agent.soft_sync_targets()
        optimizer.step()
        found |= {f"slow/{name}": goldens.checksum(p) for name, p in named.items() if name.startswith("slow_")}
        arrays |= {f"update{number}/{name}": value.detach().clone() for name, value in found.items()}
    return {name: value.numpy() for name, value in arrays.items()}


class watching:  # noqa: N801 used as a function is
    """For the length of the block, notes what metamon draws and computes on the way."""

    def __init__(self, agent: Any, seen: dict[str, list[Any]]) -> None:
        self.agent, self.seen = agent, seen

    def __enter__(self) -> None:
        agent, seen = self.agent, self.seen
        self.kept = (DiscreteLikeContinuous.sample, torch.randint, agent.fbc_filter_func, agent._compute_log_probs)
        sample, randint, weigh, log_probs = self.kept

        def note(name: str, value: Any) -> Any:
            seen[name].append(value)
            return value

        class Watched(type(weigh)):  # type: ignore[misc]
            def __call__(self, adv: Tensor) -> Tensor:
                weights = super().__call__(adv)
                note("filter", (adv, weights))
                return weights

        self.filter_class = type(weigh)
        weigh.__class__ = Watched
        DiscreteLikeContinuous.sample = lambda self, *args, **kw: note("samples", sample(self, *args, **kw))
        torch.randint = lambda *args, **kw: note("subset", randint(*args, **kw))
        agent._compute_log_probs = lambda *args, **kw: note("log_probs", log_probs(*args, **kw))

    def __exit__(self, *_: Any) -> None:
        DiscreteLikeContinuous.sample, torch.randint, filter_, _log_probs = self.kept
        filter_.__class__ = self.filter_class
        del self.agent._compute_log_probs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--amago", required=True, help="which commit of amago is installed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.compiler.set_stance("force_eager")
    versions = f"metamon {metamon.__version__}, amago {args.amago}"
    for case in goldens.CASES:
        torch.manual_seed(0)
        goldens.write(case, record(case), versions)
        print(case, versions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
