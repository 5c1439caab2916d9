"""What trainings of chat models have in common, whatever they learn from: flags, settings, the table."""

import argparse
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import (
    above_zero,
    add_shared_argument,
    at_least_one,
    not_negative,
    refuse_void,
    share,
)

if TYPE_CHECKING:
    from gemma_metamon.language.training.sft import Trained

_ADAPTERS = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
_MEASURED = {"held_out": 1000, "generated": 100}
_LEARNING = (
    "epochs",
    "max_updates",
    "batch_size",
    "grad_accum",
    "learning_rate",
    "warmup_updates",
    "context",
    *_MEASURED,
    "seed",
)


def add_adapter_arguments(model: "argparse._ActionsContainer") -> None:
    """How a pretrained base is held and adapted; see `plan_arguments`."""
    model.add_argument("--use_4bit", action="store_true", help="hold the base in 4 bits (NF4); needs bitsandbytes")
    model.add_argument(
        "--lora_r", type=at_least_one, default=_ADAPTERS["lora_r"], help="rank of the adapters (default: %(default)s)"
    )
    model.add_argument(
        "--lora_alpha", type=above_zero, default=_ADAPTERS["lora_alpha"], help="their scale (default: %(default)s)"
    )
    model.add_argument("--lora_dropout", type=share, default=_ADAPTERS["lora_dropout"], help="default: %(default)s")


def add_learning_arguments(
    how: "argparse._ActionsContainer",
    *,
    batch_size: int = 8,
    batches_of: str = "chats at a time",
    rates: str = "2e-3 of random weights, 2e-4 of adapters, 2e-5 of a pretrained base's own",
    warmup_updates: int = 50,
    seeds: str = "of random weights, dropout and the chats' order",
) -> None:
    """How a model learns; see `learning_arguments`.

    Args:
        how: the group of flags.
        batch_size: the default.
        batches_of: what a batch is made of, for the help text.
        rates: the learning rates that are taken by default, for the help text.
        warmup_updates: the default.
        seeds: what the seed is of, for the help text.
    """
    how.add_argument("--epochs", type=at_least_one, default=1, help="default: %(default)s")
    how.add_argument("--max_updates", type=at_least_one, help="end after so many updates (default: after the epochs)")
    how.add_argument("--batch_size", type=at_least_one, default=batch_size, help=f"{batches_of} (default: %(default)s)")
    how.add_argument("--grad_accum", type=at_least_one, default=1, help="batches to an update (default: %(default)s)")
    how.add_argument("--learning_rate", type=above_zero, help=f"at its highest (default: {rates})")
    how.add_argument("--warmup_updates", type=not_negative, default=warmup_updates, help="default: %(default)s")
    how.add_argument(
        "--context", type=at_least_one, help="subwords of the longest chat (default: the model's, to 4096)"
    )
    how.add_argument(
        "--held_out",
        type=at_least_one,
        default=_MEASURED["held_out"],
        help="chats of --val looked at (default: %(default)s)",
    )
    how.add_argument(
        "--generated",
        type=not_negative,
        default=_MEASURED["generated"],
        help="of these so many are answered freely (default: %(default)s)",
    )
    add_shared_argument(how, "seed", help=f"{seeds} (default: %(default)s)")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Where it runs, and who is told of it; see `check_log`."""
    add_shared_argument(parser, "device")
    parser.add_argument("--log", action="store_true", help="tell wandb as well")
    add_shared_argument(parser, "json")


def check_log(args: argparse.Namespace) -> None:
    """Raises MissingDependencyError for --log where wandb is not installed."""
    if args.log:
        from gemma_metamon.training.tracking import require_wandb

        require_wandb()


def plan_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What a `ModelPlan` takes of the flags. Raises ConfigError for those of adapters where none are trained."""
    from gemma_metamon.language.models.chat_model import TINY

    if args.full or args.model == TINY:
        who = "with --full" if args.full else "of the tiny model"
        refuse_void(args, _ADAPTERS, f"{who} all weights are trained, and no adapters")
    chosen = {name: getattr(args, name) for name in ("use_4bit", *_ADAPTERS)}
    return {"model": args.model, "seed": args.seed, **chosen}


def learning_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What `Settings` take of the flags. Raises ConfigError for those of what is held out where nothing is."""
    if args.val is None:
        asked = {flag: usual for flag, usual in _MEASURED.items() if getattr(args, flag)}  # 0 asks for nothing
        refuse_void(args, asked, "without --val nothing is held out")
    return {name: getattr(args, name) for name in _LEARNING}


def as_table(trained: "Trained", player: str) -> str:
    """What came of it, for people; `player` is how it is written where players are named."""
    lines = [
        f"{trained.updates} updates; set aside as too long: {trained.too_long[0]} chats, {trained.too_long[1]} held out"
    ]
    if trained.left_out:
        lines.append(f"{trained.left_out} of them left out: no finite loss or gradient; see not_finite.jsonl in --out")
    found = trained.measured
    if found is not None:
        lines.append(f"{'perplexity of held-out answers':40}{found.perplexity:8.3f}")
        if found.agreement is not None and found.majority is not None:
            lines.append(f"{'agrees with held-out choices':40}{found.agreement:8.1%}   of {found.decisions}")
            lines.append(f"{'always the most frequent answer':40}{found.majority:8.1%}")
        if found.legal_share is not None:
            lines.append(f"{'free answers that are legal':40}{found.legal_share:8.1%}   of {found.generated}")
    return "\n".join([*lines, f"play it as {player}"])
