"""`gemma-metamon upstream`: whether metamon, amago and this package go together here, and what to do where not."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.checklist import Row, as_text
from gemma_metamon.commands._arguments import add_shared_argument

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example, in the environment that metamon trains in, from the folder that you will train from:
  gemma-metamon upstream check
It reads versions, variables and the folder, then trains the tiny config inside metamon for three updates and lets it
play one battle of gen9ou, in a temporary folder and with no download. The last lines are the command that trains
the flagship on this version of metamon. The exit status is 1 where something keeps it from running."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "upstream",
        help="check an environment with metamon and amago",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("check",), help="what to do")
    parser.add_argument("--quick", action="store_true", help="train and play nothing")
    help_text = "for training, and for playing (default: %(default)s)"
    add_shared_argument(parser, "timeout_s", default=600, help=help_text)
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints each check when it is done, and the command to train with; status 1 where metamon would not run."""
    import tempfile

    from gemma_metamon.upstream import checks, versions

    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        if not args.json:
            print(as_text(row), flush=True)

    for row in checks.look(Path.cwd()):
        add(row)
    seen_wrong = any(row.state == "wrong" for row in rows)
    if seen_wrong and not args.quick:
        print("nothing was trained or played: mend the above first", file=sys.stderr)
    elif not args.quick:
        folder = Path(tempfile.mkdtemp(prefix="gemma-metamon-upstream-"))
        print("training and playing, which takes minutes on a busy machine", file=sys.stderr)
        for row in checks.try_out(folder, timeout_s=args.timeout_s):
            add(row)
        if not any(row.state == "wrong" for row in rows):
            _remove(folder)
    fits = not any(row.state == "wrong" for row in rows)
    commands = checks.commands(versions.find_installed("metamon").version)
    if args.json:
        print(json.dumps({"fits": fits, "rows": [asdict(row) for row in rows], "commands": commands}))
    else:
        print("\nthe flagship on this metamon:" if fits else "\nthe flagship, once that is mended:")
        print("\n".join(f"  {command}" for command in ["gemma-metamon configs install", *commands]))
    return 0 if fits else 1


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)  # a link to the battles goes, not the battles
