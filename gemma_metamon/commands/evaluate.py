"""`gemma-metamon evaluate`: checkpoints and scripted players meet opponents, or everybody everybody, on a simulator."""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import (
    add_shared_argument,
    add_watch_argument,
    at_least_one,
    load_watcher,
    make_folder,
)
from gemma_metamon.commands._chat_players import usage_line
from gemma_metamon.commands._cluster import playing, require_ray
from gemma_metamon.commands._drawing import require_drawn
from gemma_metamon.commands._formats import warn_of_strange_formats
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.commands._players import FoundPlayer
    from gemma_metamon.results.schema import EvaluationReport, EvaluationResults
    from gemma_metamon.showdown.players.contestants import Contestant, Outside

DEFAULT_OPPONENTS = ("RandomPlayer", "MaxBasePowerPlayer")
OUTSIDE = "user:"
EXAMPLE = """examples:
  gemma-metamon evaluate --run_dir runs/first --format gen1ou --opponents RandomPlayer --battles 100 --json
  gemma-metamon evaluate --players runs/first@1 runs/first@2 SimpleHeuristicsPlayer --round_robin --out league
  gemma-metamon evaluate --run_dir runs/first --opponents user:TheirBot --server ws://localhost:8000/showdown/websocket
  gemma-metamon evaluate --players "ensemble(runs/first@5, runs/first@7@T0.8, runs/second)" --opponents runs/first@7
  gemma-metamon evaluate --players "LookaheadTrainer(forks=48)" "search(runs/first, forks=48)" --opponents DuelTrainer
  gemma-metamon evaluate --players chat:gemma-3-4b-it@http://127.0.0.1:8080/v1 --opponents MaxBasePowerPlayer

@T0.8 is a checkpoint's temperature, in place of --temperature. An ensemble averages its members' probabilities and
takes the most probable action, or draws one with --sample; in ensemble(vote: ...) each member names an action so, and
most votes win. A member that is written as runs/first*2 counts twice. Alone and without --sample, a checkpoint takes
its most probable action whatever its temperature. What is the name of a folder is that folder; in an ensemble, one with
a comma in its name stands between quotes.
A chat model is MODEL@URL of an OpenAI-compatible endpoint, and its key the variable OPENAI_API_KEY; its options, as in
"chat:MODEL@URL(max_calls=2000, reasoning=no)", stand in docs/guides/chat_models.md.
Each drawn pair of teams is played twice, with sides and teams exchanged. Teams, dice and all draws follow --seed: the
same command gives the same battles, on any number of --workers. Of a --server, the dice do not follow it."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "evaluate",
        help="let checkpoints and other players meet, and count",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    who = parser.add_argument_group("who plays")
    who.add_argument(
        "--run_dir",
        "--players",
        dest="players",
        nargs="+",
        required=True,
        metavar="PLAYER",
        help="runs of `train` (save_dir/run_name, or save_dir/run_name@EPOCH), scripted players by name, or "
        '"ensemble(RUN, RUN@EPOCH@T0.8)" of runs',
    )
    add_shared_argument(who, "ckpt", help="the epoch of runs without @EPOCH (default: the last)")
    who.add_argument(
        "--opponents",
        nargs="+",
        metavar="OPPONENT",
        help=f"the same, or user:NAME for whoever has that name on --server (default: {' '.join(DEFAULT_OPPONENTS)}; "
        "none with --round_robin)",
    )
    who.add_argument("--round_robin", action="store_true", help="everybody meets everybody; adds Elo and GXE")
    who.add_argument("--sample", action="store_true", help="checkpoints draw actions; otherwise the most probable")
    add_shared_argument(who, "temperature", help="of checkpoints without @T (default: %(default)s)")
    add_shared_argument(who, "device", help="of checkpoints: cpu, cuda, ... (default: cuda where there is one)")
    who.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="bfloat16 rounds the largest weights of checkpoints: decisions are faster and may differ",
    )

    battles = parser.add_argument_group("battles")
    battles.add_argument("--format", default="gen1ou", help="battle format (default: %(default)s)")
    battles.add_argument("--battles", type=at_least_one, default=100, help="of each pair (default: %(default)s)")
    add_shared_argument(battles, "seed", help="of all that is drawn (default: %(default)s)")
    for name in ("team_dir", "concurrency", "server", "workers", "ray", "timeout_s"):
        add_shared_argument(battles, name)
    battles.add_argument("--username", help="our name against user:NAME (default: one that nobody else has)")
    battles.add_argument("--accept", action="store_true", help="wait for user:NAME's challenges instead of challenging")

    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, help="keep results, every battle and a report in this folder")
    add_watch_argument(output)
    add_shared_argument(output, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Lets them meet and prints the results; status 1 where fewer battles were played than asked for."""
    outside = [spec for spec in args.opponents or () if spec.startswith(OUTSIDE)]
    _check_outside(args, outside)
    require_extra("battle", "evaluate")
    require_ray(args)
    for flag in ("out", "round_robin"):
        if getattr(args, flag):
            require_extra("report", f"--{flag}")
    import asyncio

    from gemma_metamon.commands._players import find_players, require_no_search
    from gemma_metamon.progress import progress_bar
    from gemma_metamon.showdown.matches.evaluate import evaluate, require_free
    from gemma_metamon.showdown.players.contestants import Outside
    from gemma_metamon.showdown.simulator.formats import find_teams

    if args.out is not None:
        require_free(args.out)
    opponents = args.opponents or (() if args.round_robin else DEFAULT_OPPONENTS)
    named = [text for text in (*args.players, *opponents) if not text.startswith(OUTSIDE)]
    players = find_players(named, args.ckpt)
    if args.server is not None:
        require_no_search(players, "--server")
    if args.watch is not None and not any(len(player.members) == 1 for player in players):
        raise ConfigError("--watch shows what a checkpoint thinks, but nobody here is one that plays alone")
    require_drawn(args, players, told=args.watch is not None)
    _check_pairs(players, len(args.players), round_robin=args.round_robin)
    args.format, teams = find_teams(args.format, args.team_dir)
    warn_of_strange_formats(players, args.format)
    if args.out is not None:
        make_folder(args.out, "out")
    others = [Outside(spec.removeprefix(OUTSIDE), args.username, args.accept) for spec in outside]
    with ExitStack() as stack:
        found, elsewhere = stack.enter_context(
            playing(
                args,
                players,
                battles_each=2,  # a battle may begin before the end of the one before it is told
                dtype=args.dtype,
                sample=args.sample,
                temperature=args.temperature,
                seed=args.seed,
                observer=load_watcher(args),
                teams=teams,
            )
        )
        pairs = _pairs(found, len(args.players), others, round_robin=args.round_robin)
        bar = stack.enter_context(progress_bar(total=args.battles * len(pairs), unit="battle", desc=args.format))
        evaluation = asyncio.run(
            evaluate(
                pairs,
                args.battles,
                battle_format=args.format,
                teams=teams,
                websocket_url=args.server,
                workers=args.workers,
                seed=args.seed,
                concurrency=args.concurrency,
                timeout_s=args.timeout_s,
                rated=args.round_robin,
                out=args.out,
                on_battle=bar.update,
                elsewhere=elsewhere,
            )
        )
    report = _report(evaluation.results(), found)
    print(json.dumps(dataclasses.asdict(report)) if args.json else as_table(report))
    if args.out is not None:
        from gemma_metamon.reports.evaluation import write_report

        runs = dict.fromkeys(run_dir for player in players for run_dir in player.run_dirs)
        curves = [run for run in runs if (run / "metrics.jsonl").is_file()]
        print(f"wrote {write_report(args.out, run_dirs=curves)}", file=sys.stderr)
    if evaluation.unfinished is not None:
        wanted = args.battles * len(pairs)
        print(
            f"gemma-metamon evaluate: {evaluation.battles} of {wanted} battles were played; {evaluation.unfinished}",
            file=sys.stderr,
        )
        return 1
    return 0


def _check_outside(args: argparse.Namespace, outside: "Sequence[str]") -> None:
    """Raises ConfigError for flags that do not go together."""
    for spec in args.players:
        if spec.startswith(OUTSIDE):
            raise ConfigError(f"{spec} can only be an opponent: --opponents {spec}")
    if not outside:
        for flag, given in (("--username", args.username), ("--accept", args.accept)):
            if given:
                raise ConfigError(f"{flag} is for battles against user:NAME, and no opponent is one")
        return
    if args.server is None:
        raise ConfigError(f"{outside[0]} must be on a server that runs already; name it with --server ws://...")
    if args.round_robin:
        raise ConfigError(f"{outside[0]} cannot take part in a round robin: nobody can make it meet the others")
    if args.accept and not args.username:
        raise ConfigError(f"--accept without --username NAME: {outside[0]} must know whom to challenge")
    if args.username and len(outside) * len(args.players) > 1:
        raise ConfigError(f"--username {args.username} is one name, for one player against one user:NAME")


def _check_pairs(who: "Sequence[FoundPlayer]", n_players: int, *, round_robin: bool) -> None:
    """Raises ConfigError where somebody would meet nobody, or itself."""
    if round_robin:
        if len(set(who)) < 2:
            raise ConfigError("a round robin needs two players or more; name them with --players or --opponents")
        return
    for player in who[:n_players]:
        if player in who[n_players:]:
            raise ConfigError(f"{player.text} would meet itself; name somebody else as its opponent")


def _pairs(
    found: "list[Contestant]", n_players: int, outside: "list[Outside]", *, round_robin: bool
) -> "list[tuple[Contestant, Contestant | Outside]]":
    """Who meets whom. Whoever was named twice plays once."""
    if round_robin:
        return list(combinations({contestant.name: contestant for contestant in found}.values(), 2))
    players = {player.name: player for player in found[:n_players]}
    opponents: dict[str, Contestant | Outside] = {opponent.name: opponent for opponent in found[n_players:]}
    opponents |= {opponent.name: opponent for opponent in outside}
    return [(player, opponent) for player in players.values() for opponent in opponents.values()]


def _report(results: "EvaluationResults", found: "list[Contestant]") -> "EvaluationReport":
    """The results, and how the policies of these contestants fared."""
    from gemma_metamon.results.schema import EvaluationReport

    policies = list({id(c.policy): c.policy for c in found if c.policy is not None}.values())
    busy_s = sum(policy.busy_s for policy in policies)
    decisions = sum(policy.decisions for policy in policies)
    unknown = sum((policy.unknown_words for policy in policies), Counter[str]())
    return EvaluationReport(
        **vars(results),
        decisions=decisions,
        decisions_per_s=decisions / busy_s if busy_s else 0.0,
        unknown_words=dict(unknown.most_common()),
    )


def as_table(report: "EvaluationReport") -> str:
    """Each pair's battles and choices, and in a round robin everybody's ratings, for people."""
    width = max(len(row.name) for row in report.contestants) + 2
    columns = ("battles", 7), ("wins", 6), ("losses", 8), ("ties", 6), ("win rate", 10), ("95 % interval", 18)
    measured = ("legal", 9), ("median ms", 11), ("95 % ms", 9), ("turns", 7)
    lines = [f"{'player':{width}}{'opponent':{width}}" + "".join(f"{name:>{n}}" for name, n in (*columns, *measured))]
    for pair in report.pairs:
        low, high = pair.interval_95
        median, p95 = (None, None) if pair.latency_ms is None else (pair.latency_ms.median, pair.latency_ms.p95)
        lines.append(
            f"{pair.player:{width}}{pair.opponent:{width}}"
            f"{pair.battles:7}{pair.wins:6}{pair.losses:8}{pair.ties:6}"
            f"{_cell(pair.win_rate, '.1%'):>10}{f'{low:.1%} to {high:.1%}':>18}"
            f"{_cell(pair.legal_rate, '.2%'):>9}{_cell(median, '.1f'):>11}"
            f"{_cell(p95, '.1f'):>9}{_cell(pair.mean_turns, '.1f'):>7}"
        )
    rated = [(row.rating, row) for row in report.contestants if row.rating is not None]
    if rated:
        lines.append(f"\n{'':{width}}{'battles':>7}{'Elo':>7}  {'95 % interval':16}{'GXE':>7}")
    for rating, row in sorted(rated, key=lambda each: -each[0].elo):
        low, high = rating.interval_95
        interval = f"{low:.0f} to {high:.0f}"
        lines.append(f"{row.name:{width}}{row.battles:7}{rating.elo:7.0f}  {interval:16}{rating.gxe:6.1f}%")
    if report.decisions:
        lines.append(f"{report.decisions} decisions, {report.decisions_per_s:.0f} per second of the policies' time")
    lines += [usage_line(row.name, row.chat) for row in report.contestants if row.chat is not None]
    for pair in report.pairs:
        for reason, count in pair.set_aside.items():
            lines.append(f"{count} not counted, {pair.player} against {pair.opponent}: poke-env: {reason}")
    if report.unknown_words:
        lines.append(f"words that the agent does not know, and how often it met them: {report.unknown_words}")
    return "\n".join(lines)


def _cell(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)
