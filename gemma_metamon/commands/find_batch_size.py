"""`gemma-metamon find-batch-size`: the largest batch that fits, and what each size yields; with train's own flags."""

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import (
    above_zero,
    add_shared_argument,
    at_least_one,
    require_place,
)
from gemma_metamon.commands._run_folder import find_start
from gemma_metamon.commands._training_plan import Plan, add_flags, plan_training
from gemma_metamon.errors import ConfigError, GemmaMetamonError

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.training.batch_sizes import BatchSizes, SizeRow
    from gemma_metamon.training.trainer import Trainer

EXAMPLE = """example (the command that is to train, with `find-batch-size` in the place of `train`):
  gemma-metamon find-batch-size --run_name first --model_gin_config gemma_tiny_multitaskagent.gin \\
      --train_gin_config quick.gin --save_dir runs --formats gen1ou --global_batch 64 --out sizes.json
  gemma-metamon train --batch_size_from sizes.json ...
Each size makes an update with the longest battles of many, for the memory, and one with battles as they are drawn, for
the time. It happens in processes of its own: one that runs out of memory, or is killed for it, is a row. Nothing is
saved but --out."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command, with train's flags."""
    parser = subparsers.add_parser(
        "find-batch-size",
        help="find the largest batch that fits in memory",
        description="Find the largest batch that fits in memory. Takes the flags of train.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser)
    sizes = parser.add_argument_group("sizes")
    sizes.add_argument("--out", type=Path, help="write what was found here, for train --batch_size_from")
    sizes.add_argument(
        "--global_batch", type=at_least_one, help="wanted battles of an update, in all processes together"
    )
    sizes.add_argument("--processes", type=at_least_one, default=1, help="that will train (default: %(default)s)")
    sizes.add_argument(
        "--memory_gb",
        type=above_zero,
        help="that training may take, in 1e9 bytes (default: nine tenths of what is free now)",
    )
    sizes.add_argument(
        "--max_batch_size", type=at_least_one, default=256, help="larger ones are not tried (default: %(default)s)"
    )
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a row for each size as it is known, then what to train with."""
    logging.getLogger().setLevel(logging.WARNING)
    if args.batch_size_from is not None:
        raise ConfigError("--batch_size_from is what this command makes; leave it out")
    if args.out is not None:
        require_place(args.out, "out")
    from gemma_metamon.commands._remote import fetch_inputs, fetched_save_dir, require_writable_folder

    require_writable_folder(args.save_dir)
    fetch_inputs(args)
    args.save_dir = fetched_save_dir(args)
    _plan(args)  # what is wrong is said before a process begins
    from gemma_metamon.training import batch_sizes

    device = batch_sizes.device_type()
    limit = batch_sizes.default_limit(device) if args.memory_gb is None else int(args.memory_gb * 1e9)
    if args.global_batch is not None:
        batch_sizes.divide(args.global_batch, args.processes, 1)
    if not args.json:
        print(f"{'batch':>6} {'battles/s':>10} {'timesteps/s':>12} {'memory, GB':>11}   of {limit / 1e9:.2f}, {device}")
    found = _conclude(args, _measure(args, limit), device, limit)
    if args.out is not None:
        found.write(args.out)
    if args.json:
        print(json.dumps(asdict(found)))
    else:
        _print(args, found)
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    run_dir = args.save_dir / args.run_name
    return plan_training(args, run_dir, find_start(args, run_dir))


def _measure(args: argparse.Namespace, limit: int) -> "list[SizeRow]":
    from gemma_metamon.training import batch_sizes

    def measure(sizes: Sequence[int]) -> "Iterator[SizeRow]":
        return batch_sizes.measure_in_process(sizes, limit, build_trainer, args)

    rows = []
    for row in batch_sizes.find_largest(measure, args.max_batch_size):
        rows.append(row)
        if not args.json:
            print(_as_text(row), flush=True)
    return rows


def _conclude(args: argparse.Namespace, rows: "list[SizeRow]", device: str, limit: int) -> "BatchSizes":
    """Raises GemmaMetamonError where nothing fits."""
    from gemma_metamon.training import batch_sizes

    largest = max((row.batch_size for row in rows if row.fits), default=0)
    if not largest:
        in_4_bits = ", or a pretrained Gemma's _4bit config" if device == "cuda" else ""
        raise GemmaMetamonError(
            f"not even one battle fits in {limit / 1e9:.2f} GB ({rows[0].reason}); give more --memory_gb, or a smaller "
            f"MetamonAMAGOExperiment.max_seq_len{in_4_bits}"
        )
    size, grad_accum = largest, args.grad_accum
    if args.global_batch is not None:
        size, grad_accum = batch_sizes.divide(args.global_batch, args.processes, largest)
    return batch_sizes.BatchSizes(
        model_gin_config=args.model_gin_config,
        device=device,
        limit_bytes=limit,
        batch_size_per_gpu=size,
        grad_accum=grad_accum,
        global_batch=size * grad_accum * args.processes,
        processes=args.processes,
        rows=sorted(rows, key=lambda row: row.batch_size),
    )


def _print(args: argparse.Namespace, found: "BatchSizes") -> None:
    largest = max(row.batch_size for row in found.rows if row.fits)
    beyond = "" if any(not row.fits for row in found.rows) else " (--max_batch_size ended the search)"
    flags = f"--batch_size_per_gpu {found.batch_size_per_gpu} --grad_accum {found.grad_accum}"
    print(f"\nthe largest that fits: {largest}{beyond}\ntrain with {flags}: {found.global_batch} battles an update")
    if args.out is not None:
        print(f"or with --batch_size_from {args.out}")


def _as_text(row: "SizeRow") -> str:
    if not row.fits:
        return f"{row.batch_size:6}   does not fit: {row.reason}"
    memory = f"{row.peak_bytes / 1e9:11.2f}" if row.peak_bytes else f"{'?':>11}"
    return f"{row.batch_size:6} {row.battles_per_s:10.1f} {row.timesteps_per_s:12.0f} {memory}"


def build_trainer(args: argparse.Namespace) -> "Trainer":
    """As `train` builds it. In a process of its own, whose log nobody wants."""
    from gemma_metamon.training.schedule import Schedule
    from gemma_metamon.training.trainer import Trainer

    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    plan = _plan(args)
    plan.dataset.set_aside.record = None
    return Trainer(
        run_dir=Path(tempfile.gettempdir()),  # nothing is written there
        experiment=plan.experiment,
        dataset=plan.dataset,
        schedule=Schedule(epochs=1, steps_per_epoch=1, batch_size=1, seed=args.seed),
        config=plan.resolved.text,
    )
