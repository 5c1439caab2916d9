"""`gemma-metamon train`: metamon's flags, the embedded runtime."""

import argparse
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import make_folder
from gemma_metamon.commands._ending import raise_ended, signals_noted
from gemma_metamon.commands._evaluations import play_missed, start_evaluations
from gemma_metamon.commands._run_folder import check_run_folder, find_start, is_done, prepare_run_folder, write_config
from gemma_metamon.commands._training_plan import UNUSED, Plan, add_flags, plan_training, take_batch_size

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.data.dataset import BattleDataset
    from gemma_metamon.runs.checkpoints import Checkpoint
    from gemma_metamon.training.trainer import Trainer

logger = logging.getLogger(__name__)

EXAMPLE = """example (a minute or two on a CPU, on the bundled battles):
  gemma-metamon train --run_name first --model_gin_config gemma_tiny_multitaskagent.gin --train_gin_config quick.gin \\
      --save_dir runs --formats gen1ou --batch_size_per_gpu 16 --epochs 1 --steps_per_epoch 50"""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds `gemma-metamon train` with its flags."""
    parser = subparsers.add_parser(
        "train",
        help="train an agent on recorded battles",
        description="Train an agent on recorded battles. Takes the flags of metamon's own train command.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains as the flags say, in this process or as one of several. Returns the exit status.

    A signal that ends it is raised, and becomes 128 and its number: 130 after Ctrl-C, 143 after SIGTERM.
    """
    from gemma_metamon.commands._remote import fetch_inputs, mirrored_run, require_writable_folder

    take_batch_size(args, trains=True)
    require_writable_folder(args.save_dir)
    fetch_inputs(args)
    with mirrored_run(args) as args.save_dir:
        return _run(args, args.save_dir / args.run_name)


def _run(args: argparse.Namespace, run_dir: Path) -> int:
    from gemma_metamon.runs.run_folder import how_to_go_on, writing_in

    begun = False

    def on_begin() -> None:
        nonlocal begun
        begun = True

    try:
        with writing_in(run_dir):
            if is_done(args, start := find_start(args, run_dir)) and start is not None:
                if os.environ.get("RANK", "0") == "0":  # of several processes one does it
                    play_missed(args, run_dir)
                    print(f"trained to epoch {start.epoch} already; checkpoints in {run_dir / 'ckpts'}")
                return 0
            return _train(args, run_dir, plan_training(args, run_dir, start), start, on_begin)
    except KeyboardInterrupt:
        logger.info("%s%s", "" if begun else "training had not begun; ", how_to_go_on(run_dir))
        raise


def _train(
    args: argparse.Namespace,
    run_dir: Path,
    plan: Plan,
    planned: "Checkpoint | None",
    on_begin: Callable[[], None],
) -> int:
    from gemma_metamon.runs import run_folder
    from gemma_metamon.training import processes, tracking

    state = processes.join()
    sharded = processes.take_sharding(state)
    dataset, config = plan.dataset, plan.resolved.text
    if not state.is_main_process:  # the main one says it for all, and keeps the records
        logging.getLogger().setLevel(logging.WARNING)
        dataset.set_aside.record = None
    for flag, reason in UNUSED.items():
        if getattr(args, flag) is not None:
            logger.info("--%s is unused: %s", flag, reason)
    logger.info("%s", processes.describe(state, args.batch_size_per_gpu, args.grad_accum, sharded=sharded))
    if plan.warning is not None and state.is_main_process:
        logger.warning("%s", plan.warning)
    settings = {name: _as_json(value) for name, value in vars(args).items() if name != "run"}
    settings["processes"] = state.num_processes
    with contextlib.ExitStack() as held:

        def take_folder() -> "Checkpoint | None":
            with run_folder.writing_in(run_dir):
                make_folder(run_dir, "save_dir")
                held.enter_context(run_folder.training_lock(run_dir))
                # again: another training may have ended just now
                start = find_start(args, run_dir, planned)
                check_run_folder(args, run_dir, plan.identity, start)
                prepare_run_folder(run_dir, start, settings, config)
            return start

        start = processes.on_main_process(state, take_folder)
        dataset.preload()
        trainer = _open_trainer(args, run_dir, plan, settings, start, sharded=sharded)
        logger.info("%s", config if args.verbose else f"the resolved configuration is in {run_dir / 'config.gin'}")
        tracker = held.enter_context(
            tracking.Tracker(
                run_dir,
                args.run_name,
                {**settings, "gin": plan.resolved.bindings},
                wandb=args.log and state.is_main_process,
            )
        )
        evaluations = None
        if state.is_main_process:
            evaluations = held.enter_context(start_evaluations(args, run_dir, tracker))
        with signals_noted() as end_asked:
            on_begin()
            if evaluations is None:
                trainer.train(tracker, end_asked=end_asked)
            else:
                trainer.train(tracker, evaluations.on_checkpoint, end_asked, evaluations.in_use)
        if number := trainer.ended_by or end_asked():
            raise_ended(number)
    if state.is_main_process:
        _report_data(dataset)
        print(f"trained to epoch {trainer.epoch} ({trainer.updates} updates); checkpoints in {run_dir / 'ckpts'}")
    return 0


def _open_trainer(
    args: argparse.Namespace,
    run_dir: Path,
    plan: Plan,
    settings: dict[str, Any],
    start: "Checkpoint | None",
    *,
    sharded: bool,
) -> "Trainer":
    """Where it begins, or is to go on. Writes config.gin last: what cannot go on leaves it as it was."""
    from gemma_metamon.runs.checkpoints import Checkpoint
    from gemma_metamon.training.schedule import Schedule
    from gemma_metamon.training.trainer import Trainer

    trainer = Trainer(
        run_dir=run_dir,
        experiment=plan.experiment,
        dataset=plan.dataset,
        schedule=Schedule(
            epochs=args.epochs,
            steps_per_epoch=args.steps_per_epoch,
            batch_size=args.batch_size_per_gpu,
            grad_accum=args.grad_accum,
            seed=args.seed,
            log_interval=args.log_interval,
        ),
        config=plan.resolved.text,
        settings=settings,
        held_out=plan.held_out,
        dloader_workers=args.dloader_workers,
        save_every=plan.save_every,
        keeping=plan.keeping,
        sharded=sharded,
    )
    if start is not None:
        logger.info("going on after %s", start.place)
        trainer.resume(start, anew=args.anew)
    elif args.init_from is not None:
        trainer.start_from(Checkpoint.find_named(args.init_from))
    if trainer.accelerator.is_main_process:
        write_config(run_dir, plan.resolved.text)
    return trainer


def _as_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_json(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _report_data(dataset: "BattleDataset") -> None:
    if dataset.set_aside.reasons:
        logger.warning(
            "%d damaged battle files were set aside; their reasons are in %s",
            len(dataset.set_aside.reasons),
            dataset.set_aside.record,
        )
    unknown = dataset.view.vocabulary.unknown_counts
    if unknown:
        logger.warning(
            "%d words were in no vocabulary; the most frequent: %s", sum(unknown.values()), unknown.most_common(5)
        )
