"""`gemma-metamon collect`: battles between scripted players, recorded from both sides."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.showdown.collect import Collection

EXAMPLE = """example: gemma-metamon collect --format gen9ou --battles 200
  --players SimpleHeuristicsPlayer MaxBasePowerPlayer --out battles
For each battle both players are drawn among those named (a player also meets itself), and each draws a team: these
choices follow --seed. The simulator's dice and the players' own do not. The folder is what train's
--custom_replay_dir takes, and metamon's."""


def add_parser(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "collect",
        help="record battles between scripted players",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", required=True, help="the battle format, such as gen1ou or gen9ou")
    parser.add_argument("--battles", type=int, required=True, help="how many battles; each gives two files")
    parser.add_argument(
        "--players", nargs="+", required=True, metavar="PLAYER", help="poke-env's players, by class name"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write <format>/*.json.lz4 into")
    parser.add_argument("--seed", type=int, default=0, help="of the pairings and the teams (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=8, help="battles at a time (default: %(default)s)")
    parser.add_argument(
        "--team_dir", type=Path, help="a folder of NAME.<format>_team files (default: the packaged teams)"
    )
    parser.add_argument("--max_turns", type=int, default=1000, help="cut off longer battles (default: %(default)s)")
    parser.add_argument("--server", help="ws://... of a running server (default: one of its own)")
    parser.add_argument("--timeout_s", type=float, default=60, help="give up after this silence (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import asyncio

    from tqdm import tqdm

    from gemma_metamon.errors import ConfigError
    from gemma_metamon.showdown.collect import collect, draw_matchups
    from gemma_metamon.showdown.server import running_server
    from gemma_metamon.showdown.teams import load_teams

    @contextmanager
    def own_server() -> Iterator[str]:
        with running_server() as server:
            yield server.websocket_url

    for flag in ("battles", "concurrency", "max_turns"):
        if getattr(args, flag) < 1:
            raise ConfigError(f"--{flag} is {getattr(args, flag)}; expected at least 1")
    matchups = draw_matchups(args.players, args.battles, args.seed)
    teams = load_teams(args.format, args.team_dir)
    with (
        nullcontext(args.server) if args.server else own_server() as websocket_url,
        tqdm(total=args.battles, unit="battle", desc=args.format) as bar,
    ):
        collection = asyncio.run(
            collect(
                matchups,
                battle_format=args.format,
                teams=teams,
                websocket_url=websocket_url,
                out=args.out,
                seed=args.seed,
                concurrency=args.concurrency,
                max_turns=args.max_turns,
                timeout_s=args.timeout_s,
                on_battle=bar.update,
            )
        )
    print(_as_json(collection, args.out) if args.json else _as_text(collection, args.out))
    return 0


def _as_json(collection: "Collection", out: Path) -> str:
    return json.dumps(
        {
            "battles": collection.battles,
            "files": collection.files,
            "set_aside": dict(collection.set_aside),
            "results": dict(sorted(collection.results.items())),
            "seconds": round(collection.seconds, 2),
            "battles_per_s": round(collection.battles_per_s, 2),
            "out": str(out),
        }
    )


def _as_text(collection: "Collection", out: Path) -> str:
    lines = [f"{label:<60}{count:>6}" for label, count in sorted(collection.results.items())]
    lines.append(
        f"{collection.battles} battles in {collection.seconds:.1f} s ({collection.battles_per_s:.1f} battles/s), "
        f"{collection.files} files in {out}"
    )
    lines.append(f"set aside: {sum(collection.set_aside.values())}")
    lines += [f"  {count} {reason}" for reason, count in collection.set_aside.items()]
    return "\n".join(lines)
