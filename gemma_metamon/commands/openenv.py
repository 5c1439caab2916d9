"""`gemma-metamon openenv`: battles as an OpenEnv environment, for whatever trains language models on such."""

import argparse
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument, at_least_one, port
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """examples:
  gemma-metamon openenv --format gen1ou --opponent SimpleHeuristicsPlayer
  gemma-metamon openenv --opponent runs/first@3 --sessions 8 --reasoning
OpenEnv's clients reset and step it at http://127.0.0.1:8766; an action is {"answer": "<SOLUTION>move Surf</SOLUTION>"}.
docs/guides/environments.md has the rest."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "openenv",
        help="offer battles to language models as an OpenEnv environment",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", default="gen1ou", help="a singles format (default: %(default)s)")
    parser.add_argument(
        "--opponent", default="SimpleHeuristicsPlayer", help="a scripted player, or a run (default: %(default)s)"
    )
    add_shared_argument(parser, "team_dir")
    parser.add_argument("--max_turns", type=at_least_one, help="a battle that gets past this turn is cut short")
    parser.add_argument("--reasoning", action="store_true", help="ask for a reasoning before the choice")
    parser.add_argument(
        "--sessions", type=at_least_one, default=4, help="battles at a time, a process each (default: %(default)s)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=port, default=8766, help="(default: %(default)s)")
    parser.add_argument("--open", action="store_true", help="let other machines play; it asks for no token")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to end; status 0 then."""
    for extra in ("openenv", "envs", "battle", "serve"):
        require_extra(extra, "openenv")
    from gemma_metamon.serving.limits import require_safe_host
    from gemma_metamon.serving.server import Address, listening_at

    require_safe_host(args.host, None, is_open=args.open)
    import uvicorn

    from gemma_metamon.envs.chat_env import ChatBattleEnv
    from gemma_metamon.envs.open_env import battle_app
    from gemma_metamon.showdown.live.recording import MAX_TURNS

    def make() -> ChatBattleEnv:
        return ChatBattleEnv(
            args.format,
            args.opponent,
            team_dir=args.team_dir,
            max_turns=args.max_turns or MAX_TURNS,
            reasoning=args.reasoning,
        )

    make().close()  # what cannot be is told before anybody asks
    app = battle_app(make, sessions=args.sessions)
    with listening_at(Address(args.host, args.port)) as listening:
        print(f"{args.format} against {args.opponent} is served at http://{args.host}:{args.port}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
    return 0
