"""`gemma-metamon metamon-evaluate`: metamon's own evaluation of a run that has our encoder in it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """examples, where metamon and amago are installed:
  gemma-metamon metamon-evaluate --run_dir ~/metamon_checkpoints/gemma_synthetic_gen9ou_v1 --ckpt 40 \\
      --eval_type heuristic --gens 9 --formats ou --total_battles 100
  gemma-metamon metamon-evaluate --run_dir runs/first runs/second --eval_type h2h --config h2h.yaml --gpus 0 \\
      --output_dir h2h"""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "metamon-evaluate",
        help="let metamon evaluate a run of its own, or an exported one",
        description="Let metamon evaluate a run of its own, or one exported with `export --to amago`: its\n"
        "configuration, spaces, reward and words are read from the run. All other flags are\n"
        "metamon.rl.evaluate's (--eval_type heuristic|il|ladder|pokeagent|challenge --gens --formats\n"
        "--total_battles ...), or those of one of its launchers (--eval_type h2h|sweep|ladder_self_play\n"
        "--config FILE.yaml --gpus 0 ...), where a run is the model 'gemma_metamon:NAME'.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run_dir",
        type=Path,
        nargs="+",
        required=True,
        help="save_dir/run_name of metamon's, or of an export; several for a launcher",
    )
    add_shared_argument(parser, "ckpt")
    parser.add_argument("--eval_type", help=argparse.SUPPRESS)
    parser.set_defaults(run=run, passes_on=True)


def run(args: argparse.Namespace) -> int:
    """Runs metamon's evaluation in this process, or one of its launchers."""
    from gemma_metamon.errors import ConfigError
    from gemma_metamon.upstream import evaluation, launchers

    runs = {path: evaluation.choose_epoch(path, args.ckpt) for path in (path.expanduser() for path in args.run_dir)}
    if args.eval_type in launchers.LAUNCHERS:
        return launchers.launch(args.eval_type, runs, args.passed)
    if len(runs) > 1:
        raise ConfigError(
            f"{len(runs)} runs; --eval_type {args.eval_type} plays one (several: {', '.join(launchers.LAUNCHERS)})"
        )
    ((run_dir, epoch),) = runs.items()
    eval_type = [] if args.eval_type is None else ["--eval_type", args.eval_type]
    evaluation.evaluate(run_dir, epoch, [*eval_type, *args.passed])
    return 0
