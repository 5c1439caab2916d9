"""The flags of `train` that say when it is saved, which checkpoints stay, and how it goes on."""

import argparse
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import add_shared_argument, at_least_one
from gemma_metamon.errors import ConfigError

if TYPE_CHECKING:
    from gemma_metamon.runs.experiment import Experiment
    from gemma_metamon.runs.keeping import Keeping
    from gemma_metamon.training.saving import SaveEvery


def add_saving_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds them as two groups."""
    saving = parser.add_argument_group(
        "saving",
        "A checkpoint is saved after each epoch, and where training is asked to end (Ctrl-C, SIGTERM).",
    )
    saving.add_argument(
        "--save_every", metavar="N|Nm", help="save between epochs, too: every 500 updates, or every 30m (minutes)"
    )
    saving.add_argument(
        "--keep_last", type=at_least_one, metavar="K", help="checkpoints that stay, newest first (default: all epochs')"
    )
    saving.add_argument(
        "--keep_best",
        metavar="METRIC",
        help="ckpts/best names the epoch's that is best by this held-out metric, and with --keep_last it stays",
    )
    going_on = parser.add_argument_group("going on")
    going_on.add_argument(
        "--resume",
        choices=("auto",),
        help="auto: go on from the run's newest whole checkpoint; begin where there is none (default: refuse to)",
    )
    add_shared_argument(going_on, "ckpt", help="go on after this epoch's checkpoint of the same run")
    going_on.add_argument(
        "--discard_later", action="store_true", help="with --ckpt: move what came after it into RUN/discarded/"
    )
    going_on.add_argument(
        "--anew",
        action="store_true",
        help="with --ckpt: take its weights alone, as --init_from would; optimizer and warm-ups begin anew",
    )
    going_on.add_argument(
        "--init_from", metavar="RUN_DIR[@EPOCH]", help="begin with the weights of this checkpoint of another run"
    )


def read_saving(args: argparse.Namespace, experiment: "Experiment", agent: Any) -> "tuple[SaveEvery, Keeping]":
    """What the flags ask for. Raises ConfigError where they cannot mean anything."""
    from gemma_metamon.runs.keeping import Keeping
    from gemma_metamon.training.saving import SaveEvery

    judge = set() if experiment.best_share is None else {experiment.best_after_epoch}
    keeping = Keeping(last=args.keep_last, best=args.keep_best, always=frozenset({0} | judge))
    if args.keep_best is not None and args.holdout_share == 0:
        raise ConfigError(f"--keep_best {args.keep_best} is measured on held-out battles; --holdout_share 0 has none")
    if keeping.needs_critics and not agent.uses_critics:
        raise ConfigError(f"--keep_best {args.keep_best} is of critics, and this run's are not used; take agreement")
    return SaveEvery() if args.save_every is None else SaveEvery.read(args.save_every), keeping
