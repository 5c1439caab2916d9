"""The actions `train` and `merge` of `gemma-metamon vlm`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument, made_folder, require_place
from gemma_metamon.commands._ending import signals_noted
from gemma_metamon.commands._fine_tuning import (
    add_adapter_arguments,
    add_learning_arguments,
    add_run_arguments,
    as_table,
    check_log,
    learning_arguments,
    plan_arguments,
)
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

TRAIN_EXAMPLE = """example:
  gemma-metamon vlm train --data seen/dataset.jsonl --val seen/dataset.validation.jsonl --out runs/eyes
  gemma-metamon vlm train --data seen/dataset.jsonl --model google/gemma-3-4b-it --use_4bit --out runs/eyes_4b
  gemma-metamon evaluate --players vlm:runs/eyes --format gen1ou --battles 100
The loss is that of the answers alone. Without --model it is a tiny Gemma 3 of random weights, all of which learn; of a
pretrained one adapters learn (LoRA), on the language layers alone unless --vision_layers says otherwise. Gemma 3 spends
256 tokens on a picture; a row that is longer than the context is set aside, and counted."""
MERGE_EXAMPLE = """example:
  gemma-metamon vlm merge --run runs/eyes_4b --out eyes_4b
  gemma-metamon evaluate --players vlm:eyes_4b --format gen1ou --battles 100
The folder is read back, and its logits compared with those of the run; form.json in it says how decisions are shown."""


def add_train(actions: "Subparsers") -> None:
    """Adds `vlm train` with its flags."""
    parser = actions.add_parser(
        "train",
        help="teach a model that sees to choose, from data of vlm export",
        epilog=TRAIN_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="to learn from, DIR/dataset.jsonl of `vlm export`")
    parser.add_argument("--val", type=Path, help="held-out rows, looked at after each epoch")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder, which `vlm:OUT` plays")
    parser.add_argument("--resume", action="store_true", help="go on after what --out has kept")
    parser.add_argument(
        "--choice_alone", action="store_true", help="answer by the choice, whatever else the answers of --data say"
    )
    model = parser.add_argument_group("which model")
    model.add_argument(
        "--model", default="tiny", help="tiny, a hub name as google/gemma-3-4b-it, or a folder (default: %(default)s)"
    )
    model.add_argument("--vision_layers", action="store_true", help="adapters on the vision tower as well")
    model.add_argument("--full", action="store_true", help="train all weights of a pretrained model, not adapters")
    add_adapter_arguments(model)
    add_learning_arguments(parser.add_argument_group("how it learns"))
    add_run_arguments(parser)
    parser.set_defaults(run=run_train)


def add_merge(actions: "Subparsers") -> None:
    """Adds `vlm merge` with its flags."""
    parser = actions.add_parser(
        "merge",
        help="write a plain folder for transformers, adapters added to their base",
        epilog=MERGE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", dest="run_dir", type=Path, required=True, help="a run of `vlm train`")
    add_shared_argument(parser, "ckpt")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run_merge)


def run_train(args: argparse.Namespace) -> int:
    """Trains, and prints what was measured. Returns the exit status."""
    require_extra("vision", "vlm train")
    require_extra("language", "vlm train")
    check_log(args)
    from gemma_metamon.language.training.sft import SFTSettings
    from gemma_metamon.runs.loading import usable_device
    from gemma_metamon.vision.chats import read_sets
    from gemma_metamon.vision.forms import read_form
    from gemma_metamon.vision.models import SeeingPlan, require_buildable
    from gemma_metamon.vision.training import train

    plan = SeeingPlan(vision_layers=args.vision_layers, full=args.full, **plan_arguments(args))
    settings = SFTSettings(**learning_arguments(args))
    device = usable_device(args.device)
    if not args.resume:
        require_buildable(plan, read_form(args.data.parent))
    seen, held_out, form = read_sets(args.data, args.val)
    with made_folder(args.out, "out"):
        trained = train(
            plan,
            form,
            settings,
            seen,
            held_out,
            args.out,
            device=device,
            choice_alone=args.choice_alone,
            resume=args.resume,
            wandb=args.log,
            signals=signals_noted,
        )
    print(json.dumps(asdict(trained)) if args.json else as_table(trained, f"vlm:{args.out}"))
    return 0


def run_merge(args: argparse.Namespace) -> int:
    """Writes the folder, and prints how close it is. Returns the exit status."""
    require_extra("vision", "vlm merge")
    require_extra("language", "vlm merge")
    from gemma_metamon.language.training.fine_tuning import find_model
    from gemma_metamon.vision.models import merge

    if args.out.exists():
        raise ConfigError(f"--out {args.out} is there already; remove it, or name another folder")
    folder = find_model(args.run_dir, args.ckpt)
    require_place(args.out, "out")
    difference = merge(folder, args.out)
    if args.json:
        print(json.dumps({"out": str(args.out), "from": str(folder), "largest_difference": difference}))
    else:
        print(f"wrote {args.out}; read back, its logits differ by {difference:.1e} at most\nplay it as vlm:{args.out}")
    return 0
