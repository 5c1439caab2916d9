"""A grid of the last four turns, this turn alone, or four pictures: which does a tiny model learn most from?

    python scripts/compare_frames.py --parsed_replay_dir runs/eyes_gen1ou/teacher --out runs/frames

Four pictures of 224 pixels have four times the tokens of one. So they are compared at equal data (as many updates, of
the same decisions) and at equal tokens (fewer updates, until as many tokens were read as by the grid), and beside them
stand four pictures of 112, which tell what the grid tells with as many tokens, decision for decision.

Each model begins with random weights and learns to read and to choose at once (`vlm export --reasoning seen`); what
counts is the agreement of its most probable legal choice with held-out battles, which are the same for all. Seeds are
those of the weights and of the order. The interval is that of the decisions and says nothing of the seeds, which stand
beside it.

Sizes: 300 updates of 16 decisions, drawn from 400 recorded views of battles with 1,000 decisions held out. So 15
trainings take some forty minutes on two cores, two at a time (--jobs), each of one thread. What is there already is not
done again.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.intervals import wilson_interval

BATCH: Final = 16
VIEWS, VAL_SHARE, BATTLE_FORMAT = 400, 0.2, "gen1ou"


@dataclass(frozen=True)
class Variant:
    """What is shown.

    Attributes:
        name: in the table.
        frames, size: as of `vlm export`.
        equal_tokens: as many tokens as those of the grid, and not as many updates.
    """

    name: str
    frames: str
    size: int
    equal_tokens: bool = False

    @property
    def data(self) -> str:
        """The folder of its data."""
        return f"{self.frames}_{self.size}"

    @property
    def run(self) -> str:
        """What its runs' folders begin with."""
        return f"{self.data}_tokens" if self.equal_tokens else self.data


VARIANTS: Final = (
    Variant("this turn", "single", 224),
    Variant("grid", "grid", 224),
    Variant("four, equal data", "four", 224),
    Variant("four, equal tokens", "four", 224, equal_tokens=True),
    Variant("four of half the size", "four", 112),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parsed_replay_dir", type=Path, required=True, help="DuelTrainer's battles")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=300, help="of 16 decisions (default: %(default)s)")
    parser.add_argument("--held_out", type=int, default=1000, help="decisions (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (default: %(default)s)")
    args = parser.parse_args()
    battles = few_battles(args.parsed_replay_dir, args.out)
    data = {variant.data: variant for variant in VARIANTS}
    in_turn(args.jobs, [(export, args, variant, battles) for variant in data.values()])
    tokens = dict(zip(data, in_turn(args.jobs, [(tokens_of, args.out / name) for name in data]), strict=True))
    updates = {
        each: round(args.updates * tokens["grid_224"] / tokens[each.data]) if each.equal_tokens else args.updates
        for each in VARIANTS
    }
    by_cost = sorted(VARIANTS, key=lambda each: -updates[each] * tokens[each.data])  # the longest do not end alone
    trainings = [(each, seed) for each in by_cost for seed in args.seeds]
    in_turn(args.jobs, [(train, args, each, updates[each], seed) for each, seed in trainings])
    print("| | decisions | tokens of each | agrees | seeds |")
    print("|---|---|---|---|---|")
    for each in VARIANTS:
        found = [json.loads(measured(args.out, each, seed).read_text(encoding="utf-8")) for seed in args.seeds]
        shares = [one["agreement"] for one in found]
        mean, n = statistics.mean(shares), round(found[0]["decisions"])
        low, high = wilson_interval(round(mean * n), n)
        print(
            f"| {each.name} | {BATCH * updates[each]:,} | {tokens[each.data]:.0f} | {mean:.1%} ({100 * low:.1f} to "
            f"{100 * high:.1f}) | {', '.join(f'{share:.1%}' for share in shares)} |"
        )
    print(f"always the most frequent answer: {found[0]['majority']:.1%} of {n} held-out decisions")


def few_battles(root: Path, out: Path) -> Path:
    """So many views of battles as a folder of their own: reading all of a teacher's takes as long as a training."""
    folder = out / "battles"
    if not folder.exists():
        with written_whole(folder) as staged:
            (staged / BATTLE_FORMAT).mkdir(parents=True)
            for path in find_battles(root, [BATTLE_FORMAT])[:VIEWS]:
                shutil.copy(path, staged / BATTLE_FORMAT)
    return folder


def export(args: argparse.Namespace, variant: Variant, battles: Path) -> None:
    """Draws the decisions, once for all seeds."""
    out = args.out / variant.data
    if (out / "form.json").exists():
        return
    rows = round(1.25 * (args.updates * BATCH + args.held_out))  # the split is one of battles, and not exact
    run(
        *["vlm", "export", "--parsed_replay_dir", battles, "--players", "DuelTrainer*", "--reasoning", "seen"],
        *["--frames", variant.frames, "--size", variant.size, "--val_share", VAL_SHARE, "--subset", rows],
        *["--workers", 1, "--out", out],
    )


def tokens_of(data: Path) -> float:
    """Of an example with its answer, on average."""
    from gemma_metamon.vision.chats import encode, read_seen
    from gemma_metamon.vision.forms import read_form
    from gemma_metamon.vision.models import SeeingModel, SeeingPlan
    from gemma_metamon.vision.tiny import build_processor

    seen = read_seen(data / "dataset.jsonl")[:500]
    processor = build_processor([text for each in seen for text in each.texts], read_form(data).size)
    examples, _ = encode(SeeingModel(None, processor.tokenizer, SeeingPlan(), None, processor), seen, 1 << 20)
    return statistics.mean(map(len, examples))


def measured(out: Path, variant: Variant, seed: int) -> Path:
    """The file of what a training came to."""
    return out / f"{variant.run}_{seed}.json"


def train(args: argparse.Namespace, variant: Variant, updates: int, seed: int) -> None:
    """Trains and measures."""
    kept, data = measured(args.out, variant, seed), args.out / variant.data
    if kept.exists():
        return
    run_dir = kept.with_suffix("")
    shutil.rmtree(run_dir, ignore_errors=True)  # of a run that was stopped
    run(
        *["vlm", "train", "--data", data / "dataset.jsonl", "--val", data / "dataset.validation.jsonl"],
        *["--max_updates", updates, "--epochs", 99, "--batch_size", BATCH, "--seed", seed],
        *["--held_out", args.held_out, "--generated", 0, "--out", run_dir],
    )
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    (*_, last) = (line for line in lines if "held_out/agreement" in line)
    found = {name: last[f"held_out/{name}"] for name in ("agreement", "decisions", "majority")}
    with written_whole(kept) as staged:
        staged.write_text(json.dumps(found), encoding="utf-8")


def in_turn(jobs: int, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What the calls return, so many of them at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda call: call[0](*call[1:]), calls))


def run(*command: Any) -> None:
    """A process of one thread; ends this one where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    said = [sys.executable, "-m", "gemma_metamon", *map(str, command)]
    if status := subprocess.run(said, env=environment, stdout=sys.stderr).returncode:
        sys.exit(status)


if __name__ == "__main__":
    main()
