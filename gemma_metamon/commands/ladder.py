"""`gemma-metamon ladder`: play rated battles on a Showdown server, for as long as it takes."""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import (
    above_zero,
    add_shared_argument,
    add_watch_argument,
    at_least_one,
    load_watcher,
    make_folder,
)
from gemma_metamon.commands._chat_players import usage_line
from gemma_metamon.commands._drawing import require_drawn
from gemma_metamon.commands._formats import warn_of_strange_formats
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    import asyncio

    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.results.schema import LadderRow
    from gemma_metamon.showdown.accounts import LadderServer
    from gemma_metamon.showdown.ladder.ladder import Ladder
    from gemma_metamon.showdown.ladder.results import Results, Summary
    from gemma_metamon.showdown.players.contestants import Contestant

logger = logging.getLogger(__name__)
EXAMPLE = """examples:
  gemma-metamon ladder --server local --username Anna --format gen1ou --battles 20
      --player SimpleHeuristicsPlayer --sparring RandomPlayer MaxBasePowerPlayer
  gemma-metamon ladder --server pokeagent --username PAC-Anna --password_file ~/.showdown --format gen1ou --battles 100
      --run_dir runs/first
  gemma-metamon ladder --server local --username Anna --player "ensemble(runs/first@5, runs/first@7@T0.8)"
How players are written is told by `gemma-metamon evaluate --help`.
The password comes from the variable SHOWDOWN_PASSWORD or from --password_file, never from an argument. Ctrl-C: no new
battles, those in play are finished; twice: stop at once. The same command again goes on counting where it stopped."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "ladder",
        help="play rated battles on a server's ladder",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # else --password PASSWORD would be taken for --password_file, and told in an error
    )
    parser.add_argument(
        "--server",
        default="local",
        help="local (one of `gemma-metamon showdown`, else one of its own), pokeagent, main, or wss://... "
        "(default: %(default)s)",
    )
    parser.add_argument("--username", required=True, help="at most 18 characters; on pokeagent it begins with PAC")
    parser.add_argument("--password", action=_NoPassword, nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--password_file", type=Path, help="its first line (default: the variable SHOWDOWN_PASSWORD)")
    parser.add_argument("--login_server", help="https://... that vouches for names (default: Showdown's own)")
    parser.add_argument(
        "--i_have_permission",
        action="store_true",
        help="the administrators of the public main server have allowed this bot; without that they lock such accounts",
    )
    parser.add_argument("--run_dir", help="who plays: a run of `train` (save_dir/run_name, or save_dir/run_name@EPOCH)")
    add_shared_argument(parser, "ckpt", help="the epoch of runs without @EPOCH (default: the last)")
    parser.add_argument(
        "--player",
        "--players",
        dest="player",
        help='or another player: a scripted one such as SimpleHeuristicsPlayer, or "ensemble(RUN, RUN@EPOCH@T0.8)"',
    )
    parser.add_argument("--format", default="gen1ou", help="battle format (default: %(default)s)")
    parser.add_argument("--battles", type=at_least_one, default=10, help="stop after so many (default: %(default)s)")
    parser.add_argument(
        "--team",
        "--team_dir",
        type=Path,
        help="a folder of teams in Showdown's export format (default: the packaged teams)",
    )
    add_shared_argument(parser, "concurrency", default=1)
    parser.add_argument("--out", type=Path, help="folder of the results (default: ladder/USERNAME-FORMAT)")
    parser.add_argument(
        "--decision_s", type=above_zero, default=10.0, help="deadline per decision (default: %(default)s)"
    )
    parser.add_argument(
        "--sparring", nargs="+", default=[], metavar="PLAYER", help="local: scripted players to meet on the ladder"
    )
    parser.add_argument("--sample", action="store_true", help="draw actions; otherwise the most probable is taken")
    add_shared_argument(parser, "temperature", help="of runs without @T (default: %(default)s)")
    add_watch_argument(parser)
    for name in ("device", "seed", "json"):
        add_shared_argument(parser, name)
    parser.set_defaults(run=run)


class _NoPassword(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser.error(
            "a password in an argument can be read by everyone on this machine; "
            "use the variable SHOWDOWN_PASSWORD or --password_file"
        )


def run(args: argparse.Namespace) -> int:
    """Plays until all battles are finished or it is stopped, and prints what was won."""
    if (args.player is None) == (args.run_dir is None):
        raise ConfigError("give one of --run_dir (an agent) and --player (a scripted player, or an ensemble)")
    require_extra("battle", "ladder")
    require_extra("report", "ladder")
    import asyncio

    from gemma_metamon.commands._players import contestants, find_players, require_no_search
    from gemma_metamon.reports.replay_page import replay_page
    from gemma_metamon.showdown import accounts
    from gemma_metamon.showdown.ladder.results import Results
    from gemma_metamon.showdown.players.contestants import scripted

    (player,) = players = find_players([args.player or args.run_dir], args.ckpt)
    require_no_search(players, "a ladder")
    if args.watch is not None and len(player.members) != 1:
        raise ConfigError(f"--watch shows what a checkpoint thinks, and {player.text} is not one that plays alone")
    require_drawn(args, players, told=args.watch is not None)
    password = accounts.read_password(args.password_file)
    server = None
    if args.server == "local":
        if args.login_server is not None:
            raise ConfigError("--login_server is for other servers than local, where names are free for the taking")
        accounts.check_username(args.username)
    else:
        server = accounts.ladder_server(
            args.server,
            username=args.username,
            has_password=password is not None,
            has_permission=args.i_have_permission,
            login_url=args.login_server,
        )
    if server is not None and args.sparring:
        raise ConfigError(f"--sparring is for --server local; {args.server} has players of its own")
    sparring = [scripted(name) for name in args.sparring]
    args.teams = _teams(args)
    warn_of_strange_formats(players, args.format)
    out = args.out or Path("ladder") / f"{args.username}-{args.format}"
    make_folder(out, "out")
    results = Results(out, page=replay_page)
    if results.finished:
        logger.info("%s has %d battles already, which count among --battles %d", out, results.finished, args.battles)
    try:
        (contestant,) = contestants(
            players,
            device=args.device,
            sample=args.sample,
            temperature=args.temperature,
            max_battles=2 * args.concurrency + 2,  # a battle may begin before the end of the one before it is told
            seed=args.seed,
            observer=load_watcher(args),
        )
        with _local_server() if server is None else nullcontext(server) as where:
            return asyncio.run(_play(args, contestant, sparring, where, password, results))
    finally:
        results.close()


def _teams(args: argparse.Namespace) -> list[str]:
    """Raises DataError with the simulator's own reasons, where it is at hand: elsewhere the server is asked."""
    from gemma_metamon.showdown.accounts import to_id
    from gemma_metamon.showdown.simulator.formats import describe_format, find_format, refuse_own_teams, require_singles
    from gemma_metamon.showdown.simulator.installation import validate_teams
    from gemma_metamon.showdown.simulator.teams import load_teams

    known = find_format(args.format) if args.server == "local" else describe_format(args.format)
    if known is None:  # a server may have formats that our simulator does not know
        args.format = to_id(args.format)
    else:
        require_singles(known)
        args.format = known.id
        if known.gives_teams:
            refuse_own_teams(known, args.team)
            return []
    teams = load_teams(args.format, args.team)
    if args.server == "local":
        for i, reasons in enumerate(validate_teams(args.format, teams)):
            if reasons:
                raise DataError(
                    f"team {i + 1} of {len(teams)} in {args.team or 'gemma_metamon'} is not legal in {args.format}: "
                    f"{'; '.join(reasons)}"
                )
    return teams


@contextmanager
def _local_server() -> "Iterator[LadderServer]":
    from gemma_metamon.showdown.accounts import LadderServer
    from gemma_metamon.showdown.simulator.server import background_servers, running_server

    running = background_servers()
    if running:
        logger.info("playing on %s", running[0].websocket_url)
        yield LadderServer(name="the local simulator", websocket_url=running[0].websocket_url)
        return
    with running_server() as own:
        logger.info("started %s for the time; whom we meet must come to it, too", own.websocket_url)
        yield LadderServer(name="the local simulator", websocket_url=own.websocket_url)


async def _play(
    args: argparse.Namespace,
    contestant: "Contestant",
    sparring: "list[Contestant]",
    server: "LadderServer",
    password: Any,
    results: "Results",
) -> int:
    import asyncio

    from gemma_metamon.progress import progress_bar
    from gemma_metamon.showdown.ladder.ladder import Ladder
    from gemma_metamon.showdown.ladder.timeouts import LadderTimeouts
    from gemma_metamon.showdown.players.registry import user_name

    with progress_bar(total=args.battles, initial=min(results.finished, args.battles), unit="battle") as bar:

        def show(row: "LadderRow") -> None:
            bar.set_postfix_str(f"rating {row.rating_after or 'not told'}", refresh=False)
            bar.update(min(results.finished, args.battles) - bar.n)
            reason = f", {row.reason}" if row.reason else ""
            bar.write(f"{row.battle}: {row.result} against {row.opponent}{reason}", file=sys.stderr)
            if contestant.ended is not None and not ladder.stops:
                bar.write(f"no new battles: {contestant.ended}", file=sys.stderr)
                ladder.stop()

        common = {"server": server, "battle_format": args.format, "teams": args.teams}
        ladder = Ladder(
            contestant.build,
            **common,
            username=args.username,
            label=contestant.name,
            password=password,
            battles=args.battles,
            concurrency=args.concurrency,
            results=results,
            timeouts=LadderTimeouts(decision_s=args.decision_s),
            seed=args.seed,
            on_row=show,
        )
        others = [
            Ladder(other.build, **common, username=user_name(other.name), battles=None, seed=args.seed + i)
            for i, other in enumerate(sparring, 1)
        ]
        status = _on_signals(ladder, asyncio.get_running_loop())
        tasks = [asyncio.create_task(one.run()) for one in (ladder, *others)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)  # a sparring partner ends first by an error
        finally:
            for one in others if tasks[0].done() else (ladder, *others):
                one.stop()
                one.stop()
            await asyncio.wait(tasks)
    for task in tasks[1:]:
        task.result()
    summary = tasks[0].result()
    print(json.dumps(_report(summary, results)) if args.json else _table(summary, results))
    if contestant.chat is not None:
        print(usage_line(contestant.name, contestant.chat.row()), file=sys.stderr if args.json else sys.stdout)
    if contestant.ended is not None and results.finished < args.battles:
        played = f"{results.finished} of {args.battles} battles were played"
        print(f"gemma-metamon ladder: {played}; {contestant.ended}", file=sys.stderr)
        return status() or 1
    return status()


def _on_signals(ladder: "Ladder", loop: "asyncio.AbstractEventLoop") -> Callable[[], int]:
    """What tells the exit status when all is over: 143 after SIGTERM, 130 after a second Ctrl-C, as shells count."""
    told_to_end: list[bool] = []

    def interrupt(*_: Any) -> None:
        ladder.stop()
        if ladder.stops == 1:
            n = len(ladder.battles)
            print(f"finishing {n} battle{'s' * (n != 1)}; ctrl-C again stops at once", file=sys.stderr)

    def terminate(*_: Any) -> None:
        told_to_end.append(True)
        ladder.stop()
        ladder.stop()
        print("told to end: stopping at once", file=sys.stderr)

    for which, act in ((signal.SIGINT, interrupt), (signal.SIGTERM, terminate)):
        try:
            loop.add_signal_handler(which, act)
        except NotImplementedError:  # on Windows
            signal.signal(which, lambda *_, act=act: loop.call_soon_threadsafe(act))
    return lambda: 143 if told_to_end else 130 if ladder.stops > 1 else 0


def _report(summary: "Summary", results: "Results") -> dict[str, Any]:
    rows = list(results.rows.values())
    counts = {result: sum(row.result == result for row in rows) for result in ("won", "lost", "tied", "unfinished")}
    return {
        "out": str(results.folder),
        **counts,
        "rating": summary.rating,
        "this_run": {
            "battles": sum(summary.results.values()),
            "decisions": summary.decisions,
            "fallbacks": summary.fallbacks,
            "refused": summary.refused,
            "cuts": summary.cuts,
            "rejoins": summary.rejoins,
        },
        "teams_refused": summary.teams_refused,
    }


def _table(summary: "Summary", results: "Results") -> str:
    report = _report(summary, results)
    this_run = ", ".join(f"{count} {what}" for what, count in report["this_run"].items())
    lines = [
        f"{'won':>6} {'lost':>6} {'tied':>6} {'unfinished':>11}  rating",
        f"{report['won']:>6} {report['lost']:>6} {report['tied']:>6} {report['unfinished']:>11}  "
        f"{report['rating'] or 'not told'}",
        f"this run: {this_run}",
        f"results, logs and pages are in {report['out']}",
    ]
    return "\n".join(lines + [f"refused: {words}" for words in report["teams_refused"]])
