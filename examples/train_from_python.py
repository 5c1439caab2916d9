"""Trains an agent from Python: what `gemma-metamon train` does, with the parts that it is made of.

python examples/train_from_python.py --run_dir runs/from_python --updates 200
"""

import argparse
from pathlib import Path

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import BattleDataset, split_held_out
from gemma_metamon.runs import resolve
from gemma_metamon.training.schedule import Schedule
from gemma_metamon.training.tracking import Tracker
from gemma_metamon.training.trainer import Trainer
from gemma_metamon.view import BattleView


def main() -> None:
    """Imitates the bundled gen1ou battles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", type=Path, required=True, help="a new folder")
    parser.add_argument("--battles", type=Path, help="a folder with gen1ou/*.json.lz4 (default: the bundled ones)")
    parser.add_argument("--model", default="gemma_tiny_entity.gin")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--gin_override", action="append", default=[])
    args = parser.parse_args()

    # what the agent is: gin now holds its configuration, and builds from it what is asked for by name
    resolved = resolve.load(args.model, "quick.gin", args.gin_override)
    experiment = configurable(EXPERIMENT)()
    view = BattleView.default()  # words, numbers, actions and rewards

    # what it learns from: windows of battles, of which some are never trained on
    folder = args.battles or sample_battles.extract("gen1ou")
    training, held_out = split_held_out(find_battles(folder, ["gen1ou"]), share=0.05)
    dataset = BattleDataset([training], [1.0], view, max_seq_len=experiment.max_seq_len, seed=0)
    dataset.preload()

    trainer = Trainer(
        run_dir=args.run_dir,
        experiment=experiment,
        dataset=dataset,
        schedule=Schedule(epochs=1, steps_per_epoch=args.updates, batch_size=args.batch_size),
        config=resolved.text,
        held_out=held_out,
    )
    with Tracker(args.run_dir, args.run_dir.name, {}, wandb=False) as tracker:
        trainer.train(tracker, on_checkpoint=lambda checkpoint: print("saved", checkpoint.label))
    weights = sum(parameter.numel() for parameter in trainer.bare_agent.parameters())
    print(f"{trainer.updates} updates of {weights:,} weights, from {len(training)} battles; see {args.run_dir}")


if __name__ == "__main__":
    main()
