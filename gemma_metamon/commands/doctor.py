"""`gemma-metamon doctor`: what this machine has of what training and playing need, and the mend for what it has not."""

import argparse
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument
from gemma_metamon.commands._checklists import print_rows

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example:
  gemma-metamon doctor
A row for each thing: `ok` works; `absent` is not there, and the row says what wants it; `untried` was not tried out;
`wrong` is there and does not work, or is needed by all. The exit status is 1 where a row is wrong. It installs and
downloads nothing; with --offline it asks no server either. `gemma-metamon upstream check` looks closer at metamon."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "doctor",
        help="look at what this machine has, and say what to mend",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--offline", action="store_true", help="ask neither the Hugging Face hub nor wandb's server")
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints each row as soon as it is known; status 1 where one is wrong."""
    from gemma_metamon.commands._surroundings import look

    well = "nothing is wrong; what is absent is needed only for what its row says"
    return print_rows(look(offline=args.offline), as_json=args.json, well=well)
