"""`gemma-metamon report`: the page of an evaluation's or a run's folder, made again from what lies there."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import not_negative, require_writable
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """examples:
  gemma-metamon report evaluations/first                       # of `gemma-metamon evaluate --out evaluations/first`
  gemma-metamon report evaluations/first --run_dir runs/first  # with the run's training curves
  gemma-metamon report runs/first                              # of a run alone, while it trains or afterwards"""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "report",
        help="make charts, replays and a web page of an evaluation or a run",
        description="Writes report.html, which needs no network, into the folder; of an evaluation also heatmap.png, "
        "bars.png and battles/*.html. Prints the page's path.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="what `evaluate --out` or `train` left")
    parser.add_argument("--run_dir", type=Path, nargs="+", default=[], help="runs whose curves belong on the page")
    parser.add_argument(
        "--replays", type=not_negative, default=20, help="battles of each pair that get a page (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the page and prints its path."""
    require_extra("report", "a report")
    from gemma_metamon.reports.evaluation import write_report

    if args.folder.is_dir():
        require_writable(args.folder, "folder")
    print(write_report(args.folder, run_dirs=args.run_dir, replays=args.replays))
    return 0
