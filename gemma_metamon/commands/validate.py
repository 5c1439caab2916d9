"""`gemma-metamon validate`: a training tried out before it begins, with train's own flags."""

import argparse
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.checklist import Row
from gemma_metamon.commands._arguments import add_shared_argument, make_folder
from gemma_metamon.commands._checklists import print_rows
from gemma_metamon.commands._run_folder import find_start, is_done
from gemma_metamon.commands._training_plan import add_flags, plan_training, take_batch_size
from gemma_metamon.errors import GemmaMetamonError

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example (the command that is to train, with `validate` in the place of `train`):
  gemma-metamon validate --run_name first --model_gin_config gemma_tiny_multitaskagent.gin \\
      --train_gin_config quick.gin --save_dir runs --formats gen1ou --batch_size_per_gpu 16 --epochs 1
It reads the configuration and some battles, makes three updates, saves and loads a checkpoint on the disk of
--save_dir, and lets it decide along recorded battles. Nothing of it stays. The exit status is 1 where a row is wrong.
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command, with train's flags."""
    parser = subparsers.add_parser(
        "validate",
        help="try a training out before it begins",
        description="Try a training out before it begins. Takes the flags of train.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser)
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints each row as soon as it is known; status 1 where one is wrong."""
    logging.getLogger().setLevel(logging.WARNING)  # its rows say it
    return print_rows(_look(args), as_json=args.json, well="nothing is wrong: the same flags train")


def _look(args: argparse.Namespace) -> Iterator[Row]:
    from gemma_metamon.commands._remote import fetch_inputs, fetched_save_dir, require_writable_folder
    from gemma_metamon.runs.run_folder import writing_in
    from gemma_metamon.training.validating import as_row

    step = "configuration"
    try:
        take_batch_size(args, trains=False)
        require_writable_folder(args.save_dir)
        fetch_inputs(args)
        args.save_dir = fetched_save_dir(args)
        with writing_in(args.save_dir / args.run_name):
            for row in _steps(args):
                yield row
                step = _NEXT.get(row.name, step)
    except GemmaMetamonError as error:
        yield as_row(step, error)
    finally:
        shutil.rmtree(_folder(args), ignore_errors=True)  # on a read-only disk there is none


def _folder(args: argparse.Namespace) -> Path:
    """Where the trial saves: on the disk that the training will save on."""
    return Path(args.save_dir / f".{args.run_name}.validate")


_NEXT = {
    "configuration": "battles",
    "battles": "rewards",
    "rewards": "batches",
    "batches": "updates",
    "gradients": "save and load",
    "room": "act",
}


def _steps(args: argparse.Namespace) -> Iterator[Row]:
    from gemma_metamon.configs.names import EXPERIMENT
    from gemma_metamon.runs.experiment import build_without_weights
    from gemma_metamon.training import validating
    from gemma_metamon.training.batch_sizes import want_of_memory
    from gemma_metamon.training.saving import SaveEvery
    from gemma_metamon.training.schedule import Schedule

    run_dir = args.save_dir / args.run_name
    start = find_start(args, run_dir)
    if is_done(args, start) and start is not None:
        yield Row(name="configuration", state="ok", found=f"{run_dir} is trained to epoch {start.epoch} already")
        return
    plan = plan_training(args, run_dir, start)
    plan.dataset.set_aside.record = None
    bound = sum(1 for name in plan.resolved.bindings if not name.startswith("gin."))
    found = (
        f"{args.model_gin_config}, {args.train_gin_config or 'no training config'}: {bound} bindings, {EXPERIMENT}'s"
    )
    place = f"{run_dir} is free" if start is None else f"{run_dir} goes on after {start.folder.name}"
    yield Row(name="configuration", state="ok", found=f"{found} parts fit each other; {place}")
    battles, row = validating.sample_battles(plan.dataset)
    yield row
    if row.state == "wrong":
        return
    row = validating.look_at_rewards(battles, plan.dataset.view, build_without_weights(plan.dataset.view))
    if row.state == "ok" and plan.warning is not None:
        row = Row(name=row.name, state="wrong", found=row.found, mend=plan.warning)
    yield row
    folder = _folder(args)
    shutil.rmtree(folder, ignore_errors=True)  # a killed one's
    make_folder(folder, "save_dir")
    schedule = Schedule(
        epochs=args.epochs,
        steps_per_epoch=args.steps_per_epoch,
        batch_size=args.batch_size_per_gpu,
        grad_accum=args.grad_accum,
        seed=args.seed,
    )
    try:
        checkpoints = plan.keeping.most(schedule.epochs, between=plan.save_every != SaveEvery())
        yield from validating.try_out(
            folder, plan.experiment, plan.dataset, schedule, plan.resolved.text, checkpoints=checkpoints
        )
    except (MemoryError, RuntimeError) as error:
        reason = want_of_memory(error)
        if reason is None:
            raise
        found = f"batches of {args.batch_size_per_gpu} battles do not fit in memory ({reason})"
        yield Row(name="updates", state="wrong", found=found, mend="gemma-metamon find-batch-size finds what does")
