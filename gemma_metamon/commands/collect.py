"""`gemma-metamon collect`: battles between scripted players and checkpoints, recorded for training."""

import argparse
import dataclasses
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_shared_argument, at_least_one, make_folder, zero_or_above
from gemma_metamon.commands._chat_players import usage_line
from gemma_metamon.commands._cluster import playing, require_ray
from gemma_metamon.commands._drawing import require_taken
from gemma_metamon.commands._formats import warn_of_strange_formats
from gemma_metamon.commands._remote import mirrored
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.commands._players import FoundPlayer
    from gemma_metamon.results.schema import ChatUsageRow
    from gemma_metamon.showdown.matches.collect import Matchup
    from gemma_metamon.showdown.matches.recordings import Collection
    from gemma_metamon.showdown.players.contestants import Contestant

EXAMPLE = """examples:
  gemma-metamon collect --format gen9ou --battles 200 --out battles --players SimpleHeuristicsPlayer MaxBasePowerPlayer
  gemma-metamon collect --format gen1ou --battles 200 --out battles --players runs/first@2 \\
      --opponents runs/first@1 runs/first@2 SimpleHeuristicsPlayer
A player is a scripted one by its class name, a run folder with or without the epoch of its checkpoint (runs/first@2)
and a temperature of its own (runs/first@2@T0.8), or "ensemble(runs/first@1, runs/first@2)"; see `evaluate`.
Without --opponents both sides of each battle are drawn among --players (a player also meets itself), and both views are
written. With --opponents one side is drawn among --players, the other among --opponents, and only views of a player
that is named in --players are written: of the second example, all those of first@2, and so both views of a battle that
it fights against itself. --record_opponents writes the others too, and --record_opponents runs/first@1 its alone.
--label_by DuelTrainer writes beside each choice what DuelTrainer would have chosen there: training imitates that, while
the battle goes on as it was played. So an agent learns from a teacher in the states that it gets into itself (DAgger).
A chat model (chat:MODEL@URL, see `evaluate`) has what it thinks written beside its choices, as "thoughts".
These choices, seats, teams, dice and all draws follow --seed: the same command gives the same battles, on any number of
--workers. Of a --server, the dice do not follow it. The folder is what train's --custom_replay_dir takes, and
metamon's; its dataset.yaml is what metamon 1.6.0 takes as --dataset_config."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "collect",
        help="record battles between scripted players and checkpoints",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", required=True, help="the battle format, such as gen1ou or gen9ou")
    parser.add_argument(
        "--battles", type=at_least_one, required=True, help="how many battles; each gives one or two files"
    )
    parser.add_argument("--players", nargs="+", required=True, metavar="PLAYER", help="whose views are written")
    parser.add_argument(
        "--opponents", nargs="+", metavar="PLAYER", help="who the other side is drawn among (default: the players)"
    )
    parser.add_argument(
        "--record_opponents",
        nargs="*",
        metavar="PLAYER",
        help="write the views of the opponents as well, or of these among them",
    )
    parser.add_argument(
        "--label_by", metavar="PLAYER", help="write beside each choice what this scripted player would choose"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write <format>/*.json.lz4 into")
    add_shared_argument(
        parser,
        "temperature",
        type=zero_or_above,
        help="of the draws of checkpoints without @T; 0 takes everybody's most probable action (default: %(default)s)",
    )
    add_shared_argument(parser, "seed", help="of all that is drawn (default: %(default)s)")
    parser.add_argument(
        "--max_turns", type=at_least_one, default=1000, help="cut off longer battles (default: %(default)s)"
    )
    for name in ("device", "concurrency", "team_dir", "server", "workers", "ray", "timeout_s", "json"):
        add_shared_argument(parser, name)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plays the battles, writes them and prints what was written; status 1 where fewer were played than asked for."""
    require_extra("battle", "collect")
    require_ray(args)
    with mirrored(args.out) as args.out:
        return _collect(args)


def _collect(args: argparse.Namespace) -> int:
    import asyncio

    from gemma_metamon.commands._players import (
        find_expert,
        find_players,
        require_named_opponents,
        require_no_search,
    )
    from gemma_metamon.progress import progress_bar
    from gemma_metamon.showdown.matches.collect import collect
    from gemma_metamon.showdown.simulator.formats import find_teams
    from gemma_metamon.upstream.datasets import write_beside

    require_named_opponents(args.record_opponents or (), args.opponents)
    everyone = find_players([*args.players, *(args.opponents or ())])
    expert = None if args.label_by is None else find_expert(args.label_by)
    require_taken(args, everyone)
    if args.server is not None:
        require_no_search([*everyone, *([expert] if expert else [])], "--server")
    args.format, teams = find_teams(args.format, args.team_dir)
    warn_of_strange_formats(everyone, args.format)
    make_folder(args.out, "out")
    with ExitStack() as stack:
        found, elsewhere = stack.enter_context(
            playing(
                args,
                everyone if expert is None else [*everyone, expert],
                # a checkpoint may be both sides, and a battle may begin before the end of the one before it is told
                battles_each=4,
                sample=args.temperature > 0,
                temperature=args.temperature or 1.0,
                seed=args.seed,
                teams=teams,
            )
        )
        label_by = None if expert is None else found.pop()
        matchups = _draw_matchups(args, everyone, found)
        bar = stack.enter_context(progress_bar(total=args.battles, unit="battle", desc=args.format))
        collection = asyncio.run(
            collect(
                matchups,
                battle_format=args.format,
                teams=teams,
                websocket_url=args.server,
                workers=args.workers,
                out=args.out,
                seed=args.seed,
                concurrency=args.concurrency,
                max_turns=args.max_turns,
                timeout_s=args.timeout_s,
                label_by=label_by,
                on_battle=bar.update,
                elsewhere=elsewhere,
            )
        )
    if collection.files:
        write_beside(args.out)
    players = [who for matchup in matchups for who in (matchup.player, matchup.opponent)]
    chats = {who.name: who.chat.row() for who in players if who.chat is not None}
    print(_as_json(collection, args.out, chats) if args.json else _as_text(collection, args.out, chats))
    if collection.unfinished is not None:
        played = f"{collection.battles} of {args.battles} battles were played"
        print(f"gemma-metamon collect: {played}; {collection.unfinished}", file=sys.stderr)
        return 1
    return 0


def _draw_matchups(
    args: argparse.Namespace, named: "list[FoundPlayer]", everyone: "list[Contestant]"
) -> "list[Matchup]":
    """Who meets whom."""
    from gemma_metamon.showdown.matches.collect import draw_matchups

    n_players = len(args.players)
    by_text = {player.text: contestant.name for player, contestant in zip(named, everyone, strict=True)}
    return draw_matchups(
        everyone[:n_players],
        args.battles,
        args.seed,
        opponents=everyone[n_players:] if args.opponents else None,
        record_opponents=args.record_opponents == [] or [by_text[text] for text in args.record_opponents or ()],
    )


def _as_json(collection: "Collection", out: Path, chats: "Mapping[str, ChatUsageRow]") -> str:
    return json.dumps(
        {
            "battles": collection.battles,
            "files": collection.files,
            "set_aside": dict(collection.set_aside),
            "results": dict(sorted(collection.results.items())),
            "seconds": round(collection.seconds, 2),
            "battles_per_s": round(collection.battles_per_s, 2),
            "chat_models": {name: dataclasses.asdict(row) for name, row in chats.items()},
            "out": str(out),
        }
    )


def _as_text(collection: "Collection", out: Path, chats: "Mapping[str, ChatUsageRow]") -> str:
    lines = [f"{label:<60}{count:>6}" for label, count in sorted(collection.results.items())]
    lines.append(
        f"{collection.battles} battles in {collection.seconds:.1f} s ({collection.battles_per_s:.1f} battles/s), "
        f"{collection.files} files in {out}"
    )
    lines.append(f"set aside: {sum(collection.set_aside.values())}")
    lines += [f"  {count} {reason}" for reason, count in collection.set_aside.items()]
    lines += [usage_line(name, row) for name, row in chats.items()]
    return "\n".join(lines)
