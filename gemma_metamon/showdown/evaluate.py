"""How often each of several contestants wins against others, on a running server, with 95 % intervals.

What an evaluation leaves in its folder (all names are contestants' labels, all rates are shares of 1):

    results.json        one object:
        format, seed, seconds
        battles_per_pair    as asked for
        unfinished          null, or one sentence: why fewer were played
        contestants         in the order of the command line, each
            name, kind          kind is "checkpoint", "scripted" or "outside"
            battles, wins, losses, ties, win_rate, interval_95 ([low, high]; win_rate is null of no battles)
            mean_turns          null of no battles
            choices, refused    sent to the server, and those of them that it refused
            legal_rate          1 - refused / choices; null where we do not see its choices (an outside player)
            latency_ms          {"median": ..., "p95": ...} of a decision, or null
            rating              null, or in a round robin {"elo", "interval_95": [low, high], "deviation", "gxe"}
        pairs               each who met whom, from the first one's side:
            player, opponent, and every field of a contestant from battles to latency_ms
    battles.jsonl       one object per battle, written when it ends:
        battle              its tag, "battle-gen1ou-12"
        player, opponent    labels; the order of `pairs`
        p1                  "player" or "opponent": who sat in the simulator's first seat
        result              "win", "loss" or "tie", the player's
        turns
        draw                which drawn pair of teams; each is played twice, with seats and teams exchanged
        teams               [the player's, the opponent's]: positions among the teams of the format; null outside
        choices, refused    [the player's, the opponent's]
        log                 "battles/battle-gen1ou-12.log", beneath the folder
    battles/<tag>.log   the simulator's messages as the player received them, one a line, as replays hold them
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poke_env.battle import AbstractBattle
from poke_env.player import Player
from poke_env.teambuilder import Teambuilder

from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.showdown.baselines import connection, user_name
from gemma_metamon.showdown.contestants import Contestant, Outside, scripted
from gemma_metamon.showdown.play import SILENCE_TIMEOUT_S, disconnect, play_outside, play_pair
from gemma_metamon.showdown.ratings import Rating, rate, require_library
from gemma_metamon.showdown.tallies import ChoiceMeter, Choices, Tally
from gemma_metamon.whole_files import written_whole

RESULTS, BATTLES, LOGS = "results.json", "battles.jsonl", "battles"
_LEGS_AT_ONCE = 4


@dataclass(kw_only=True)
class PairResult:
    """The battles of two contestants, counted from both sides."""

    player: Contestant
    opponent: Contestant | Outside
    players: Tally = field(default_factory=Tally)
    opponents: Tally = field(default_factory=Tally)


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
        return sum(pair.players.battles for pair in self.pairs)

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

    def as_dict(self) -> dict[str, Any]:
        """results.json."""
        return {
            "format": self.battle_format,
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
            "battles_per_pair": self.battles_per_pair,
            "unfinished": self.unfinished,
            "contestants": [
                {
                    "name": who.name,
                    "kind": _kind(who),
                    **tally.as_dict(),
                    "rating": self.ratings[who.name].as_dict() if who.name in self.ratings else None,
                }
                for who, tally in self.contestants()
            ],
            "pairs": [
                {"player": pair.player.name, "opponent": pair.opponent.name, **pair.players.as_dict()}
                for pair in self.pairs
            ],
        }


def _kind(who: Contestant | Outside) -> str:
    if isinstance(who, Outside):
        return "outside"
    return "scripted" if who.policy is None else "checkpoint"


def draw_teams(n_teams: int, n_battles: int, seed: int) -> list[tuple[int, int]]:
    """For every two battles, the team of the simulator's first seat and that of its second. The same for every pair."""
    dice = random.Random(seed)
    return [(dice.randrange(n_teams), dice.randrange(n_teams)) for _ in range((n_battles + 1) // 2)]


async def evaluate(
    pairs: Sequence[tuple[Contestant, Contestant | Outside]],
    n_battles: int,
    *,
    battle_format: str,
    teams: Sequence[str],
    websocket_url: str,
    seed: int = 0,
    concurrency: int = 16,
    timeout_s: float = SILENCE_TIMEOUT_S,
    rated: bool = False,
    out: Path | None = None,
    on_battle: Callable[[], Any] | None = None,
) -> Evaluation:
    """Plays n_battles of each pair, several pairs at a time. Each drawn pair of teams is played twice.

    In the second battle the contestants have exchanged seats and teams; of an odd number, the last is played once.
    Somebody outside brings teams of its own: only ours are drawn then, and whoever challenges has the first seat.

    Args:
        pairs: who meets whom.
        n_battles: of each pair.
        battle_format: e.g. "gen1ou".
        teams: Showdown's export texts; both sides draw from them.
        websocket_url: of the server.
        seed: of the teams. Neither the simulator's dice nor the scripted players' follow it.
        concurrency: the most battles at a time, all pairs together.
        timeout_s: silence after which two players' battles are given up.
        rated: rate everybody by all of the battles.
        out: the folder to write, as this module's description has it; battles are in it as soon as they end.
        on_battle: called after each battle.

    Returns:
        What was played, also where a failure (in `unfinished`) came before the end.

    Raises:
        ConfigError: a contestant would meet itself, or `out` holds an evaluation already.
        MissingDependencyError: `rated`, and the rating library is not installed.
        ServerError: not one battle could be played.
    """
    for player, other in pairs:
        if player.name == other.name:
            raise ConfigError(f"{player.name} would meet itself; name somebody else as its opponent")
    if rated:
        require_library()
    results = [PairResult(player=player, opponent=opponent) for player, opponent in pairs]
    evaluation = Evaluation(battle_format=battle_format, battles_per_pair=n_battles, seed=seed, pairs=results)
    draws = draw_teams(len(teams), n_battles, seed)
    legs = [leg for result in results for leg in _legs(result, draws, n_battles)]
    legs_at_once = min(len(legs), concurrency, _LEGS_AT_ONCE)
    journal = None if out is None else _Journal(out)
    table = _Table(
        battle_format=battle_format,
        teams=teams,
        websocket_url=websocket_url,
        concurrency=concurrency // legs_at_once,
        timeout_s=timeout_s,
        journal=journal,
        on_battle=on_battle,
    )
    started = time.monotonic()
    try:
        await table.play_all(legs, legs_at_once)
    finally:
        evaluation.seconds = time.monotonic() - started
        if evaluation.battles < n_battles * len(pairs):
            evaluation.unfinished = str(table.failures[0]) if table.failures else "interrupted"
        if rated and evaluation.battles:
            evaluation.rate()
        if journal is not None:
            journal.finish(evaluation)
    if table.failures and not evaluation.battles:
        raise table.failures[0]
    return evaluation


async def play_match(
    build_player: Callable[..., Player],
    opponent: str,
    n_battles: int,
    *,
    battle_format: str,
    teams: Sequence[str],
    websocket_url: str,
    seed: int = 0,
    concurrency: int = 16,
    timeout_s: float = SILENCE_TIMEOUT_S,
) -> Tally:
    """`evaluate` for one player against one scripted opponent: the player's side of it.

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
        timeout_s=timeout_s,
    )
    if evaluation.unfinished is not None:
        raise ServerError(f"{evaluation.unfinished}; {evaluation.battles} of {n_battles} battles were played")
    return evaluation.pairs[0].players


@dataclass(frozen=True)
class _Leg:
    """The battles of a pair in one seating; draws[i] are the teams of the i-th, the first seat's first."""

    result: PairResult
    draws: list[tuple[int, int]]
    swapped: bool = False

    def teams(self, draw: int) -> tuple[int, int]:
        """The player's and the opponent's."""
        first, second = self.draws[draw]
        return (second, first) if self.swapped else (first, second)


def _legs(result: PairResult, draws: list[tuple[int, int]], n_battles: int) -> list[_Leg]:
    if isinstance(result.opponent, Outside):
        return [_Leg(result, [draw for draw in draws for _ in range(2)][:n_battles])]
    legs = [_Leg(result, draws), _Leg(result, draws[: n_battles // 2], swapped=True)]
    return [leg for leg in legs if leg.draws]


class _InOrder(Teambuilder):
    def __init__(self, teams: Iterable[str]) -> None:
        self._teams = iter(teams)

    def yield_team(self) -> str:
        return next(self._teams)


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Where legs are played and counted."""

    battle_format: str
    teams: Sequence[str]
    websocket_url: str
    concurrency: int
    timeout_s: float
    journal: "_Journal | None"
    on_battle: Callable[[], Any] | None
    failures: list[ServerError] = field(default_factory=list)

    async def play_all(self, legs: Sequence[_Leg], at_once: int) -> None:
        """After a failure, those that have begun are played to their end, and no other is begun."""
        gate = asyncio.Semaphore(at_once)

        async def play(leg: _Leg) -> None:
            async with gate:
                if not self.failures:
                    try:
                        await self._play(leg)
                    except ServerError as error:
                        self.failures.append(error)

        await asyncio.gather(*(play(leg) for leg in legs))

    async def _play(self, leg: _Leg) -> None:
        """Raises ServerError; what was played before is counted."""
        result, opponent = leg.result, leg.result.opponent
        draws = range(len(leg.draws))
        player_teams = [leg.teams(draw)[0] for draw in draws]
        if isinstance(opponent, Outside):
            player = self._join(result.player, player_teams, opponent.own_name)
            self._count(leg, player, None)
            try:
                await play_outside(player, opponent.name, len(draws), accept=opponent.accept, timeout_s=self.timeout_s)
            finally:
                await disconnect(player)
            return
        player, other = (
            self._join(result.player, player_teams),
            self._join(opponent, [leg.teams(draw)[1] for draw in draws]),
        )
        self._count(leg, player, ChoiceMeter(other))
        first, second = (other, player) if leg.swapped else (player, other)
        try:
            await play_pair(first, second, len(draws), timeout_s=self.timeout_s)
        finally:
            await disconnect(player, other)

    def _join(self, who: Contestant, teams: Iterable[int], name: str | None = None) -> Player:
        return who.build(
            **connection(
                name or user_name(who.name),
                battle_format=self.battle_format,
                websocket_url=self.websocket_url,
                team=_InOrder(self.teams[team] for team in teams),
                concurrency=self.concurrency,
            )
        )

    def _count(self, leg: _Leg, player: Player, others: ChoiceMeter | None) -> None:
        """From now on, the player's battles are counted when they end."""
        meter, finished = ChoiceMeter(player), player._battle_finished_callback

        def battle_finished(battle: AbstractBattle) -> None:
            finished(battle)
            tag = battle.battle_tag
            choices = meter.take(tag), others.take(tag) if others else Choices()
            won, lost = int(bool(battle.won)), int(bool(battle.lost))
            ends = {"ties": 1 - won - lost, "turns": battle.turn}
            leg.result.players.add(Tally(wins=won, losses=lost, choices=choices[0], **ends))
            leg.result.opponents.add(Tally(wins=lost, losses=won, choices=choices[1], **ends))
            if self.journal is not None:
                # battles are begun one after the other: the i-th of them has the i-th teams
                draw = list(player.battles).index(tag)
                self.journal.write(leg, draw, battle, choices)
            if self.on_battle is not None:
                self.on_battle()

        player._battle_finished_callback = battle_finished  # type: ignore[method-assign]


def require_free(folder: Path) -> None:
    """Raises ConfigError where the folder holds an evaluation already."""
    if (folder / BATTLES).exists() or (folder / RESULTS).exists():
        raise ConfigError(f"{folder} holds an evaluation already; name another folder, or remove it")


class _Journal:
    """The folder of an evaluation while it is written."""

    def __init__(self, folder: Path) -> None:
        require_free(folder)
        (folder / LOGS).mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def write(self, leg: _Leg, draw: int, battle: AbstractBattle, choices: tuple[Choices, Choices]) -> None:
        log = f"{LOGS}/{battle.battle_tag}.log"
        messages = "".join("|".join(message) + "\n" for message in battle._replay_data)
        (self._folder / log).write_text(messages, encoding="utf-8")
        teams = [*leg.teams(draw)]
        entry = {
            "battle": battle.battle_tag,
            "player": leg.result.player.name,
            "opponent": leg.result.opponent.name,
            "p1": "player" if battle.player_role == "p1" else "opponent",
            "result": "win" if battle.won else "loss" if battle.lost else "tie",
            "turns": battle.turn,
            "draw": draw,
            "teams": [teams[0], None] if isinstance(leg.result.opponent, Outside) else teams,
            "choices": [side.sent for side in choices],
            "refused": [side.refused for side in choices],
            "log": log,
        }
        with (self._folder / BATTLES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def finish(self, evaluation: Evaluation) -> None:
        with written_whole(self._folder / RESULTS) as staged:
            staged.write_text(json.dumps(evaluation.as_dict(), indent=1), encoding="utf-8")
