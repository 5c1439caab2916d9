"""`gemma-metamon showdown`: the battle server of this machine, started, stopped and looked at."""

import argparse
import json
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument, port

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.showdown.simulator.server import Server

EXAMPLE = """example: gemma-metamon showdown start --port 8000 && gemma-metamon showdown status
`collect` and `evaluate` start a server of their own; this one is for your own clients, or a browser."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "showdown",
        help="start, stop or look at the local battle server",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("start", "stop", "status"), help="what to do")
    parser.add_argument("--port", type=port, help="start: a free one unless given; stop and status: all unless given")
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Starts, stops or lists servers; status 3 where one was asked for that is not there."""
    from gemma_metamon.showdown.simulator import server

    if args.action == "start":
        servers, done = [server.start_background(args.port)], "started"
    elif args.action == "stop":
        servers, done = server.stop_background(args.port), "stopped"
    else:
        servers, done = [s for s in server.background_servers() if args.port in (None, s.port)], "running"
    if args.json:
        print(json.dumps({"servers": [_describe(s) for s in servers], "action": args.action}))
    else:
        for s in servers:
            print(f"{done}: {s.websocket_url} (process {s.pid}, log {s.log_path})")
        if not servers:
            print("no battle server is running" if args.port is None else f"no battle server on port {args.port}")
    # as the service tools do: asking for one that is not there is a failure, stopping none is not
    return 0 if servers or args.action == "stop" else 3


def _describe(server: "Server") -> dict[str, object]:
    return {
        "port": server.port,
        "pid": server.pid,
        "websocket_url": server.websocket_url,
        "log_path": str(server.log_path),
    }
