"""Where the time of a whole training update goes: the timestep encoder's share, by granularity.

    python scripts/bench_update.py --threads 2      # on a busy machine with GOMP_SPINCOUNT=1000 before it

The flagship agent with random weights, LoRA and binary_rl.gin makes whole updates (forward, backward, clipping,
targets, AdamW) on a batch of the bundled gen9ou battles, drawn and padded as in training: float32 on a CPU, bfloat16
for Gemma on CUDA. "frozen" is gemma_synthetic_multitaskagent_frozen.gin with every text of the batch read before. The
encoder's time is that of its forward and of the backward of its output. The sides take turns; medians. Prints a table;
--json ends with one line of JSON.
"""

import argparse
import json
import statistics
import time
from typing import Any

import torch
from bench_encoder import GEMMA_3_270M_CONFIG, OBS_SPACE, SMALL
from torch import Tensor

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import BattleDataset, collate
from gemma_metamon.nets.batch import padded_timesteps
from gemma_metamon.runs import resolve
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.view import BattleView

CONFIGS = {
    "turn": "gemma_synthetic_multitaskagent.gin",
    "entity": "gemma_synthetic_multitaskagent_entity.gin",
    "frozen": "gemma_synthetic_multitaskagent_frozen.gin",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--battles", type=int, default=2, help="in a batch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="updates of each side (default: %(default)s)")
    parser.add_argument("--sides", nargs="+", choices=tuple(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--small", action="store_true", help="a tiny Gemma, to see that it runs")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    view = BattleView.from_names(
        obs_space=OBS_SPACE, action_space="DefaultActionSpace", reward_function="DefaultShapedReward"
    )
    sides = {side: Side(CONFIGS[side], view, args) for side in args.sides}
    files = find_battles(sample_battles.extract("gen9ou"), ["gen9ou"])
    dataset = BattleDataset([files], [1.0], view, max_seq_len=next(iter(sides.values())).max_seq_len, seed=0)
    batch = collate([dataset[number] for number in range(args.battles)]).to(torch.device(args.device))
    for side in sides.values():
        side.update(batch)  # what is made on first use, and the frozen side's texts
    whole: dict[str, list[float]] = {name: [] for name in sides}
    encoder: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.repeats):
        for name, side in sides.items():
            seconds, of_encoder = side.update(batch)
            whole[name].append(seconds)
            encoder[name].append(of_encoder)
    result: dict[str, Any] = {
        "timesteps": int((~padded_timesteps(batch.rl2s)).sum()),
        "padded_timesteps": int(padded_timesteps(batch.rl2s).sum()),
        "device": args.device,
        "threads": args.threads,
        "update_s": {name: round(statistics.median(times), 3) for name, times in whole.items()},
        "encoder_share": {
            name: round(statistics.median(e / w for e, w in zip(encoder[name], whole[name], strict=True)), 3)
            for name in sides
        },
    }
    if "turn" in sides:
        result["turn_vs"] = {
            name: round(statistics.median(t / w for t, w in zip(whole["turn"], times, strict=True)), 2)
            for name, times in whole.items()
        }
    print("| | update, s | encoder's share | updates per second, turn = 1 |")
    print("|---|---|---|---|")
    for name in sides:
        faster = result.get("turn_vs", {}).get(name, "")
        print(f"| {name} | {result['update_s'][name]:.2f} | {100 * result['encoder_share'][name]:.0f} % | {faster} |")
    if args.json:
        print(json.dumps(result))


class Side:
    """One configuration's agent and optimizer."""

    def __init__(self, config: str, view: BattleView, args: argparse.Namespace) -> None:
        torch.manual_seed(0)
        backbone = SMALL if args.small else GEMMA_3_270M_CONFIG
        overrides = ["GemmaTstepEncoder.pretrained = False", f"GemmaTstepEncoder.backbone_config = {backbone}"]
        resolve.load(config, "binary_rl.gin", overrides)
        self.experiment: Experiment = configurable(EXPERIMENT)()
        self.max_seq_len = self.experiment.max_seq_len
        self.agent: Any = self.experiment.build_agent(view).to(args.device).train()
        self.optimizer = self.experiment.build_optimizer(self.agent)
        self.on_cuda = args.device != "cpu"

    def update(self, batch: Any) -> tuple[float, float]:
        """Seconds of one update, and of the timestep encoder in it."""
        encoder, marks = self.agent.tstep_encoder, dict.fromkeys(("out", "in", "end"), 0.0)
        read = encoder.forward

        def timed(*inputs: Any, **options: Any) -> Tensor:
            started = self.now()
            out: Tensor = read(*inputs, **options)
            marks["out"] = self.now() - started
            if out.requires_grad:
                out.register_hook(lambda gradient: marks.update({"in": self.now()}))  # what is behind it, is ours
            return out

        encoder.forward = timed
        started = self.now()
        losses = self.agent(batch)
        self.experiment.total_loss(self.agent, losses.actor_loss, losses.critic_loss).backward()
        backward_ended = self.now()
        torch.nn.utils.clip_grad_norm_(self.agent.parameters(), self.experiment.grad_clip)
        self.agent.update_targets()
        self.optimizer.step()
        self.optimizer.zero_grad()
        whole = self.now() - started
        encoder.forward = read
        return whole, marks["out"] + (backward_ended - marks["in"] if marks["in"] else 0.0)

    def now(self) -> float:
        if self.on_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


if __name__ == "__main__":
    main()
