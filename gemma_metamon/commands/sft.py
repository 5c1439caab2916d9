"""`gemma-metamon sft`: a chat model learns to answer as recorded players chose."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import (
    above_zero,
    add_shared_argument,
    at_least_one,
    make_folder,
    not_negative,
    share,
)
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.language.sft import Trained

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
    parser.add_argument("--resume", action="store_true", help="go on after the last whole epoch of --out")
    model = parser.add_argument_group("which model")
    model.add_argument(
        "--model", default="tiny", help="tiny, a hub name as google/gemma-3-270m-it, or a folder (default: %(default)s)"
    )
    model.add_argument("--full", action="store_true", help="train all weights of a pretrained model, not adapters")
    model.add_argument("--use_4bit", action="store_true", help="hold the base in 4 bits (NF4); needs bitsandbytes")
    model.add_argument("--lora_r", type=at_least_one, default=16, help="rank of the adapters (default: %(default)s)")
    model.add_argument("--lora_alpha", type=above_zero, default=32, help="their scale (default: %(default)s)")
    model.add_argument("--lora_dropout", type=share, default=0.05, help="default: %(default)s")
    model.add_argument(
        "--init_from",
        metavar="RUN_DIR[@EPOCH]",
        help="begin with the adapter of this agent, a run of `train` over the same --model",
    )
    how = parser.add_argument_group("how it learns")
    how.add_argument("--epochs", type=at_least_one, default=1, help="default: %(default)s")
    how.add_argument("--max_updates", type=at_least_one, help="end after so many updates (default: after the epochs)")
    how.add_argument("--batch_size", type=at_least_one, default=8, help="chats at a time (default: %(default)s)")
    how.add_argument("--grad_accum", type=at_least_one, default=1, help="batches to an update (default: %(default)s)")
    how.add_argument(
        "--learning_rate",
        type=above_zero,
        help="at its highest (default: 2e-3 of random weights, 2e-4 of adapters, 2e-5 with --full)",
    )
    how.add_argument("--warmup_updates", type=not_negative, default=50, help="default: %(default)s")
    how.add_argument("--packing", action="store_true", help="several chats in a row of --context subwords")
    how.add_argument(
        "--context", type=at_least_one, help="subwords of the longest chat (default: the model's, to 4096)"
    )
    how.add_argument(
        "--held_out", type=at_least_one, default=1000, help="chats of --val looked at (default: %(default)s)"
    )
    how.add_argument(
        "--generated",
        type=not_negative,
        default=100,
        help="of these so many are answered freely (default: %(default)s)",
    )
    add_shared_argument(how, "seed", help="of random weights, dropout and the chats' order (default: %(default)s)")
    add_shared_argument(parser, "device")
    parser.add_argument("--log", action="store_true", help="tell wandb as well")
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains, and prints what was measured. Returns the exit status."""
    require_extra("language", "sft")
    if args.log:
        from gemma_metamon.training.tracking import require_wandb

        require_wandb()
    from gemma_metamon.language.agent_adapters import find_agents_adapter
    from gemma_metamon.language.chats import read_chats
    from gemma_metamon.language.models import ModelPlan
    from gemma_metamon.language.sft import SFTSettings, train
    from gemma_metamon.runs.loading import usable_device

    plan = ModelPlan(
        model=args.model,
        full=args.full,
        use_4bit=args.use_4bit,
        lora_r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        seed=args.seed,
    )
    settings = SFTSettings(
        epochs=args.epochs,
        max_updates=args.max_updates,
        batch_size=args.batch_size,
        grad_accum=args.grad_accum,
        learning_rate=args.learning_rate,
        warmup_updates=args.warmup_updates,
        packing=args.packing,
        context=args.context,
        held_out=args.held_out,
        generated=args.generated,
        seed=args.seed,
        init_from=args.init_from,
    )
    device = usable_device(args.device)
    begins_anew = args.init_from is not None and not args.resume
    adapter = find_agents_adapter(args.init_from, plan) if begins_anew else None
    make_folder(args.out, "out")
    trained = train(
        plan,
        settings,
        read_chats(args.data),
        [] if args.val is None else read_chats(args.val),
        args.out,
        device=device,
        resume=args.resume,
        wandb=args.log,
        adapter=adapter,
    )
    print(json.dumps(asdict(trained)) if args.json else as_table(trained, args.out))
    return 0


def as_table(trained: "Trained", out: Path) -> str:
    """What came of it, for people."""
    lines = [
        f"{trained.updates} updates; set aside as too long: {trained.too_long[0]} chats, {trained.too_long[1]} held out"
    ]
    found = trained.measured
    if found is not None:
        lines.append(f"{'perplexity of held-out answers':40}{found.perplexity:8.3f}")
        if found.agreement is not None and found.majority is not None:
            lines.append(f"{'agrees with held-out choices':40}{found.agreement:8.1%}   of {found.decisions}")
            lines.append(f"{'always the most frequent answer':40}{found.majority:8.1%}")
        if found.legal_share is not None:
            lines.append(f"{'free answers that are legal':40}{found.legal_share:8.1%}   of {found.generated}")
    return "\n".join([*lines, f"play it as text:{out}"])
