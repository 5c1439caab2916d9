"""The battles of pairs of contestants: who is p1, who has which team; several pairs play at a time.

A seating says which of two contestants has the simulator's first seat (p1), and with which teams they play.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from poke_env.battle import AbstractBattle
from poke_env.player import Player
from poke_env.teambuilder import Teambuilder

from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.showdown.live.door import given_up
from gemma_metamon.showdown.live.poke_env_hooks import FinishBattle, intercept_battle_end, messages_read
from gemma_metamon.showdown.matches.tallies import ChoiceMeter, Choices, Tally
from gemma_metamon.showdown.matches.watching import disconnect, play_outside, play_pair
from gemma_metamon.showdown.players.contestants import Contestant, Outside
from gemma_metamon.showdown.players.registry import connection, user_name


@dataclass(kw_only=True)
class PairResult:
    """The battles of two contestants, counted from both sides. Raises ConfigError where both have the same name."""

    player: Contestant
    opponent: Contestant | Outside
    players: Tally = field(default_factory=Tally)
    opponents: Tally = field(default_factory=Tally)
    set_aside: Counter[str] = field(default_factory=Counter)
    """Why battles are not counted, and how many: poke-env could not follow them."""

    def __post_init__(self) -> None:
        if self.player.name == self.opponent.name:
            raise ConfigError(f"{self.player.name} would meet itself; name somebody else as its opponent")


def draw_teams(n_teams: int, n_battles: int, seed: int) -> list[tuple[int, int]]:
    """Random pairs of teams, as positions: for every two battles, the team of p1 and the team of p2.

    All pairs of contestants play with the same ones. Each seat gets every team equally often, give or take one:
    otherwise the win rates would depend on which teams the seed prefers. Without teams, for formats that give them
    out, every pair is (0, 0).
    """
    if not n_teams:
        return [(0, 0)] * ((n_battles + 1) // 2)
    rng = random.Random(seed)

    def deck() -> Iterator[int]:
        while True:
            yield from rng.sample(range(n_teams), n_teams)

    return list(islice(zip(deck(), deck(), strict=True), (n_battles + 1) // 2))


@dataclass(frozen=True)
class Seating:
    """Battles of a pair of contestants who keep their seats.

    Attributes:
        result: where the battles are counted.
        draws: for each battle the team of p1 and the team of p2, as positions.
        swapped: whether the opponent is p1.
    """

    result: PairResult
    draws: list[tuple[int, int]]
    swapped: bool = False

    def teams(self, draw: int) -> tuple[int, int]:
        """The teams of a battle, by its position in `draws`: the player's and the opponent's."""
        first, second = self.draws[draw]
        return (second, first) if self.swapped else (first, second)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is counted and written down of a battle that has ended, as the player saw it.

    Attributes:
        tag: "battle-gen1ou-12".
        seat: the player's, "p1" or "p2".
        result: "win", "loss" or "tie", of the player.
        turns: the last turn.
        log: the simulator's messages to the player, one a line.
        choices: the player's and the opponent's.
        given_up: why poke-env could not follow the battle; None of all others.
    """

    tag: str
    seat: str | None
    result: Literal["win", "loss", "tie"]
    turns: int
    log: str
    choices: tuple[Choices, Choices]
    given_up: str | None

    @classmethod
    def of(cls, battle: AbstractBattle, choices: tuple[Choices, Choices], given_up: str | None) -> "Outcome":
        """Of the player's battle."""
        return cls(
            tag=battle.battle_tag,
            seat=battle.player_role,
            result="win" if battle.won else "loss" if battle.lost else "tie",
            turns=battle.turn,
            log="".join("|".join(message) + "\n" for message in messages_read(battle)),
            choices=choices,
            given_up=given_up,
        )


@dataclass(frozen=True)
class Ended:
    """A battle that has ended: its position in the draws of its seating, and how it went."""

    seating: Seating
    draw: int
    outcome: Outcome


def seatings_of(result: PairResult, draws: list[tuple[int, int]], n_battles: int) -> list[Seating]:
    """Both seatings of a pair. With an odd number of battles the last pair of teams is played in the first one only."""
    if isinstance(result.opponent, Outside):
        return [Seating(result, [draw for draw in draws for _ in range(2)][:n_battles])]
    seatings = [Seating(result, draws), Seating(result, draws[: n_battles // 2], swapped=True)]
    return [seating for seating in seatings if seating.draws]


class _InOrder(Teambuilder):
    def __init__(self, teams: Iterable[str]) -> None:
        self._teams = iter(teams)

    def yield_team(self) -> str:
        return next(self._teams)


@dataclass(frozen=True)
class SeatingCounter:
    """Counts the battles of seatings where they belong.

    Attributes:
        on_battle: called after each battle that counts.
        on_set_aside: called after each battle that does not count, because poke-env could not follow it.
    """

    on_battle: Callable[[Ended], None]
    on_set_aside: Callable[[], None]

    def count(self, ended: Ended) -> None:
        """Where the battle belongs."""
        result, outcome = ended.seating.result, ended.outcome
        if outcome.given_up is not None:
            result.set_aside[outcome.given_up] += 1
            self.on_set_aside()
            return
        won, lost = int(outcome.result == "win"), int(outcome.result == "loss")
        ends = {"ties": 1 - won - lost, "turns": outcome.turns}
        mine, theirs = outcome.choices
        result.players.add(Tally(wins=won, losses=lost, choices=mine, **ends))
        result.opponents.add(Tally(wins=lost, losses=won, choices=theirs, **ends))
        self.on_battle(ended)


@dataclass(frozen=True, kw_only=True)
class SeatingRunner:
    """Plays seatings on a server.

    Attributes:
        battle_format: e.g. "gen1ou".
        teams: packed; `Seating.draws` are positions among them. Empty for a format that gives out teams.
        websocket_url: of the server.
        concurrency: battles of one seating at a time.
        timeout_s: silence of the server after which a seating is given up.
        counter: counts what ends.
        failures: why seatings were given up.
    """

    battle_format: str
    teams: Sequence[str]
    websocket_url: str
    concurrency: int
    timeout_s: float
    counter: SeatingCounter
    failures: list[ServerError] = field(default_factory=list)

    async def play_all(self, seatings: Sequence[Seating], at_once: int) -> None:
        """Plays the seatings, at most `at_once` at a time. After a failure no other is begun."""
        gate = asyncio.Semaphore(at_once)

        async def play(seating: Seating) -> None:
            async with gate:
                if not self.failures:
                    try:
                        await self._play(seating)
                    except ServerError as error:
                        self.failures.append(error)

        await asyncio.gather(*(play(seating) for seating in seatings))

    async def _play(self, seating: Seating) -> None:
        """Raises ServerError as `play_pair`; battles that ended before it are counted."""
        result, opponent = seating.result, seating.result.opponent
        draws = range(len(seating.draws))
        player_teams = [seating.teams(draw)[0] for draw in draws]
        if isinstance(opponent, Outside):
            player = self._join(result.player, player_teams, opponent.own_name)
            self._count(seating, player, None, None)
            try:
                await play_outside(player, opponent.name, len(draws), accept=opponent.accept, timeout_s=self.timeout_s)
            finally:
                await disconnect(player)
            return
        player = self._join(result.player, player_teams)
        other = self._join(opponent, [seating.teams(draw)[1] for draw in draws])
        self._count(seating, player, other, ChoiceMeter(other))
        first, second = (other, player) if seating.swapped else (player, other)
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
                team=_InOrder(self.teams[team] for team in teams) if self.teams else None,
                concurrency=self.concurrency,
            ),
            start_listening=False,  # until it is watched: a refused name is told at once
        )

    def _count(self, seating: Seating, player: Player, other: Player | None, others: ChoiceMeter | None) -> None:
        """From now on, the player's battles are counted when they end."""
        meter = ChoiceMeter(player)

        def count(battle: AbstractBattle, finish: FinishBattle) -> None:
            finish(battle)
            tag = battle.battle_tag
            choices = meter.take(tag), others.take(tag) if others else Choices()
            reason = given_up(player, tag) or (given_up(other, tag) if other is not None else None)
            # battles are begun one after the other: the i-th of them has the i-th teams
            draw = list(player.battles).index(tag)
            self.counter.count(Ended(seating, draw, Outcome.of(battle, choices, reason)))

        intercept_battle_end(player, count)
