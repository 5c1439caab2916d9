"""`gemma-metamon metamon-evaluate`: metamon's own evaluation of a run that has our encoder in it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example, where metamon and amago are installed:
  gemma-metamon metamon-evaluate --run_dir ~/metamon_checkpoints/gemma_synthetic_gen9ou_v1 --ckpt 40 \\
      --eval_type heuristic --gens 9 --formats ou --total_battles 100"""


def add_parser(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "metamon-evaluate",
        help="let metamon evaluate a run of its own, or an exported one",
        description="Let metamon evaluate a run of its own, or one exported with `export --to amago`: its\n"
        "configuration, spaces, reward and words are read from the run. All other flags are\n"
        "metamon.rl.evaluate's (--eval_type heuristic|il|ladder|pokeagent --gens --formats --total_battles ...).",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run_dir", type=Path, required=True, help="save_dir/run_name of metamon's, or of an export")
    parser.add_argument("--ckpt", type=int, help="the epoch of the checkpoint (default: the last)")
    parser.set_defaults(run=run, passes_on=True)


def run(args: argparse.Namespace) -> int:
    from gemma_metamon.upstream import evaluation

    run_dir = args.run_dir.expanduser()
    epoch = evaluation.choose_epoch(run_dir, args.ckpt)
    evaluation.evaluate(run_dir, epoch, args.passed)
    return 0
