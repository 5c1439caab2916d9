"""What exports of chat data have in common, with and without pictures: their battles, their filters, their table."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import (
    MOST_WORKERS,
    at_least_one,
    finite_number,
    folder_name,
    whole_number,
)
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.data.battle_sources import BattleSource
    from gemma_metamon.language.data.choosing import Chooser, Wording
    from gemma_metamon.language.data.export import Exported, Output

EXPORT_WORKERS = (
    "processes that write, one where agents are asked; what is written is the same for any number (default: one per "
    f"core, at most {MOST_WORKERS})"
)


def add_battles_arguments(parser: "argparse._ActionsContainer") -> None:
    """Which battles; see `load_sources`."""
    parser.add_argument(
        "--parsed_replay_dir",
        type=Path,
        required=True,
        help="recorded battles: DIR/<format>/*.json.lz4, DIR/<format>.tar.gz or .tar.lz4, or one such archive",
    )
    parser.add_argument(
        "--formats", nargs="+", type=folder_name, help="battle formats (default: all in parsed_replay_dir)"
    )


def add_reasoning_argument(parser: "argparse._ActionsContainer", *, of_pictures: bool = False) -> None:
    """--reasoning; see `Wording`."""
    seen = "; seen: what the picture shows, by which a model learns to read it" if of_pictures else ""
    parser.add_argument(
        "--reasoning",
        choices=("none", "facts", "recorded", *(("seen",) if of_pictures else ())),
        default="none",
        help="facts: answers tell one or two true sentences about the choice, too; recorded: what a chat model said "
        f"to it{seen} (default: %(default)s)",
    )


def add_filter_arguments(parser: "argparse._ActionsContainer") -> None:
    """What is left out; see `chooser_arguments`."""
    filters = parser.add_argument_group("what is left out, each counted in the table at the end")
    filters.add_argument("--results", nargs="+", choices=("won", "lost", "tied"), help="of the battle (default: all)")
    filters.add_argument("--min_rating", type=whole_number, help="of the battle; unrated ones are left out then")
    filters.add_argument("--min_length", type=at_least_one, default=1, help="fewest decisions of a battle")
    filters.add_argument("--max_length", type=at_least_one, help="most decisions of a battle")
    filters.add_argument("--players", nargs="+", default=[], metavar="NAME", help="whose views; * stands for anything")
    filters.add_argument(
        "--turns", choices=("all", "sampled"), default="all", help="sampled: one of a view of a battle"
    )
    filters.add_argument("--subset", type=at_least_one, metavar="N", help="at most N rows, drawn from all")
    filters.add_argument("--keep_forced", action="store_true", help="keep decisions with one legal choice")
    filters.add_argument("--keep_duplicates", action="store_true", help="keep chats that are equal to another")
    filters.add_argument("--agree_with", metavar="RUN", help="only what this trained agent prefers: RUN or RUN@EPOCH")
    filters.add_argument(
        "--min_advantage",
        type=finite_number,
        metavar="X",
        help="only what --critics give X rewards above the policy's mean",
    )
    filters.add_argument(
        "--critics",
        metavar="RUN",
        help="RUN or RUN@EPOCH, whose critics judge for --min_advantage; rows tell their `advantages` of the choices",
    )


def check_arguments(args: argparse.Namespace, command: str) -> None:
    """Raises ConfigError for flags that go without one another, MissingDependencyError for what is not installed."""
    if args.min_advantage is not None and args.critics is None:
        raise ConfigError("--min_advantage X and --critics RUN go together: how much, and who judges it")
    require_extra("battle", command)


def load_sources(args: argparse.Namespace) -> "dict[str, BattleSource]":
    """The battles, by format. Raises MissingFileError where there are none."""
    from gemma_metamon.data.battle_sources import find_sources, list_sources

    formats = args.formats or list_sources(args.parsed_replay_dir)
    return find_sources(args.parsed_replay_dir, formats, progress=True)


def chooser_arguments(args: argparse.Namespace, wording: "Wording") -> dict[str, Any]:
    """What a `Chooser` is made of, the agents that are asked loaded."""
    from gemma_metamon.language.data.filters import Filters
    from gemma_metamon.language.data.rows import RESULTS

    filters = Filters(
        results=tuple(args.results or RESULTS),
        min_rating=args.min_rating,
        min_length=args.min_length,
        max_length=args.max_length,
        players=tuple(args.players),
        keep_forced=args.keep_forced,
        keep_duplicates=args.keep_duplicates,
        min_advantage=args.min_advantage,
        turns=args.turns,
    )
    advisers = {}
    if args.agree_with is not None or args.critics is not None:
        from gemma_metamon.language.data.advice import Adviser
        from gemma_metamon.runs.checkpoints import Checkpoint

        for flag in ("agree_with", "critics"):
            if (run := getattr(args, flag)) is not None:
                checkpoint = Checkpoint.find_named(run)
                advisers[flag] = Adviser(checkpoint, args.device, critics=flag == "critics")
    return {"filters": filters, "wording": wording, "seed": args.seed, **advisers}


def settings_of(args: argparse.Namespace, chooser: "Chooser") -> dict[str, Any]:
    """All that the choice of rows depends on, as JSON has it."""
    return {
        **{"filters": asdict(chooser.filters), "wording": asdict(chooser.wording), "seed": args.seed},
        **{name: getattr(args, name) for name in ("agree_with", "critics", "val_share", "subset")},
    }


def as_json(exported: "Exported", output: "Output") -> dict[str, Any]:
    """What became of the decisions, for programs."""
    counts = exported.counts
    return {
        "out": str(output.path),
        "validation_out": str(output.validation_path) if exported.validation else None,
        "battles": counts.battles,
        "decisions": counts.decisions,
        "labelled": counts.labelled,
        "left_out": dict(counts.left_out),
        "train": exported.train,
        "validation": exported.validation,
        "done_before": exported.done_before,
        "set_aside": exported.set_aside,
    }


def as_table(exported: "Exported", output: "Output") -> str:
    """What became of the decisions, for people."""
    from gemma_metamon.language.data.filters import REASONS

    counts = exported.counts
    lines = [f"{counts.decisions:>10,} decisions of {counts.battles:,} views of battles"]
    lines += [
        f"{-counts.left_out[reason]:>10,} {reason}: {meaning}"
        for reason, meaning in REASONS.items()
        if counts.left_out[reason]
    ]
    lines.append(f"{exported.train:>10,} rows in {output.path}")
    if exported.validation:
        lines.append(f"{exported.validation:>10,} rows in {output.validation_path}")
    if counts.labelled:
        lines.append(f"{counts.labelled:,} answers are an expert's labels")
    if exported.set_aside:
        lines.append(f"{exported.set_aside:,} battle files were set aside")
    return "\n".join(lines)
