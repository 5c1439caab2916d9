"""`gemma-metamon chat`: recorded battles as chat data for language models, and a look at it before it is paid for."""

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.commands._arguments import (
    above_zero,
    add_shared_argument,
    at_least_one,
    not_negative,
    require_place,
    share,
    zero_or_above,
)
from gemma_metamon.commands._chat_submit import add_submit
from gemma_metamon.commands._exports import (
    EXPORT_WORKERS,
    add_battles_arguments,
    add_filter_arguments,
    add_reasoning_argument,
    as_json,
    as_table,
    check_arguments,
    chooser_arguments,
    load_sources,
    settings_of,
)
from gemma_metamon.errors import ConfigError

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.language.data.costs import TokenCounter
    from gemma_metamon.language.data.validation import Messages

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
    add_battles_arguments(parser)
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
    add_reasoning_argument(wording)
    wording.add_argument("--blank", action="store_true", help="tell nothing of the battle: a control")
    add_filter_arguments(parser)
    add_shared_argument(parser, "workers", help=EXPORT_WORKERS)
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
    check_arguments(args, "chat export")

    from gemma_metamon.data.encoding import SetAside
    from gemma_metamon.language.data.choosing import Chooser, Wording
    from gemma_metamon.language.data.export import Output, export

    if args.to == "gemini" and args.critics is not None and args.min_advantage is None:
        raise ConfigError(
            "--to gemini writes no advantages, so --critics would judge for nothing; add --min_advantage X"
        )
    output = Output(path=args.out, shape=args.to, val_share=args.val_share, subset=args.subset)
    if output.path.exists():  # said before an agent is loaded
        raise ConfigError(f"--out {output.path} is there already; remove it, or name another file")
    require_place(output.path, "out")
    sources = load_sources(args)
    chooser = Chooser(
        **chooser_arguments(args, Wording(history=args.history, reasoning=args.reasoning, blank=args.blank))
    )
    settings = settings_of(args, chooser) | {"to": args.to}
    exported = export(sources, chooser, output, settings, SetAside(args.max_set_aside), workers=args.workers)
    print(json.dumps(as_json(exported, output)) if args.json else as_table(exported, output))
    return 0


def run_validate(args: argparse.Namespace) -> int:
    """Prints what the files hold and what is wrong with them; status 1 where anything is."""
    _check_validate(args)

    from gemma_metamon.commands._chat_texts import as_report, as_text
    from gemma_metamon.language.data.costs import Cost, TokenCounter, load_tokenizer
    from gemma_metamon.language.data.validation import check_file, find_duplicates, find_overlaps
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
            if counter is not None and checks[-1].pictures:
                raise ConfigError(
                    f"{path} has pictures, whose tokens a tokenizer does not count; leave out --tokenizer"
                )
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
