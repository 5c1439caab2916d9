"""`gemma-metamon metamon-finetune`: metamon's own fine-tuning of a run that has our encoder in it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example, where metamon 1.6.0 and amago are installed:
  gemma-metamon metamon-finetune --run_dir ~/metamon_checkpoints/gemma_synthetic_gen9ou_v1 --ckpt 40 \\
      --run_name gemma_tuned_1 --save_dir ~/metamon_checkpoints --dataset_config "$PWD/gen9ou.yaml" --eval_gens
and the next round, from the slow copy of this one: --run_name gemma_tuned_2 --prev_run_dir ~/metamon_checkpoints \\
      --prev_run_name gemma_tuned_1 --prev_checkpoint 10"""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "metamon-finetune",
        help="let metamon fine-tune a run of its own, or an exported one",
        description="Let metamon fine-tune a run of its own, or one exported with `export --to amago`: its\n"
        "configuration, spaces, reward and words are read from the run. All other flags are metamon.rl.finetune's.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run_dir", type=Path, required=True, help="save_dir/run_name of metamon's, or of an export")
    add_shared_argument(parser, "ckpt")
    parser.set_defaults(run=run, passes_on=True)


def run(args: argparse.Namespace) -> int:
    """Runs metamon's fine-tuning in this process."""
    from gemma_metamon.upstream import evaluation, finetuning

    run_dir = args.run_dir.expanduser()
    finetuning.finetune(run_dir, evaluation.choose_epoch(run_dir, args.ckpt), args.passed)
    return 0
