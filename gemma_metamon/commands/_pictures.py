"""Flags of how pictures look, which several commands have."""

import argparse
from pathlib import Path

from gemma_metamon.commands._arguments import at_least_one


def add_style_arguments(parser: "argparse._ActionsContainer") -> None:
    """--size, --theme and --sprites."""
    parser.add_argument(
        "--size", type=at_least_one, default=896, help="pixels on a side; Gemma 3 looks at 896 (default: %(default)s)"
    )
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="colours (default: %(default)s)")
    parser.add_argument(
        "--sprites",
        type=Path,
        metavar="DIR",
        help="your own pictures of the Pokémon, named as Showdown's: greattusk.png, rotom-wash.png (default: a disc of "
        "the types' colours with the first letters)",
    )
