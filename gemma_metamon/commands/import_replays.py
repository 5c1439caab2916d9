"""`gemma-metamon import-replays`: Showdown's own replays and logs as battles to train on."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument, make_folder
from gemma_metamon.errors import DataError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.replay_logs.importing import Imported

EXAMPLE = """example:
  gemma-metamon import-replays gen9ou-1234567890.json battle-gen1ou-7.log replays/ --out battles
  gemma-metamon train --parsed_replay_dir battles --formats gen9ou ...
Reads the .log and .json of replay pages, replay pages saved from the browser (.html), the .log.json of a server's logs
folder, any of them gzipped (.gz), and all of these in folders. Each battle gives two files, one player's view each.
A log that holds a player's own requests gives that player's view exactly. From any other, a player's own team is
known as far as the whole log reveals it, and its opponent's as far as it had been revealed by then. A choice that the
log does not tell (of one that fainted first, say) is written as missing, which training masks; it is counted by kind.
A battle that is kept in several files is imported once, and importing again writes the same files. A log that does not
tell its date has 01-01-1970 in its files' names.
Set aside: doubles and other game types, and battles whose log ends before they do."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "import-replays",
        help="make battles of Showdown's own replays and logs",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("logs", nargs="+", type=Path, metavar="FILE", help="a log, a replay, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write <format>/*.json.lz4 into")
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the battles and prints what of them the logs tell; returns the exit status."""
    require_extra("battle", "import-replays")

    from gemma_metamon.progress import progress_bar
    from gemma_metamon.replay_logs.importing import find_logs, import_replays

    logs = find_logs(args.logs)
    make_folder(args.out, "out")
    with progress_bar(total=len(logs), unit="log", desc="import") as bar:
        imported = import_replays(logs, args.out, bar.update)
    print(_as_json(imported, args.out) if args.json else _as_text(imported, args.out))
    if not imported.files:
        reason = imported.set_aside.most_common(1)[0][0]
        raise DataError(f"none of {len(logs)} log(s) gave a battle; {imported.first_set_aside[reason]}: {reason}")
    return 0


def _as_json(imported: "Imported", out: Path) -> str:
    return json.dumps(
        {
            "battles": imported.battles,
            "files": imported.files,
            "exact": imported.exact,
            "decisions": imported.decisions,
            "known": imported.known,
            "missing": dict(imported.missing.most_common()),
            "set_aside": dict(imported.set_aside.most_common()),
            "out": str(out),
        }
    )


def _as_text(imported: "Imported", out: Path) -> str:
    share = f" ({imported.known / imported.decisions:.1%})" if imported.decisions else ""
    lines = [
        f"{imported.battles} battles, {imported.files} files in {out}, {imported.exact} of them of a player's own log",
        f"{imported.decisions} decisions, of {imported.known}{share} the log tells the choice; of the others:",
    ]
    lines += [f"  {count:>6} {why}" for why, count in imported.missing.most_common()]
    lines.append(f"set aside: {imported.set_aside.total()}")
    lines += [
        f"  {count:>6} {reason} (first: {imported.first_set_aside[reason].name})"
        for reason, count in imported.set_aside.most_common()
    ]
    return "\n".join(lines)
