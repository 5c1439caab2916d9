"""Latency of a decision in one battle: granularity "entity" and "turn", which read no text twice, against "direct".

    npm ci --prefix tests/npm                       # Gemma's tokenizer, which only the direct formulation needs
    python scripts/bench_act.py --threads 2         # on a busy machine with GOMP_SPINCOUNT=1000 before it

All sides are the flagship agent with random weights (float32 on a CPU, bfloat16 for Gemma on CUDA) and differ in the
timestep encoder alone; "direct" is that of bench_encoder.py. "entity" and "turn" are made ready to play as a loaded
checkpoint is (adapters merged into float32 weights); "entity_trained" is not, "entity_bf16" has weights in bfloat16.
Each plays through recorded gen9ou battles decision by decision, one battle at a time, with the transformer's KV cache;
the sides take turns at every decision. What the text cache holds goes on from battle to battle, as when an agent plays,
and with --seen N the entities of N other battles are in it at the start. Prints a table; --json ends with one line of
JSON.
"""

import argparse
import copy
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from bench_encoder import CLOCKS, OBS_SPACE, SMALL, TOKENIZER, Direct
from torch import Tensor, nn

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.nets.agents.acting import prepare_to_act
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.reader.backbone import GEMMA_3_270M_CONFIG
from gemma_metamon.nets.reader.numbers import NumbersEncoder
from gemma_metamon.runs import resolve
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.text.phrases import join_phrases
from gemma_metamon.view import BattleView

SIDES = ("entity", "entity_trained", "entity_bf16", "turn", "direct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--battles", type=int, default=3, help="played one after the other (default: %(default)s)")
    parser.add_argument("--seen", type=int, default=0, help="battles read before the first (default: %(default)s)")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["entity", "turn", "direct"])
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu is fairer on a busy machine, 1 thread")
    parser.add_argument("--direct_every", type=int, default=4, help="time direct on each such decision (%(default)s)")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="Gemma's tokenizer.json, or its folder")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--small", action="store_true", help="a tiny Gemma, to see that it runs")
    args = parser.parse_args()
    if args.clock == "cpu" and (args.device != "cpu" or args.threads != 1):
        raise SystemExit("bench_act: --clock cpu needs --device cpu and --threads 1")
    torch.set_num_threads(args.threads)
    view = BattleView.from_names(
        obs_space=OBS_SPACE, action_space="DefaultActionSpace", reward_function="DefaultShapedReward"
    )
    agents = build_agents(view, args)
    latencies = play(agents, view, args)
    settings = ("device", "threads", "clock", "battles", "seen")
    result: dict[str, Any] = {name: getattr(args, name) for name in settings}
    result["decisions"] = max(map(len, latencies.values()))
    result["milliseconds"] = {
        side: {"median": 1e3 * statistics.median(times), "p95": 1e3 * percentile_95(times)}
        for side, times in latencies.items()
    }
    for side in args.sides:
        if side == "direct":
            continue
        if "direct" in args.sides:
            for name in ("median", "p95"):
                ratio = result["milliseconds"]["direct"][name] / result["milliseconds"][side][name]
                result[f"{side}_vs_direct_{name}"] = round(ratio, 2)
        cache = agents[side].tstep_encoder.reader.cache
        result[f"{side}_share_read"] = round(cache.misses / (cache.hits + cache.misses), 4)
    print_table(result)
    if args.json:
        print(json.dumps(result))


class DirectTimestep(nn.Module):
    """bench_encoder's direct formulation as a timestep encoder."""

    emb_dim = 2944

    def __init__(self, view: BattleView, tokenizer: Path, config: dict[str, Any], dtype: torch.dtype) -> None:
        super().__init__()
        self.view = view
        self.direct = Direct(tokenizer, config, 2688, dtype)
        self.numbers = NumbersEncoder(view.obs_space.n_numbers, 1 + view.action_space.n, extra_dim=18, emb_dim=256)

    def forward(self, obs: Mapping[str, Tensor], rl2s: Tensor) -> Tensor:
        words = obs["text_tokens"].flatten(0, 1).cpu().numpy()
        lines = [self.view.vocabulary.decode(row) for row in words]
        texts = self.direct([join_phrases(line, "natural", self.view.vocabulary) for line in lines])
        return torch.cat([texts.view(*rl2s.shape[:2], -1), self.numbers(obs["numbers"], rl2s)], dim=-1)


def build_agents(view: BattleView, args: argparse.Namespace) -> dict[str, Any]:
    """One agent for each side; sides of one granularity have the same weights."""
    config = SMALL if args.small else GEMMA_3_270M_CONFIG
    made: dict[str, Any] = {}
    agents = {}
    for side in args.sides:
        granularity = "turn" if side == "turn" else "entity"
        if granularity not in made:
            made[granularity] = build_agent(granularity, config, view)
        agent = copy.deepcopy(made[granularity])
        if side == "direct":
            dtype = torch.float32 if args.device == "cpu" else torch.bfloat16
            agent.tstep_encoder = DirectTimestep(view, args.tokenizer, config, dtype)
        agents[side] = agent.to(args.device).eval()
        if side not in ("direct", "entity_trained"):
            prepare_to_act(agent, "bfloat16" if side == "entity_bf16" else "float32")
    return agents


def build_agent(granularity: str, config: dict[str, Any], view: BattleView) -> Any:
    torch.manual_seed(0)
    overrides = ["GemmaTstepEncoder.pretrained = False", f"GemmaTstepEncoder.backbone_config = {config}"]
    resolve.load(
        "gemma_synthetic_multitaskagent.gin", None, [*overrides, f"GemmaTstepEncoder.granularity = '{granularity}'"]
    )
    experiment: Experiment = configurable(EXPERIMENT)()
    return experiment.build_agent(view)


def play(agents: dict[str, Any], view: BattleView, args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each decision, by side."""
    files = sorted(find_battles(sample_battles.extract("gen9ou"), ["gen9ou"]))[: args.seen + args.battles]
    if not files:
        raise SystemExit("bench_act: no bundled gen9ou battles")
    read_before(agents, files[: args.seen], view, args.device)
    latencies: dict[str, list[float]] = {side: [] for side in agents}
    rows, clock = torch.arange(1), CLOCKS[args.clock]
    for path in files[args.seen :]:
        batch = whole_battle(path, view, args.device)
        caches = {side: agent.traj_encoder.init_cache(1) for side, agent in agents.items()}
        for t in range(batch.rl2s.shape[1]):
            obs = {name: array[:, t : t + 1] for name, array in batch.obs.items()}
            for side, agent in agents.items():
                if side == "direct" and t % args.direct_every:
                    continue
                wait(args.device)
                started = clock()
                agent.act(obs, batch.rl2s[:, t : t + 1], batch.time_idxs[:, t : t + 1], caches[side], rows)
                wait(args.device)
                latencies[side].append(clock() - started)
    return latencies


@torch.no_grad()
def read_before(agents: dict[str, Any], files: list[Path], view: BattleView, device: str) -> None:
    """Let those that read entities read those of whole battles, and start their counts anew."""
    for path in files:
        words = whole_battle(path, view, device).obs["text_tokens"][0]
        for side, agent in agents.items():
            if side.startswith("entity"):
                agent.tstep_encoder.encode_texts(words)
    for side, agent in agents.items():
        if side != "direct" and agent.tstep_encoder.reader.cache is not None:
            agent.tstep_encoder.reader.cache.hits = agent.tstep_encoder.reader.cache.misses = 0


def whole_battle(path: Path, view: BattleView, device: str) -> Batch:
    battle = encode_battle(path, view)
    return collate([take_window(battle, 0, battle.n_decisions)]).to(torch.device(device))


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def percentile_95(times: list[float]) -> float:
    return sorted(times)[int(0.95 * (len(times) - 1))]


def print_table(result: dict[str, Any]) -> None:
    print("| | median, ms | 95th percentile, ms | direct / this, median | direct / this, 95th | share of texts read |")
    print("|---|---|---|---|---|---|")
    for side, times in result["milliseconds"].items():
        ratios = [result.get(f"{side}_vs_direct_{name}", 1.0) for name in ("median", "p95")]
        read = result.get(f"{side}_share_read", 1.0)
        print(
            f"| {side} | {times['median']:.1f} | {times['p95']:.1f} | {ratios[0]} | {ratios[1]} | {100 * read:.1f} % |"
        )


if __name__ == "__main__":
    main()
