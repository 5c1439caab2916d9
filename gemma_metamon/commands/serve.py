"""`gemma-metamon serve`: an agent behind HTTP."""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import (
    above_zero,
    add_shared_argument,
    at_least_one,
    port,
    refuse_void,
    zero_or_above,
)
from gemma_metamon.commands._drawing import require_drawn
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.commands._players import FoundPlayer
    from gemma_metamon.serving.app import Service
    from gemma_metamon.serving.limits import Gate

logger = logging.getLogger(__name__)
_USUAL_PORT = 8765
_USUAL_TOKENS = 2048
EXAMPLE = """examples:
  gemma-metamon serve runs/first                        # POST /act on http://127.0.0.1:8765
  gemma-metamon serve "ensemble(runs/first, runs/second)" --port 9000
  gemma-metamon serve text:runs/words                   # and /v1/chat/completions, as OpenAI's clients ask it
  gemma-metamon serve vlm:runs/eyes                     # which takes images besides
  gemma-metamon serve runs/first --host 0.0.0.0 --token_file token.txt
A token is read from the file, or from GEMMA_METAMON_TOKEN; requests bear it as `Authorization: Bearer TOKEN`.
SIGTERM or Ctrl-C ends the service when what it was asked is answered.
What is sent and answered: docs/guides/serving.md."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "serve",
        help="let an agent answer over HTTP",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("agent", help="a run, an ensemble, text:DIR or vlm:DIR, as in `evaluate --players`")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=port, default=_USUAL_PORT, help="(default: %(default)s)")
    parser.add_argument("--name", help="what /v1/models and /health call it (default: its label)")
    parser.add_argument("--token_file", type=Path, help="a file with the token that requests must bear")
    parser.add_argument("--open", action="store_true", help="let other machines ask without a token")
    parser.add_argument(
        "--max_battles", type=at_least_one, default=128, help="battles remembered at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--gather_ms",
        type=zero_or_above,
        default=3.0,
        help="how long a decision waits for others to be made with it (default: %(default)s)",
    )
    parser.add_argument(
        "--max_body_kb", type=at_least_one, default=8192, help="of a request, in KB (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=above_zero, default=500.0, help="requests a second from one address (default: %(default)s)"
    )
    parser.add_argument(
        "--max_connections",
        type=at_least_one,
        default=800,
        help="open at a time, of one address half as many (default: %(default)s)",
    )
    parser.add_argument(
        "--trusted_proxy",
        metavar="ADDRESS",
        help="of a proxy whose X-Forwarded-For is believed: --rate then goes by the addresses that it names",
    )
    parser.add_argument(
        "--max_tokens", type=at_least_one, default=_USUAL_TOKENS, help="of an answer to a chat (default: %(default)s)"
    )
    parser.add_argument("--sample", action="store_true", help="draw choices instead of taking the most probable one")
    for name in ("temperature", "seed", "ckpt", "device"):
        add_shared_argument(parser, name)
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="of the largest weights (default: float32)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to end; status 0 then."""
    require_extra("serve", "serve")
    require_extra("battle", "serve")
    from gemma_metamon.serving.limits import Gate, Limits, read_token, require_safe_host
    from gemma_metamon.serving.server import Address, listening_at, serve

    token = read_token(args.token_file)
    require_safe_host(args.host, token, is_open=args.open)
    limits = Limits(
        body_bytes=args.max_body_kb * 1024,
        rate=args.rate,
        trusted_proxy=args.trusted_proxy,
        connections=args.max_connections,
    )
    # before minutes of loading; and whoever asks meanwhile waits
    with listening_at(Address(args.host, args.port)) as listening:
        service = _service(args, Gate(limits, token, args.host))
        asked = "a token is asked for" if token is not None else "no token is asked for"

        def say(url: str) -> None:
            print(f"{service.name} is served at {url} ({asked})", flush=True)

        serve(service, listening, say)
    print("ended", file=sys.stderr)
    return 0


def _service(args: argparse.Namespace, gate: "Gate") -> "Service":
    from gemma_metamon.commands._players import contestants, find_players
    from gemma_metamon.language.players.text import TextPolicy
    from gemma_metamon.serving.app import Service
    from gemma_metamon.serving.battles import SPARE, Battles
    from gemma_metamon.serving.writing import Writer
    from gemma_metamon.showdown.players.ensembles import EnsemblePolicy

    (found,) = find_players([args.agent], args.ckpt)
    _require_policy(found)
    if found.words is None:
        refuse_void(args, {"max_tokens": _USUAL_TOKENS}, f"{args.agent} answers no chats")
    require_drawn(args, [found], told=True)
    (who,) = contestants(
        [found],
        device=args.device,
        sample=args.sample,
        temperature=args.temperature,
        max_battles=args.max_battles + SPARE,
        seed=args.seed,
        dtype=args.dtype,
    )
    policy, name = who.policy, args.name or who.name
    if policy is None:
        raise ValueError(f"{args.agent} decides by no policy")
    policy.gather_s = args.gather_ms / 1000
    if isinstance(policy, EnsemblePolicy):
        policy.judges = True
    chats = None
    if isinstance(policy, TextPolicy):
        chats = Writer(policy.chat, policy, name, policy.gather_s, args.max_tokens).complete
    return Service(name, Battles(policy, args.max_battles, args.seed), gate, chats=chats)


def _require_policy(found: "FoundPlayer") -> None:
    if found.search is not None:
        raise ConfigError(
            f"{found.text} plays on in copies of an arena's battles, and a service has none; name its run"
        )
    if found.scripted is not None or found.chat is not None:
        raise ConfigError(f"{found.text} is no agent with probabilities to tell; name a run, text:DIR or vlm:DIR")
