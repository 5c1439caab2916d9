"""Keep a checkpoint of this version, so that later ones can show that they still load it and play as it did.

    python scripts/build_checkpoint_golden.py --out tests/goldens/checkpoints/0.1.0.tar.xz

Trains for seconds on the golden battles, rounds the weights (which then take a part of the space) and writes the
checkpoint with the probabilities that it gives to every action of a recorded battle. Run it in a checkout of the
version that is to be kept; a file that is there stays as it is.
"""

import argparse
import json
import sys
import tarfile
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.commands import main as gemma_metamon
from gemma_metamon.explain.follow import Follower, follow_recorded
from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint
from gemma_metamon.runs.loading import load_for_play

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))
from support.small_agent import train_command  # noqa: E402

BATTLES = TESTS / "goldens" / "battles"
BATTLE = next((BATTLES / "gen9ou").glob("metamon-gen9ou-0355040679_*"))


def rounded(name: str, weights: Tensor) -> Tensor:
    """To a quarter of their spread; the actor's are made larger, so that a seconds-old policy tells actions apart."""
    if not weights.is_floating_point() or weights.numel() < 2:
        return weights
    step = float(weights.std().clamp(min=1e-3)) / 4
    return (weights / step).round() * step * (2 if name.startswith("actor.") else 1)


def probabilities(checkpoint: Checkpoint) -> list[list[float]]:
    """Of the actions that are shown, at each decision of the battle."""
    playable = load_for_play(checkpoint, "cpu")
    decisions = follow_recorded(Follower(playable.agent, playable.view), load_battle(BATTLE))
    return [[round(option.probability, 7) for option in decision.options] for decision in decisions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.tar.xz")
    out = parser.parse_args().out
    if out.exists():
        sys.exit(f"{out} is there already: it stands for a version that is past")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        if gemma_metamon(train_command(Path(scratch))):
            sys.exit("training failed")
        checkpoint = Checkpoint.find(Path(scratch) / "run")
        folder = checkpoint.folder
        (folder / TRAINING).unlink(missing_ok=True)
        weights = folder / WEIGHTS
        save_file({name: rounded(name, value) for name, value in load_file(weights).items()}, weights)
        expected = {"battle": BATTLE.relative_to(BATTLES).as_posix(), "probabilities": probabilities(checkpoint)}
        (folder / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
        with tarfile.open(out, "w:xz") as archive:
            archive.add(folder, arcname=f"run/ckpts/{folder.name}")
    print(f"{out}: {out.stat().st_size} bytes, {len(expected['probabilities'])} decisions")


if __name__ == "__main__":
    main()
