"""`gemma-metamon chat`: recorded battles as chat data for language models, and a look at it before it is paid for."""

import argparse
import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.commands._arguments import (
    above_zero,
    add_shared_argument,
    at_least_one,
    finite_number,
    folder_name,
    not_negative,
    require_place,
    share,
    whole_number,
    zero_or_above,
)
from gemma_metamon.commands._chat_submit import add_submit
from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.language.choosing import Chooser
    from gemma_metamon.language.costs import TokenCounter
    from gemma_metamon.language.export import Exported, Output
    from gemma_metamon.language.validation import Messages

VALIDATE_EXAMPLE = """example:
  gemma-metamon chat validate gen1ou.jsonl gen1ou.validation.jsonl --tokenizer gemma-3-270m-it --max_tokens 512
Every row must be a chat whose answer is one of its legal choices; no chat may stand twice, and no two files may share a
battle. The exit status is 1 where anything is wrong."""
EXPORT_EXAMPLE = """example:
  gemma-metamon chat export --parsed_replay_dir replays --formats gen1ou --out gen1ou.jsonl --val_share 0.1
  gemma-metamon chat export --parsed_replay_dir replays --players 'DuelTrai*' --reasoning facts --out duel.parquet
One row for each decision: `messages` (system, user, assistant), `battle_id`, `turn`, `legal`, `result` and more. Where
a battle has an expert's labels they are the answers, else what was done. With --val_share the rows of that share of
battles, both players' views of each, go to NAME.validation.jsonl beside it. Stopped and started again with the same
flags, it goes on where it was."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its three actions, each with its flags."""
    parser = subparsers.add_parser(
        "chat",
        help="make chat data of recorded battles, and look it over",
        epilog="example: gemma-metamon chat export --parsed_replay_dir replays --out x.jsonl && "
        "gemma-metamon chat validate x.jsonl",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="export|validate|submit")
    add_submit(actions)
    _add_export(actions)
    _add_validate(actions)


def _add_export(actions: "Subparsers") -> None:
    parser = actions.add_parser(
        "export",
        help="decisions of recorded battles as chats",
        epilog=EXPORT_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--parsed_replay_dir",
        type=Path,
        required=True,
        help="recorded battles: DIR/<format>/*.json.lz4, DIR/<format>.tar.gz or .tar.lz4, or one such archive",
    )
    parser.add_argument(
        "--formats", nargs="+", type=folder_name, help="battle formats (default: all in parsed_replay_dir)"
    )
    parser.add_argument("--out", type=Path, required=True, help="NAME.jsonl, NAME.arrow or NAME.parquet")
    parser.add_argument(
        "--to",
        choices=("messages", "gemini"),
        default="messages",
        help="messages: as TRL and OpenAI read it; gemini: `contents` of `parts` for Vertex (default: %(default)s)",
    )
    parser.add_argument("--val_share", type=share, default=0.0, help="share of battles to hold out (default: none)")
    add_shared_argument(parser, "seed", help="of what --subset and --turns sampled draw (default: %(default)s)")
    wording = parser.add_argument_group("how a decision is told")
    wording.add_argument(
        "--history", type=not_negative, default=0, help="decisions before it that are told (default: %(default)s)"
    )
    wording.add_argument(
        "--reasoning",
        choices=("none", "facts", "recorded"),
        default="none",
        help="facts: answers begin with one or two true sentences about the choice; recorded: with what a chat model "
        "said to it (default: %(default)s)",
    )
    wording.add_argument("--blank", action="store_true", help="tell nothing of the battle: a control")
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
    add_shared_argument(parser, "device")
    add_shared_argument(parser, "max_set_aside")
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run_export)


def _add_validate(actions: "Subparsers") -> None:
    parser = actions.add_parser(
        "validate",
        help="what is wrong with chat data, and what a training on it takes",
        epilog=VALIDATE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".jsonl, .arrow or .parquet; one per split")
    parser.add_argument("--set_aside", type=Path, metavar="FILE", help="write the rows' faults there, as JSON lines")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="a model's folder, to count its tokens")
    parser.add_argument("--max_tokens", type=at_least_one, metavar="N", help="of a chat: more are counted as too long")
    cost = parser.add_argument_group("what a training on the first file takes; needs --tokenizer")
    cost.add_argument("--batch_size", type=at_least_one, default=16, help="chats of an update (default: %(default)s)")
    cost.add_argument("--epochs", type=at_least_one, default=1, help="default: %(default)s")
    cost.add_argument("--tokens_per_s", type=above_zero, metavar="X", help="that the training reads, for the hours")
    cost.add_argument("--price", type=zero_or_above, metavar="X", help="of a million tokens, for the money")
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run_validate)


def run_export(args: argparse.Namespace) -> int:
    """Writes the rows and prints what became of the decisions. Returns the exit status."""
    if args.min_advantage is not None and args.critics is None:
        raise ConfigError("--min_advantage X and --critics RUN go together: how much, and who judges it")
    require_extra("battle", "chat export")

    from gemma_metamon.data.battle_sources import find_sources, list_sources
    from gemma_metamon.data.encoding import SetAside
    from gemma_metamon.language.export import Output, export

    output = Output(path=args.out, shape=args.to, val_share=args.val_share, subset=args.subset)
    if output.path.exists():  # said before an agent is loaded
        raise ConfigError(f"--out {output.path} is there already; remove it, or name another file")
    require_place(output.path, "out")
    formats = args.formats or list_sources(args.parsed_replay_dir)
    if not formats:
        raise MissingFileError(
            f"{args.parsed_replay_dir} holds no battles; expected DIR/<format>/*.json.lz4 or DIR/<format>.tar.gz"
        )
    sources = find_sources(args.parsed_replay_dir, formats, progress=True)
    chooser = _load_chooser(args)
    settings = {
        **{"filters": asdict(chooser.filters), "wording": asdict(chooser.wording), "seed": args.seed},
        **{name: getattr(args, name) for name in ("agree_with", "critics", "to", "val_share", "subset")},
    }
    exported = export(sources, chooser, output, settings, SetAside(args.max_set_aside))
    print(json.dumps(_as_json(exported, output)) if args.json else _as_table(exported, output))
    return 0


def _load_chooser(args: argparse.Namespace) -> "Chooser":
    from gemma_metamon.language.choosing import Chooser, Wording
    from gemma_metamon.language.filters import Filters
    from gemma_metamon.language.rows import RESULTS

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
        from gemma_metamon.language.advice import Adviser
        from gemma_metamon.runs.checkpoints import Checkpoint

        for flag in ("agree_with", "critics"):
            if (run := getattr(args, flag)) is not None:
                checkpoint = Checkpoint.find_named(run)
                advisers[flag] = Adviser(checkpoint, args.device, critics=flag == "critics")
    wording = Wording(history=args.history, reasoning=args.reasoning, blank=args.blank)
    return Chooser(filters, wording, args.seed, **advisers)


def _as_json(exported: "Exported", output: "Output") -> dict[str, Any]:
    counts = exported.counts
    return {
        "out": str(output.path),
        "validation_out": str(output.validation_path) if output.val_share else None,
        "battles": counts.battles,
        "decisions": counts.decisions,
        "labelled": counts.labelled,
        "left_out": dict(counts.left_out),
        "train": exported.train,
        "validation": exported.validation,
        "done_before": exported.done_before,
        "set_aside": exported.set_aside,
    }


def _as_table(exported: "Exported", output: "Output") -> str:
    from gemma_metamon.language.filters import REASONS

    counts = exported.counts
    lines = [f"{counts.decisions:>10,} decisions of {counts.battles:,} views of battles"]
    lines += [
        f"{-counts.left_out[reason]:>10,} {reason}: {meaning}"
        for reason, meaning in REASONS.items()
        if counts.left_out[reason]
    ]
    lines.append(f"{exported.train:>10,} rows in {output.path}")
    if output.val_share:
        lines.append(f"{exported.validation:>10,} rows in {output.validation_path}")
    if counts.labelled:
        lines.append(f"{counts.labelled:,} answers are an expert's labels")
    if exported.set_aside:
        lines.append(f"{exported.set_aside:,} battle files were set aside")
    return "\n".join(lines)


def run_validate(args: argparse.Namespace) -> int:
    """Prints what the files hold and what is wrong with them; status 1 where anything is."""
    _check_validate(args)

    from gemma_metamon.commands._chat_texts import as_report, as_text
    from gemma_metamon.language.costs import Cost, TokenCounter, load_tokenizer
    from gemma_metamon.language.validation import check_file, find_duplicates, find_overlaps
    from gemma_metamon.progress import progress_bar

    tokenizer = None if args.tokenizer is None else load_tokenizer(args.tokenizer)
    checks, counters, faults = [], [], _Faults(args.set_aside)
    with faults, progress_bar(desc="validating", unit="row") as bar:
        for path in args.files:
            counter = None if tokenizer is None else TokenCounter(tokenizer)

            def count(messages: "Messages", counter: "TokenCounter | None" = counter) -> None:
                bar.update(1)
                if counter is not None:
                    counter.add(messages)

            checks.append(check_file(path, count, faults.add))
            if counter is not None:
                counter.flush()
                counters.append(counter)
    cost = None
    if counters:
        rates = {name: getattr(args, name) for name in ("batch_size", "epochs", "tokens_per_s", "price")}
        cost = Cost.of(counters[0], **rates)
    report = as_report(checks, find_duplicates(checks), find_overlaps(checks), counters, cost, args.max_tokens)
    print(json.dumps(report) if args.json else as_text(report, counters, args.epochs))
    return 0 if report["fits"] else 1


def _check_validate(args: argparse.Namespace) -> None:
    """Raises ConfigError for flags that go without one another, before anything is read."""
    if args.tokenizer is None:
        for flag in ("max_tokens", "tokens_per_s", "price"):
            if getattr(args, flag) is not None:
                raise ConfigError(f"--{flag} counts tokens; give the --tokenizer DIR that makes them")
    if len(set(args.files)) < len(args.files):
        raise ConfigError("a file is named twice; name each split once")
    if args.set_aside is not None:
        require_place(args.set_aside, "set_aside")


class _Faults:
    """Writes each row that is wrong with its reason, where a file is named for it; the file is there whole."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._files = ExitStack()
        self._file: Any = None

    def __enter__(self) -> "_Faults":
        if self._path is not None:
            staged = self._files.enter_context(written_whole(self._path))
            self._file = self._files.enter_context(staged.open("w", encoding="utf-8"))
        return self

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)

    def add(self, place: str, reason: str) -> None:
        """A row that is wrong."""
        if self._file is not None:
            self._file.write(json.dumps({"row": place, "reason": reason}) + "\n")
