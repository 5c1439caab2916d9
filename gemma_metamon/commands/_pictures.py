"""Flags of how pictures look, which several commands have."""

import argparse
from collections.abc import Collection
from pathlib import Path

from gemma_metamon.commands._arguments import at_least_one
from gemma_metamon.vision.scenes.palette import THEMES


def add_style_arguments(parser: "argparse._ActionsContainer") -> None:
    """--size, --theme and --sprites."""
    parser.add_argument(
        "--size", type=at_least_one, default=896, help="pixels on a side; Gemma 3 looks at 896 (default: %(default)s)"
    )
    parser.add_argument("--theme", choices=THEMES, default="light", help="colours (default: %(default)s)")
    parser.add_argument(
        "--sprites",
        type=Path,
        metavar="DIR",
        help="your own pictures of the Pokémon, named as Showdown's: greattusk.png, rotom-wash.png (default: a disc of "
        "the types' colours with the first letters)",
    )


def told_without_sprite(names: Collection[str]) -> list[str]:
    """A line for people of the Pokémon that a folder of sprites does not have; none where it has all."""
    if not names:
        return []
    said, are = ("Pokémon has", "is") if len(names) == 1 else ("Pokémon have", "are")
    more = ", ..." if len(names) > 5 else ""
    return [f"{len(names):>10,} {said} no sprite, and {are} drawn: {', '.join(sorted(names)[:5])}{more}"]
