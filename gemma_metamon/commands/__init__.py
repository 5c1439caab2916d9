"""The `gemma-metamon` command line: one module per sub-command, each with `add_parser(subparsers)` and `run(args)`.

A module here imports what it works with inside `run`, so that `--help` needs no torch. Results go to stdout, progress
and logs to stderr. `run` returns the exit status; a GemmaMetamonError becomes one sentence and status 1, and so does a
disk that is full or a folder that is closed to us. Other exceptions are faults of ours, and end with their traceback.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from gemma_metamon import __version__
from gemma_metamon.commands._arguments import check_paths, check_texts, fetch_registered
from gemma_metamon.commands._ending import ended_by_signals
from gemma_metamon.commands._file_errors import explain_os_error, explain_unicode_error
from gemma_metamon.commands._logs import log_to_stderr
from gemma_metamon.commands._parser import Parser
from gemma_metamon.errors import GemmaMetamonError, TerminatedError
from gemma_metamon.release.secrets import hide_secrets

COMMANDS = (
    "prepare",
    "chat",
    "sft",
    "grpo",
    "scenes",
    "vlm",
    "train",
    "validate",
    "find-batch-size",
    "sweep",
    "evaluate",
    "report",
    "inspect",
    "explain",
    "configs",
    "collect",
    "ladder",
    "improve",
    "showdown",
    "serve",
    "monitor",
    "openenv",
    "export",
    "import",
    "import-replays",
    "metamon-evaluate",
    "metamon-finetune",
    "upstream",
    "registry",
    "release",
    "doctor",
)
# where the command's name cannot name a module
_MODULES = {
    "find-batch-size": "find_batch_size",
    "import": "import_checkpoint",
    "import-replays": "import_replays",
    "metamon-evaluate": "metamon_evaluate",
    "metamon-finetune": "metamon_finetune",
}


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="gemma-metamon",
        description="Pokémon battle agents that read: train them on recorded battles, let them play, look inside.",
        epilog="flags may be spelled with '-' or '_'; `gemma-metamon COMMAND --help` has an example of each command",
    )
    parser.add_argument("--version", action="version", version=f"gemma-metamon {__version__}")
    parser.add_argument("--debug", action="store_true", help="print a traceback when something fails")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"gemma_metamon.commands.{_MODULES.get(name, name)}").add_parser(subparsers)
    return parser


def with_underscores(argv: Sequence[str]) -> list[str]:
    """`--run-name x` and `--run-name=x` spelled as `--run_name`; values and single-dash flags are left alone."""
    spelled = []
    for argument in argv:
        flag, equals, value = argument.partition("=")
        spelled.append(f"--{flag[2:].replace('-', '_')}{equals}{value}" if flag.startswith("--") else argument)
    return spelled


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line, by default this process's, and returns its exit status."""
    # read when torch loads: its threads spin only briefly, for on a busy machine spinning makes it many times slower
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    given = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    args = argparse.Namespace()
    log_to_stderr()
    try:
        with ended_by_signals():
            _, passed = parser.parse_known_args(with_underscores(given), args)
            if getattr(args, "passes_on", False):
                args.passed = passed
            elif passed:
                parser.parser_of(args).error(f"unrecognized arguments: {' '.join(passed)}")
            else:
                check_texts(given)
                check_paths(args)
                fetch_registered(args)
            status = int(args.run(args))
            sys.stdout.flush()  # what cannot be written is told here, not by Python at its exit
            return status
    except BrokenPipeError:  # whoever reads our output, `head` for one, has had enough
        _give_up_stdout()
        return 1
    except TerminatedError as error:
        return _failed(args, f"ended by {error.signal.name}{_then(error)}", 128 + error.signal)
    except KeyboardInterrupt as error:
        return _failed(args, f"interrupted{_then(error)}", 130)
    except (GemmaMetamonError, OSError, UnicodeEncodeError) as error:
        sentence = _sentence(error)
        if sentence is None or args.debug:
            raise
        return _failed(args, sentence, 1)


def _then(ended: KeyboardInterrupt) -> str:
    """What could not be done on the way out, a disk being full for one; not what was broken off in the middle."""
    cause = ended.__cause__
    explained = isinstance(cause, GemmaMetamonError | OSError | UnicodeEncodeError) and _sentence(cause)
    return f"; then {explained}" if explained else ""


def _sentence(error: GemmaMetamonError | OSError | UnicodeEncodeError) -> str | None:
    """None of what is our own fault."""
    if isinstance(error, GemmaMetamonError):
        # gin appends the configurables that it was calling
        return str(error).split("\n  In call to configurable", 1)[0]
    return explain_os_error(error) if isinstance(error, OSError) else explain_unicode_error(error)


def _failed(args: argparse.Namespace, sentence: str, status: int) -> int:
    # it tells names of files, addresses and what other libraries say, and any of these may hold a secret
    print(hide_secrets(f"gemma-metamon {args.command}: {sentence}"), file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # a full disk: that is what the sentence says
        _give_up_stdout()
    return status


def _give_up_stdout() -> None:
    """Or Python complains when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
