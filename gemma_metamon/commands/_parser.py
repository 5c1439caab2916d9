"""The parser of the command line: its errors are a line each, and name what was probably meant."""

import argparse
import re
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

from gemma_metamon.errors import ConfigError

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers


class Parser(argparse.ArgumentParser):
    """Says an error as the commands say theirs: in one line, without the usage."""

    def add_subparsers(self, **options: Any) -> "Subparsers":  # type: ignore[override]  # an overload in typeshed
        """Adds the commands, or a command's actions, as argparse does."""
        self.below: Subparsers = super().add_subparsers(**options)
        return self.below

    def parser_of(self, args: argparse.Namespace) -> argparse.ArgumentParser:
        """The parser of the command, or of its action, that these arguments name."""
        parser: argparse.ArgumentParser = self
        while isinstance(parser, Parser) and hasattr(parser, "below"):
            parser = parser.below.choices[getattr(args, parser.below.dest)]
        return parser

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError with the flag and what its `type` said of a value; ends the process with 2 otherwise."""
        found = sys.exc_info()[1]  # argparse makes an ArgumentError, with the flag, of a type's ArgumentTypeError
        if isinstance(found, argparse.ArgumentError) and isinstance(found.__context__, argparse.ArgumentTypeError):
            flag = (found.argument_name or "").partition("/")[0]  # of several spellings the first
            raise ConfigError(f"{flag} {found.__context__}") from None
        told = f"; {self.prog} --help tells all" if self.add_help else ""
        self.exit(2, f"{self.prog}: {self._with_hint(message)}{told}\n")

    def _with_hint(self, message: str) -> str:
        """An error of argparse's, with the nearest flag that there is, or in place of it the nearest command."""
        if hasattr(self, "below") and (match := re.search(r"invalid choice: '([^']*)'", message)):
            near = get_close_matches(match[1], self.below.choices, 1)
            what = str(self.below.metavar).lower()
            return f"there is no {what} {match[1]!r}; did you mean {near[0]}?" if near else message
        if match := re.match(r"unrecognized arguments: .*?(--\w+)", message):
            near = get_close_matches(match[1], re.findall(r"--\w+", self.format_usage()), 1)
            return f"{message}; did you mean {near[0]}?" if near else message
        return message
