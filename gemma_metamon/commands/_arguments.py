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


def add_space_arguments(parser: argparse.ArgumentParser) -> None:
    """What an agent sees, may do and is paid for. Names are checked by the registries, which also list them."""
    parser.add_argument(
        "--obs_space", default="TeamPreviewObservationSpace", help="what the agent sees (default: %(default)s)"
    )
    parser.add_argument("--action_space", default="DefaultActionSpace", help="what it may do (default: %(default)s)")
    parser.add_argument(
        "--reward_function", default="DefaultShapedReward", help="what it is paid for (default: %(default)s)"
    )


def add_gin_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train_gin_config", help="a packaged training config's name, or a path to one")
    parser.add_argument(
        "--gin_override",
        action="append",
        default=[],
        metavar="'NAME.PARAMETER = VALUE'",
        help="a gin binding applied after the files; repeatable",
    )
