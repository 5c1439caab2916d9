"""`gemma-metamon monitor`: a service looked at from outside."""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import (
    above_zero,
    add_shared_argument,
    at_least_one,
    require_place,
    share,
)
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.serving.monitor import Figures, Look

logger = logging.getLogger(__name__)
EXAMPLE = """examples:
  gemma-metamon monitor --server_url http://127.0.0.1:8765
  gemma-metamon monitor --server_url http://127.0.0.1:8765 --polls 60 --max_p95_ms 200 --out monitor.html
The exit status is 0 where it was well at every look and kept every threshold, else 1. Latency is that of
the answered requests between the first look and the last, and failures are a share of those that were not refused; with
one look alone, of all since the service began. Where nothing was asked between the looks, no threshold of either is
passed."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "monitor",
        help="look whether a service is well, fast and without failures",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--server_url", required=True, help="of `gemma-metamon serve`, as http://127.0.0.1:8765")
    parser.add_argument("--token_file", type=Path, help="a file with its token (default: GEMMA_METAMON_TOKEN)")
    parser.add_argument("--polls", type=at_least_one, default=1, help="how often to look (default: %(default)s)")
    parser.add_argument("--interval_s", type=above_zero, default=5.0, help="from look to look (default: %(default)s)")
    for percent in (50, 95, 99):
        parser.add_argument(f"--max_p{percent}_ms", type=above_zero, help=f"latency that {percent} %% must keep")
    parser.add_argument(
        "--max_error_rate", type=share, default=0.01, help="share of failed requests (default: %(default)s)"
    )
    parser.add_argument("--max_memory_mb", type=above_zero, help="of the service's process")
    parser.add_argument("--out", type=Path, help="a page (.html) of what was seen")
    add_shared_argument(parser, "timeout_s", default=10.0)
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Looks, tells, and judges."""
    require_extra("serve", "monitor")
    if not args.server_url.startswith(("http://", "https://")) or "@" in args.server_url:
        raise ConfigError("--server_url is no service's address; write it as in http://127.0.0.1:8765")
    if args.out is not None:
        require_extra("report", "monitor --out")
        require_place(args.out, "out")
    from gemma_metamon.serving.limits import read_token
    from gemma_metamon.serving.monitor import Monitor, Thresholds, figures, finite_ms, problems

    monitor = Monitor(args.server_url, read_token(args.token_file), args.timeout_s)
    looks = monitor.watch(args.polls, args.interval_s, _tell)
    found = figures(looks)
    thresholds = Thresholds(
        p50_ms=args.max_p50_ms,
        p95_ms=args.max_p95_ms,
        p99_ms=args.max_p99_ms,
        error_rate=args.max_error_rate,
        memory_mb=args.max_memory_mb,
    )
    wrong = problems(looks, found, thresholds)
    if args.out is not None:
        from gemma_metamon.atomic_files import written_whole
        from gemma_metamon.serving.monitor_page import monitor_page

        with written_whole(args.out) as staged:
            staged.write_text(monitor_page(args.server_url, looks, found, wrong), encoding="utf-8")
    if args.json:
        latency = {percent: finite_ms(value) for percent, value in found.latency_ms.items()}
        told = {"well": not wrong, "problems": wrong, **asdict(found), "latency_ms": latency}
        print(json.dumps({**told, "looks": [_row(each) for each in looks]}))
    else:
        print("\n".join([_line(found, looks[-1]), *wrong]))
    return 1 if wrong else 0


def _tell(look: "Look") -> None:
    logger.info("%6.1f s: %s", look.at_s, look.fault or f"{look.agent} is well, /health in {look.answered_ms:.1f} ms")


def _line(found: "Figures", last: "Look") -> str:
    from gemma_metamon.serving.monitor import shown_ms

    latency = ", ".join(f"p{percent} {shown_ms(value)}" for percent, value in found.latency_ms.items())
    failed, refused = ("-" if rate is None else f"{rate:.2%}" for rate in (found.error_rate, found.refused_rate))
    memory, battles = _number(last.memory_mb, " MB"), _number(last.battles, "")
    return f"{found.requests} requests, {refused} refused, {failed} failed; {latency}; {memory}, {battles} battles"


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.4g}{unit}"


def _row(look: "Look") -> dict[str, object]:
    row = asdict(look)
    del row["buckets"]
    return row
