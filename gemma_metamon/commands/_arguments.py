"""Flags that several commands share, so that each has one spelling, one default and one help text."""

import argparse
from typing import TYPE_CHECKING, TypeAlias

from gemma_metamon.errors import ConfigError

if TYPE_CHECKING:
    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def require_at_least_one(args: argparse.Namespace, *flags: str) -> None:
    """Raises ConfigError for the first of these flags whose number is below 1."""
    for flag in flags:
        if getattr(args, flag) < 1:
            raise ConfigError(f"--{flag} {getattr(args, flag)}; it must be at least 1")


SPACES = {
    "obs_space": ("TeamPreviewObservationSpace", "what the agent sees"),
    "action_space": ("DefaultActionSpace", "what it may do"),
    "reward_function": ("DefaultShapedReward", "what it is paid for"),
}
"""Flag -> default and meaning."""


def add_space_arguments(parser: argparse.ArgumentParser, *, instead: str | None = None) -> None:
    """What an agent sees, may do and is paid for. Names are checked by the registries, which also list them.

    Args:
        parser: gets the flags.
        instead: where the command looks before it takes the defaults; a flag that was not given is then None.
    """
    for name, (default, meaning) in SPACES.items():
        given = default if instead is None else f"{instead}, or {default}"
        parser.add_argument(
            f"--{name}", default=default if instead is None else None, help=f"{meaning} (default: {given})"
        )


def add_gin_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train_gin_config", help="a packaged training config's name, or a path to one")
    add_override_argument(parser)


def add_override_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gin_override",
        action="append",
        default=[],
        metavar="'NAME.PARAMETER = VALUE'",
        help="a gin binding applied after the files; repeatable",
    )
