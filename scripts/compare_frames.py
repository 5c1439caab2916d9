"""A grid of the last four turns, this turn alone, or four pictures: which does a tiny model learn most from?

    python scripts/compare_frames.py --parsed_replay_dir runs/eyes_gen1ou/teacher --out runs/frames

The same decisions, the same held-out battles and as many updates for each; so the data are equal. Four pictures of 224
pixels have four times the tokens of the others, four of 112 as many. Each learns to read and to choose at once
(`vlm export --reasoning seen`); what counts is the agreement of its most probable legal choice. What is there already
is not done again. With the defaults a run takes about ten minutes of one core, four pictures of 224 pixels longer.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from gemma_metamon.commands import main as gemma_metamon
from gemma_metamon.vision.grid import FRAMES
from gemma_metamon.vision.tiny import picture_tokens

VARIANTS: Final = {  # name -> --frames, --size
    "this turn": ("single", 224),
    "grid": ("grid", 224),
    "four, as many tokens": ("four", 112),
    "four, as many pixels each": ("four", 224),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parsed_replay_dir", type=Path, required=True, help="DuelTrainer's battles")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=1000, help="of 16 decisions (default: %(default)s)")
    parser.add_argument("--held_out", type=int, default=800, help="decisions (default: %(default)s)")
    args = parser.parse_args()
    for name, (frames, size) in VARIANTS.items():
        found = [measured(args, frames, size, seed) for seed in args.seeds]
        shares = [each["agreement"] for each in found]
        tokens = picture_tokens(size) * (FRAMES if frames == "four" else 1)
        row = f"{name:26}{tokens:5} tokens of pictures{sum(shares) / len(shares):8.1%}"
        print(f"{row}   ({', '.join(f'{share:.1%}' for share in shares)}) of {found[0]['decisions']}", flush=True)


def measured(args: argparse.Namespace, frames: str, size: int, seed: int) -> dict[str, Any]:
    """Of the held-out decisions, after training."""
    folder = args.out / f"{frames}_{size}_{seed}"
    kept = folder / "measured.json"
    if not kept.exists():
        data, run_dir = folder / "data", folder / "run"
        export = ["vlm", "export", "--parsed_replay_dir", args.parsed_replay_dir, "--formats", "gen1ou"]
        export += ["--players", "DuelTrainer*", "--val_share", 0.05, "--subset", 17 * args.updates, "--seed", seed]
        export += ["--frames", frames, "--size", size, "--reasoning", "seen", "--workers", 1, "--out", data]
        if not (data / "dataset.jsonl").exists():
            run(export)
        train = ["vlm", "train", "--data", data / "dataset.jsonl", "--val", data / "dataset.validation.jsonl"]
        train += ["--max_updates", args.updates, "--epochs", 99, "--batch_size", 16, "--seed", seed]
        run([*train, "--held_out", args.held_out, "--generated", 0, "--out", run_dir])
        lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        (*_, last) = (line for line in lines if "held_out/agreement" in line)
        found = {name: last[f"held_out/{name}"] for name in ("agreement", "decisions")}
        kept.write_text(json.dumps(found), encoding="utf-8")
    result: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return result


def run(command: list[Any]) -> None:
    if status := gemma_metamon([str(part) for part in command]):
        sys.exit(status)


if __name__ == "__main__":
    main()
