"""How often each of several contestants wins against others, in an arena or on a server, with 95 % intervals.

What an evaluation leaves in its folder, each as a type of results/schema.py:

    results.json        EvaluationResults
    battles.jsonl       a BattleRow per battle, written when it ends
    battles/<tag>.log   the simulator's messages as the player received them, one a line, as replays hold them
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from poke_env.player import Player

from gemma_metamon.atomic_files import append_whole, written_whole
from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.extras import require_extra
from gemma_metamon.results import schema
from gemma_metamon.results.schema import BattleRow, ContestantRow, EvaluationResults, Kind, PairRow
from gemma_metamon.showdown.matches.arena_seatings import play_seatings
from gemma_metamon.showdown.matches.processes import PlayPlans
from gemma_metamon.showdown.matches.ratings import Rating, rate
from gemma_metamon.showdown.matches.seatings import (
    Ended,
    PairResult,
    Seating,
    SeatingCounter,
    SeatingRunner,
    draw_teams,
    seatings_of,
)
from gemma_metamon.showdown.matches.tallies import Tally
from gemma_metamon.showdown.matches.watching import SILENCE_TIMEOUT_S
from gemma_metamon.showdown.players.contestants import Contestant, Outside, scripted, why_ended

RESULTS, BATTLES, LOGS = "results.json", "battles.jsonl", "battles"
_SEATINGS_AT_ONCE = 4


@dataclass(kw_only=True)
class Evaluation:
    """What came of it; `unfinished` says why fewer battles were played than asked for, None if none is missing."""

    battle_format: str
    battles_per_pair: int
    seed: int
    pairs: list[PairResult]
    ratings: dict[str, Rating] = field(default_factory=dict)
    unfinished: str | None = None
    seconds: float = 0.0

    @property
    def battles(self) -> int:
        """How many count, all pairs together."""
        return sum(pair.players.battles for pair in self.pairs)

    @property
    def set_aside(self) -> Counter[str]:
        """Battles that are not counted, by their reason."""
        return sum((pair.set_aside for pair in self.pairs), Counter[str]())

    def contestants(self) -> list[tuple[Contestant | Outside, Tally]]:
        """Everybody with all of their battles: the players in their order, then who is only an opponent."""
        everybody = [pair.player for pair in self.pairs] + [pair.opponent for pair in self.pairs]
        totals = {who.name: (who, Tally()) for who in everybody}
        for pair in self.pairs:
            totals[pair.player.name][1].add(pair.players)
            totals[pair.opponent.name][1].add(pair.opponents)
        return list(totals.values())

    def rate(self) -> None:
        """Fills `ratings` from all battles."""
        found = rate(
            [
                (pair.player.name, pair.opponent.name, pair.players.wins, pair.players.losses, pair.players.ties)
                for pair in self.pairs
            ]
        )
        self.ratings = {rating.name: rating for rating in found}

    def results(self) -> EvaluationResults:
        """results.json."""
        return EvaluationResults(
            format=self.battle_format,
            seed=self.seed,
            seconds=round(self.seconds, 2),
            battles_per_pair=self.battles_per_pair,
            unfinished=self.unfinished,
            set_aside=self.set_aside.total(),
            contestants=[
                ContestantRow(
                    name=who.name,
                    kind=_kind(who),
                    policy=None if isinstance(who, Outside) or who.policy is None else who.policy.row(),
                    chat=None if isinstance(who, Outside) or who.chat is None else who.chat.row(),
                    rating=self.ratings[who.name].row() if who.name in self.ratings else None,
                    **vars(tally.counts()),
                )
                for who, tally in self.contestants()
            ],
            pairs=[
                PairRow(
                    player=pair.player.name,
                    opponent=pair.opponent.name,
                    set_aside=dict(pair.set_aside.most_common()),
                    **vars(pair.players.counts()),
                )
                for pair in self.pairs
            ],
        )


def _why_unfinished(pairs: Sequence[tuple[Contestant, Contestant | Outside]], failures: Sequence[ServerError]) -> str:
    if failures:
        return str(failures[0])
    return why_ended(who for pair in pairs for who in pair) or "interrupted"


def _kind(who: Contestant | Outside) -> Kind:
    if isinstance(who, Outside):
        return "outside"
    if who.chat is not None:
        return "chat"
    if who.policy is None:
        return "scripted"
    return who.policy.kind


async def evaluate(
    pairs: Sequence[tuple[Contestant, Contestant | Outside]],
    n_battles: int,
    *,
    battle_format: str,
    teams: Sequence[str],
    websocket_url: str | None = None,
    workers: int = 1,
    seed: int = 0,
    concurrency: int = 16,
    timeout_s: float = SILENCE_TIMEOUT_S,
    rated: bool = False,
    out: Path | None = None,
    on_battle: Callable[[], Any] | None = None,
    elsewhere: PlayPlans | None = None,
) -> Evaluation:
    """Plays n_battles of each pair. Each drawn pair of teams is played twice.

    In the second battle the contestants have exchanged seats and teams; of an odd number, the last is played once.
    In an arena, the same arguments give the same battles, whatever the number of workers. Somebody outside, on a
    server, brings teams of its own: only ours are drawn then, and whoever challenges has the first seat.

    Args:
        pairs: who meets whom.
        n_battles: of each pair.
        battle_format: e.g. "gen1ou".
        teams: packed; both sides draw from them. Empty for a format that gives them out.
        websocket_url: of a server to play on, which somebody outside needs; None plays in an arena.
        workers: processes that play in an arena, see `play_plans`; above 1 the program must be one that can be
            imported, with `if __name__ == "__main__":`.
        seed: of all that is drawn in an arena; on a server of the teams alone.
        concurrency: the most battles at a time, all pairs together.
        timeout_s: silence after which two players' battles are given up, or a worker of the arena is ended.
        rated: rate everybody by all of the battles.
        out: the folder to write, as this module's description has it; battles are in it as soon as they end.
        on_battle: called after each battle.
        elsewhere: plays the battles of an arena on other machines; None plays them on this one.

    Returns:
        What was played, also where a failure (in `unfinished`) came before the end.

    Raises:
        ConfigError: a contestant would meet itself, or `out` holds an evaluation already.
        MissingDependencyError: `rated`, and the extra `report` is not installed.
        ServerError: not one battle could be played, or followed by poke-env.
    """
    if rated:
        require_extra("report", "a rating")
    results = [PairResult(player=player, opponent=opponent) for player, opponent in pairs]
    evaluation = Evaluation(battle_format=battle_format, battles_per_pair=n_battles, seed=seed, pairs=results)
    draws = draw_teams(len(teams), n_battles, seed)
    seatings = [seating for result in results for seating in seatings_of(result, draws, n_battles)]
    journal = None if out is None else _Journal(out, teams_given_out=not teams)

    def ended(battle: Ended) -> None:
        if journal is not None:
            journal.write(battle)
        if on_battle is not None:
            on_battle()

    failures: list[ServerError] = []
    started = time.monotonic()
    try:
        await _play(
            seatings,
            SeatingCounter(ended, on_battle or (lambda: None)),
            failures,
            battle_format=battle_format,
            teams=teams,
            websocket_url=websocket_url,
            workers=workers,
            seed=seed,
            concurrency=concurrency,
            timeout_s=timeout_s,
            elsewhere=elsewhere,
        )
    finally:
        evaluation.seconds = time.monotonic() - started
        set_aside = evaluation.set_aside
        if evaluation.battles + set_aside.total() < n_battles * len(pairs):
            evaluation.unfinished = _why_unfinished(pairs, failures)
        if rated and evaluation.battles:
            evaluation.rate()
        if journal is not None and evaluation.battles:
            journal.finish(evaluation)
    if failures and not evaluation.battles:
        raise failures[0]
    if set_aside and not evaluation.battles:
        raise ServerError(
            f"poke-env can follow none of {set_aside.total()} battles of {battle_format} "
            f"({set_aside.most_common(1)[0][0]}); play another format"
        )
    return evaluation


async def _play(
    seatings: Sequence[Seating],
    counter: SeatingCounter,
    failures: list[ServerError],
    *,
    battle_format: str,
    teams: Sequence[str],
    websocket_url: str | None,
    workers: int,
    seed: int,
    concurrency: int,
    timeout_s: float,
    elsewhere: PlayPlans | None,
) -> None:
    """Plays the seatings in an arena or on a server, and adds what fails to `failures`.

    Args:
        seatings: all of them.
        counter: counts what ends.
        failures: why fewer battles were played; those that ended before count.
        battle_format: see `evaluate`, as for all others.
        teams: packed.
        websocket_url: of a server, or None.
        workers: that play in an arena.
        seed: of the run.
        concurrency: battles at a time.
        timeout_s: of silence.
        elsewhere: plays on other machines.
    """
    if websocket_url is not None:
        at_once = min(len(seatings), concurrency, _SEATINGS_AT_ONCE)
        runner = SeatingRunner(
            battle_format=battle_format,
            teams=teams,
            websocket_url=websocket_url,
            concurrency=concurrency // at_once,
            timeout_s=timeout_s,
            counter=counter,
            failures=failures,
        )
        await runner.play_all(seatings, at_once)
        return
    try:
        await play_seatings(
            seatings,
            counter,
            battle_format=battle_format,
            teams=teams,
            seed=seed,
            workers=workers,
            in_play=concurrency,
            timeout_s=timeout_s,
            elsewhere=elsewhere,
        )
    except ServerError as error:
        failures.append(error)


async def play_match(
    build_player: Callable[..., Player],
    opponent: str,
    n_battles: int,
    *,
    battle_format: str,
    teams: Sequence[str],
    websocket_url: str | None = None,
    seed: int = 0,
    concurrency: int = 16,
) -> Tally:
    """`evaluate` for one player against one scripted opponent: the player's side of it.

    Args:
        build_player: makes the player; called with poke-env's connection arguments.
        opponent: a name of `registry.PLAYERS`.
        n_battles: how many.
        battle_format: e.g. "gen1ou".
        teams: packed; both sides draw from them. Empty for a format that gives them out.
        websocket_url: of a server to play on; None plays in an arena.
        seed: of the teams, and of all that is drawn in an arena.
        concurrency: battles at a time.

    Raises:
        ConfigError: an unknown opponent.
        ServerError: a refused team, a lost connection, or silence; also where some battles were played.
    """
    evaluation = await evaluate(
        [(Contestant("Agent", build_player), scripted(opponent))],
        n_battles,
        battle_format=battle_format,
        teams=teams,
        websocket_url=websocket_url,
        seed=seed,
        concurrency=concurrency,
    )
    if evaluation.unfinished is not None:
        raise ServerError(f"{evaluation.unfinished}; {evaluation.battles} of {n_battles} battles were played")
    return evaluation.pairs[0].players


def require_free(folder: Path) -> None:
    """Raises ConfigError where the folder holds an evaluation already."""
    if (folder / BATTLES).exists() or (folder / RESULTS).exists():
        raise ConfigError(f"{folder} holds an evaluation already; name another folder, or remove it")


class _Journal:
    """The folder of an evaluation while it is written."""

    def __init__(self, folder: Path, *, teams_given_out: bool) -> None:
        require_free(folder)
        (folder / LOGS).mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._teams_given_out = teams_given_out

    def write(self, ended: Ended) -> None:
        outcome, pair = ended.outcome, ended.seating.result
        log = f"{LOGS}/{outcome.tag}.log"
        with written_whole(self._folder / log, durable=False) as staged:  # nothing reads it again but people
            staged.write_text(outcome.log, encoding="utf-8")
        ours, theirs = (None, None) if self._teams_given_out else ended.seating.teams(ended.draw)
        mine, other = outcome.choices
        row = BattleRow(
            battle=outcome.tag,
            player=pair.player.name,
            opponent=pair.opponent.name,
            p1="player" if outcome.seat == "p1" else "opponent",
            result=outcome.result,
            turns=outcome.turns,
            draw=ended.draw,
            teams=(ours, None if isinstance(pair.opponent, Outside) else theirs),
            choices=(mine.sent, other.sent),
            refused=(mine.refused, other.refused),
            log=log,
        )
        append_whole(self._folder / BATTLES, json.dumps(asdict(row)) + "\n")

    def finish(self, evaluation: Evaluation) -> None:
        schema.write(self._folder / RESULTS, evaluation.results())
