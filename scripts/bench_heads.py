"""Forward and backward of the flagship's actor and critics: ours against the direct form, and exact against sampled.

    python scripts/bench_heads.py --threads 2           # on a busy machine with GOMP_SPINCOUNT=1000 before it

"Direct" is the same losses as their definition says them: every (sampled action, state, discount) is one row with the
whole state in it, and all critics judge all rows, in three calls: target, recorded actions, advantage. All sides share
weights, batch and draws; direct and ours must agree. They take turns, and a ratio of times is the median over the
turns. Peak memory is what a step adds: on CUDA what torch allocated, on a CPU (Linux) what became resident in a process
of its own. Prints a table for people, then one line of JSON.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.nets.agents.amago2 import MultiTaskAgent
from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.heads.critics import NCriticsTwoHot
from gemma_metamon.nets.layers import masked_mean
from gemma_metamon.runs import resolve
from gemma_metamon.runs.experiment import Experiment, Space

MODEL, TRAINING = "gemma_synthetic_multitaskagent.gin", "binary_rl.gin"
STATE_DIM, BATTLES, DECISIONS, ACTIONS = 1280, 2, 128, 13
SMALL = ["NCriticsTwoHot.d_hidden = 16", "NCriticsTwoHot.output_bins = 8", "MetamonMaskedActor.d_hidden = 16"]
SIDES = ("direct", "ours", "direct_exact", "ours_exact")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=11, help="how often each side is timed (default: %(default)s)")
    parser.add_argument("--exact", action="store_true", help="the direct form of value_estimate = 'exact', too")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--peak_of", choices=SIDES, help=argparse.SUPPRESS)  # what main asks of a process of its own
    args = parser.parse_args()
    if args.device == "cpu" and not Path("/proc/self/status").exists():
        raise SystemExit("bench_heads: peak memory on a CPU is read from Linux's /proc; use --device cuda")
    torch.set_num_threads(args.threads)
    heads = Heads(args.device, small=args.small)
    if args.peak_of:
        print(heads.peak_mib(args.peak_of))
        return
    pairs = [("direct", "ours"), ("ours_exact", "ours")] + [("direct_exact", "ours_exact")] * args.exact
    sides = [side for side in SIDES if any(side in pair for pair in pairs)]
    differences = {direct: heads.compare(direct, ours) for direct, ours in pairs if direct.startswith("direct")}
    turns = [{side: heads.seconds(side) for side in sides} for _ in range(args.turns)]
    peaks = {side: heads.peak_mib(side) if heads.on_cuda else peak_mib_in_a_child(side) for side in sides}
    result = {
        "ratios": {
            f"{more} / {less}": {
                "time": round(statistics.median(turn[more] / turn[less] for turn in turns), 2),
                "peak_memory": round(peaks[more] / peaks[less], 2),
            }
            for more, less in pairs
        },
        "seconds": {side: round(statistics.median(turn[side] for turn in turns), 3) for side in sides},
        "peak_mib": {side: round(peaks[side]) for side in sides},
        "differences": differences,
        **{name: getattr(args, name) for name in ("device", "threads", "turns", "small")},
    }
    print_table(result)
    print(json.dumps(result))


class Given(nn.Module):
    """In place of an encoder: hands on the states that it is given."""

    emb_dim = STATE_DIM

    def forward(self, given: Any, _: Tensor) -> Tensor:
        return given["state"] if isinstance(given, Mapping) else given


class Heads:
    """The agent without its encoders, one batch, and two ways to the same losses."""

    def __init__(self, device: str, *, small: bool) -> None:
        torch.manual_seed(0)
        resolve.load(MODEL, TRAINING, SMALL if small else [])
        self.experiment: Experiment = configurable(EXPERIMENT)()
        self.agent: MultiTaskAgent = self.experiment.agent_type(
            obs_space={},
            rl2_space=Space((1 + ACTIONS,)),
            action_space=SimpleNamespace(n=ACTIONS),
            tstep_encoder_type=lambda **_: Given(),
            traj_encoder_type=lambda **_: Given(),
            max_seq_len=DECISIONS,
        ).to(device)
        for slow in (*self.agent.target_critics.parameters(), *self.agent.target_actor.parameters()):
            slow += 0.01 * torch.randn_like(slow)  # as in training, the targets are not the online networks
        self.batch = random_batch(4 if small else DECISIONS).to(device)
        self.state = self.batch.obs["state"].requires_grad_()
        self.device = torch.device(device)
        self.on_cuda = self.device.type == "cuda"

    def step(self, side: str) -> tuple[Tensor, Tensor]:
        """Forward and backward, without gradients from before. The losses of actor and critics."""
        form, _, estimate = side.partition("_")
        self.agent.value_estimate = "exact" if estimate else "sampled"
        self.agent.zero_grad(set_to_none=True)
        self.state.grad = None
        losses_of = self.agent if form == "ours" else DirectLosses(self.agent)
        losses = losses_of(self.batch, Draws(torch.Generator(self.device).manual_seed(0)))
        self.experiment.total_loss(self.agent, losses[0], losses[1]).backward()
        return losses[0].detach(), losses[1].detach()

    def compare(self, direct: str, ours: str) -> dict[str, float]:
        """The relative differences of the losses and of the states' gradients; too large ones end the script."""
        expected, expected_grad = self.step(direct), self.state.grad
        found, found_grad = self.step(ours), self.state.grad
        differences = {
            "actor_loss": difference(found[0], expected[0]),
            "critic_loss": difference(found[1], expected[1]),
            "state_gradient": difference(found_grad, expected_grad),
        }
        for name, allowed in {"actor_loss": 1e-5, "critic_loss": 1e-5, "state_gradient": 1e-4}.items():
            if not differences[name] <= allowed:
                raise SystemExit(f"bench_heads: {direct} and {ours} differ in {name} by {differences[name]:.1e}")
        return differences

    def seconds(self, side: str) -> float:
        self.wait()
        started = time.perf_counter()
        self.step(side)
        self.wait()
        return time.perf_counter() - started

    def peak_mib(self, side: str) -> float:
        """What one step adds to the memory in use, at its highest; a step before it loads what stays loaded."""
        self.step(side)
        self.agent.zero_grad(set_to_none=True)
        self.state.grad = None
        self.wait()
        if self.on_cuda:
            before = torch.cuda.memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.step(side)
            return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20
        before = resident_mib("VmRSS")
        with contextlib.suppress(OSError):  # where this is forbidden, the step before had the same peak
            Path("/proc/self/clear_refs").write_text("5")  # sets the highest resident size back to the present one
        self.step(side)
        return resident_mib("VmHWM") - before

    def wait(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize(self.device)


class DirectLosses:
    """MultiTaskAgent's losses (binary_rl.gin, AMAGO 3.3, n_step 1) with one row for everything that is asked."""

    def __init__(self, agent: MultiTaskAgent) -> None:
        self.agent = agent

    def __call__(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        agent, state = self.agent, batch.obs["state"]  # (B, T, D)
        counted = ~batch.obs["missing_action_mask"][:, :-1, :, None]  # (B, L, 1, 1)
        policy = agent.actor(state, batch.obs).normalized()  # (B, T, G, A)

        with torch.no_grad():
            target_policy = agent.target_actor(state, batch.obs).normalized()
            next_values = self.own_values(agent.target_critics, state, target_policy.probs, draws, slice(1, None))
            B, L, C, G, _ = next_values.shape
            subset = draws.critic_subset(C, (B, L, agent.options.num_critics_td, G, 1), state.device)
            next_q = next_values.take_along_dim(subset, 2).mean(2, keepdim=True)  # (B, L, 1, G, 1)
            rewards, dones = agent.options.reward_multiplier * batch.rewards, batch.dones.float()  # (B, L, 1)
            td_target = rewards[:, :, None, None] + agent.gammas[:, None] * (1 - dones)[:, :, None, None] * next_q

        recorded = agent.actor.policy_dist.clip(batch.actions)[None, :, :, None].expand(1, -1, -1, G, -1)
        log_probs = direct_log_probs(agent.critics, state[:, :-1], recorded)[0]  # (B, L, C, G, bins)
        critic_loss = -(agent.critics.labels(td_target) * log_probs).sum(-1, keepdim=True)  # (B, L, C, G, 1)

        with torch.no_grad():
            own_values = self.own_values(agent.critics, state, policy.probs, draws, slice(-1))
            advantage = agent.critics.values(log_probs).mean(2) - own_values.mean(2)  # (B, L, G, 1)
        chosen = batch.actions.argmax(-1)[..., None, None].expand_as(advantage)
        actor_loss = -agent.fbc_filter_func(advantage) * policy.logits[:, :-1].gather(-1, chosen)
        return masked_mean(actor_loss, counted), masked_mean(critic_loss, counted[..., None])

    def own_values(
        self, critics: NCriticsTwoHot, state: Tensor, probs: Tensor, draws: Draws, timesteps: slice
    ) -> Tensor:
        """The mean return under the policy `probs` (B, T, G, A) by every critic, at those timesteps (B, L, C, G, 1)."""
        if self.agent.value_estimate == "exact":
            weights = probs[:, timesteps].movedim(-1, 0)  # (A, B, L, G)
            actions = torch.eye(ACTIONS, device=state.device)[:, None, None, None].expand(*weights.shape, -1)
            values = critics.values(direct_log_probs(critics, state[:, timesteps], actions))  # (A, B, L, C, G, 1)
            return (weights[:, :, :, None, :, None] * values).sum(0)
        samples = draws.action_samples(probs, self.agent.options.num_actions_for_value_in_critic_loss)[:, :, timesteps]
        actions = F.one_hot(samples, ACTIONS).float()  # (K, B, L, G, A)
        return critics.values(direct_log_probs(critics, state[:, timesteps], actions)).mean(0)


def direct_log_probs(critics: NCriticsTwoHot, state: Tensor, action: Tensor) -> Tensor:
    """States (B, T, D), actions (K, B, T, G, A) -> (K, B, T, C, G, bins)."""
    K, B, T, G, _ = action.shape
    states = state[None, :, :, None].expand(K, B, T, G, -1)
    gammas = critics.gamma_feature[:, None].expand(K, B, T, G, 1)
    rows = torch.cat((states, gammas, action.clamp(-0.999, 0.999)), dim=-1).flatten(0, 3)  # (K * B * T * G, D + 1 + A)
    hidden = rows.expand(len(critics), -1, -1)
    for layer in (critics.net.inp_layer, *critics.net.core_layers):
        hidden = F.leaky_relu(torch.baddbmm(layer.bias[0, 0, :, None], hidden, layer.weight))  # (C, rows, H)
    last = critics.net.output_layer
    outputs = torch.baddbmm(last.bias[0, 0, :, None], hidden, last.weight)  # (C, rows, bins)
    return outputs.log_softmax(-1).view(-1, K, B, T, G, outputs.shape[-1]).permute(1, 2, 3, 0, 4, 5)


def random_batch(decisions: int) -> Batch:
    """Battles of that many decisions, all different, a tenth of the choices not recorded."""
    B, T = BATTLES, decisions + 1
    illegal = torch.rand(B, T, ACTIONS) < 0.5  # as in recorded battles of gen9ou
    legal_scores = torch.rand(B, decisions, ACTIONS).masked_fill(illegal[:, :-1], -1.0)
    obs = {
        "state": torch.randn(B, T, STATE_DIM),
        "illegal_actions": illegal,
        "missing_action_mask": torch.rand(B, T, 1) < 0.1,
    }
    dones = torch.zeros(B, decisions, 1, dtype=torch.bool)
    dones[:, -1] = True
    return Batch(
        obs=obs,
        rl2s=torch.randn(B, T, 1 + ACTIONS),
        rewards=torch.randn(B, decisions, 1),
        dones=dones,
        actions=F.one_hot(legal_scores.argmax(-1), ACTIONS).float(),
        time_idxs=torch.arange(T)[None, :, None].expand(B, -1, -1),
    )


def difference(ours: Tensor, direct: Tensor) -> float:
    """The largest, relative to the largest value."""
    return float((ours - direct).abs().max() / direct.abs().max())


def peak_mib_in_a_child(side: str) -> float:
    # without a fixed threshold glibc keeps freed blocks, and they would count as in use
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, *sys.argv[1:], "--peak_of", side]
    return float(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def resident_mib(field: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1024


def print_table(result: dict[str, Any]) -> None:
    print("| | time | peak memory | seconds | MiB |\n|---|---|---|---|---|")
    for pair, ratio in result["ratios"].items():
        seconds, mib = (
            " / ".join(str(result[unit][side]) for side in pair.split(" / ")) for unit in ("seconds", "peak_mib")
        )
        print(f"| {pair} | {ratio['time']} x | {ratio['peak_memory']} x | {seconds} | {mib} |")


if __name__ == "__main__":
    main()
