"""`gemma-metamon sft`: a chat model learns to answer as recorded players chose."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import made_folder
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
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example:
  gemma-metamon chat export --parsed_replay_dir replays --formats gen1ou --out gen1ou.jsonl --val_share 0.1
  gemma-metamon sft --data gen1ou.jsonl --val gen1ou.validation.jsonl --out runs/words
  gemma-metamon sft --data gen1ou.jsonl --model google/gemma-3-270m-it --out runs/words_270m
  gemma-metamon evaluate --players text:runs/words --format gen1ou --battles 100
The loss is that of the answers alone. Without --model it is a tiny Gemma 3 of random weights, all of which learn; of a
pretrained one adapters learn (LoRA), unless --full says otherwise. A chat that is longer than the context is set aside,
and counted."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds `gemma-metamon sft` with its flags."""
    parser = subparsers.add_parser(
        "sft",
        help="teach a language model to choose, from chat data",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="chats to learn from, of `chat export`")
    parser.add_argument("--val", type=Path, help="held-out chats, looked at after each epoch")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder, which `text:OUT` plays")
    parser.add_argument("--resume", action="store_true", help="go on after what --out has kept")
    model = parser.add_argument_group("which model")
    model.add_argument(
        "--model", default="tiny", help="tiny, a hub name as google/gemma-3-270m-it, or a folder (default: %(default)s)"
    )
    model.add_argument("--full", action="store_true", help="train all weights of a pretrained model, not adapters")
    add_adapter_arguments(model)
    model.add_argument(
        "--init_from",
        metavar="RUN_DIR[@EPOCH]",
        help="begin with the adapter of this agent, a run of `train` over the same --model",
    )
    how = parser.add_argument_group("how it learns")
    how.add_argument("--packing", action="store_true", help="several chats in a row of --context subwords")
    add_learning_arguments(how)
    add_run_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains, and prints what was measured. Returns the exit status."""
    require_extra("language", "sft")
    check_log(args)
    from gemma_metamon.language.data.chats import read_chats
    from gemma_metamon.language.models.agent_adapters import find_agents_adapter
    from gemma_metamon.language.models.chat_model import ModelPlan
    from gemma_metamon.language.training.sft import SFTSettings, train
    from gemma_metamon.runs.loading import usable_device

    plan = ModelPlan(full=args.full, **plan_arguments(args))
    settings = SFTSettings(packing=args.packing, init_from=args.init_from, **learning_arguments(args))
    device = usable_device(args.device)
    begins_anew = args.init_from is not None and not args.resume
    adapter = find_agents_adapter(args.init_from, plan) if begins_anew else None
    with made_folder(args.out, "out"):
        trained = train(
            plan,
            settings,
            read_chats(args.data),
            [] if args.val is None else read_chats(args.val),
            args.out,
            device=device,
            resume=args.resume,
            wandb=args.log,
            signals=signals_noted,
            adapter=adapter,
        )
    print(json.dumps(asdict(trained)) if args.json else as_table(trained, f"text:{args.out}"))
    return 0
