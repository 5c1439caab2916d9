"""Battles of contestants in an arena: played in rounds, so that a policy decides for many battles in one batch.

A round is: everything that can happen before somebody answers, then every answer that is awaited. What a round consists
of follows from the battles alone, not from the number of workers, nor from how fast they are. The battles in play form
two groups that take turns: while the policy decides for one of them, the other's messages are read. Scripted players
need no rounds: each of their battles goes on as soon as it can.
"""

import asyncio
import gc
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from poke_env.data import GenData
from poke_env.player import Player

from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.arena.arena import SEATS, Arena, News
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.arena_tables import Table, Teams, begin_battle, player_of
from gemma_metamon.showdown.players.contestants import Contestant

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A battle to be played.

    Attributes:
        number: no other battle of the run has it. All that is drawn in the battle follows from it and the run's seed.
        players: p1 and p2.
        teams: theirs, packed; None in formats that give out teams.
        views: the seats whose view is kept: that of the player whose battle this is, and its opponent's where that is
            kept, too. 0 is p1.
        recorders: of p1 and p2, where they are to be recorded.
    """

    number: int
    players: tuple[Contestant, Contestant]
    teams: Teams = (None, None)
    views: tuple[int, ...] = (0,)
    recorders: tuple[Recorder | None, Recorder | None] = (None, None)


def needs_rounds(players: Iterable[Contestant]) -> bool:
    """Whether a match of these is to be played in rounds: where a policy decides for several battles at once."""
    return not all(player.is_scripted for player in players)


@dataclass
class _Group:
    """Battles that are decided together. `asked`: seats that are choosing, and `answers`: what they will send."""

    size: int
    tables: dict[str, tuple[Plan, Table]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    answers: "asyncio.Future[list[str]] | None" = None


@dataclass
class ArenaMatch:
    """Plays planned battles in an arena.

    Attributes:
        arena: whose battles are all this match's.
        battle_format: e.g. "gen1ou".
        seed: of the run.
        in_play: battles at a time.
        on_end: called after each battle that was played to its end.
        in_rounds: whether it is to be played in rounds; otherwise only players may play that decide on their own, and
            the order of the ends is nobody's promise.
        n_groups: of battles, at most, that take turns in rounds.
    """

    arena: Arena
    battle_format: str
    seed: int
    in_play: int
    on_end: Callable[[Plan, Table], None]
    in_rounds: bool = True
    n_groups: int = 2
    _groups: list[_Group] = field(default_factory=list)
    _begun_again: set[str] = field(default_factory=set)
    _players: dict[tuple[str, str], Player] = field(default_factory=dict)

    async def play(self, plans: Iterable[Plan]) -> None:
        """Plays them all, but for those of somebody who has `ended` before they could begin.

        The battles of a worker that has ended begin again, and go as they did: of scripted players to the last bit, of
        agents but for how a sum is rounded in a batch of another composition.

        Raises ServerError where the simulator refuses a format or a team (in its words), a battle is lost with its
        worker for the second time, a player fails, or everything it can choose is refused. The battles in play are then
        dropped.
        """
        waiting = iter(plans)
        GenData.from_format(self.battle_format)
        n_groups = min(self.n_groups, self.in_play) if self.in_rounds else 1
        self._groups = [_Group((self.in_play + i) // n_groups) for i in range(n_groups)]
        with _rare_garbage_collection():
            try:
                await self._play_in_turn(waiting)
            finally:
                await self._leave()

    def given_up(self, tag: str) -> str | None:
        """Why poke-env cannot follow a battle in play, for either seat; None of all others."""
        _, table = next(group.tables[tag] for group in self._groups if tag in group.tables)
        return next((seat.given_up for seat in table if seat.given_up is not None), None)

    async def _play_in_turn(self, waiting: Iterator[Plan]) -> None:
        for group in itertools.cycle(self._groups):
            await self._send_answers(group)
            self._begin(group, waiting)
            if group.tables:
                news = self.arena.settle(group.tables) if self.in_rounds else self.arena.receive()
                if not news:
                    raise ServerError(f"nobody is asked anything in {', '.join(group.tables)}")
                self._read(group, news)
                self._ask(group)
            elif not any(each.tables for each in self._groups):
                return

    def _begin(self, group: _Group, waiting: Iterator[Plan]) -> None:
        while len(group.tables) < group.size and (plan := next(waiting, None)) is not None:
            if all(who.ended is None for who in plan.players):
                self._start(group, plan)

    def _start(self, group: _Group, plan: Plan) -> None:
        tag = f"battle-{self.battle_format}-{plan.number}"
        p1, p2 = (self._player(who, seat) for who, seat in zip(plan.players, SEATS, strict=True))
        group.tables[tag] = (
            plan,
            begin_battle(
                self.arena,
                tag,
                battle_format=self.battle_format,
                seed=self.seed,
                number=plan.number,
                players=(p1, p2),
                teams=plan.teams,
                recorders=plan.recorders,
            ),
        )

    def _lose(self, group: _Group, news: News) -> None:
        """Begins a battle again that was lost with its worker, once."""
        if not news.worker_lost:
            raise ServerError(str(news.lost))
        if news.battle in self._begun_again:
            mend = "give a larger --timeout_s" if news.silent else "it may be that this machine has too little memory"
            raise ServerError(f"{news.lost}, for the second time; {mend}")
        logger.warning("%s; it begins again", news.lost)
        self._begun_again.add(news.battle)
        plan, table = group.tables[news.battle]
        for seat in table:
            seat.abandon()
        self._start(group, plan)

    def _player(self, who: Contestant, seat: str) -> Player:
        if (who.name, seat) not in self._players:
            self._players[who.name, seat] = player_of(who, seat, self.battle_format)
        return self._players[who.name, seat]

    def _read(self, group: _Group, news: list[News]) -> None:
        in_order = sorted(news, key=lambda each: group.tables[each.battle][0].number)  # a battle's own stay in order
        for each in in_order:
            if each.lost is not None:
                self._lose(group, each)
                continue
            _, table = group.tables[each.battle]
            for name, seat in zip(SEATS, table, strict=True):
                seat.read(each.told.get(name, ()))
        for each in in_order:
            if each.ended is None:
                continue
            plan, table = group.tables[each.battle]
            for seat in table:
                seat.end()
            del group.tables[each.battle]
            self.on_end(plan, table)

    def _ask(self, group: _Group) -> None:
        """Lets all seats choose that are asked; they begin when this task next waits for something."""
        asked = [
            (tag, name, seat)
            for tag, (_, table) in sorted(group.tables.items(), key=lambda item: item[1][0].number)
            for name, seat in zip(SEATS, table, strict=True)
            if seat.is_asked
        ]
        group.asked = [(tag, name) for tag, name, _ in asked]
        group.answers = asyncio.gather(*(seat.answer() for _, _, seat in asked)) if asked else None

    async def _send_answers(self, group: _Group) -> None:
        if group.answers is None:
            return
        answers, group.answers = await group.answers, None
        for (tag, name), message in zip(group.asked, answers, strict=True):
            self.arena.send(tag, name, message)

    async def _leave(self) -> None:
        """Whatever happened: nobody chooses any more, and nothing is in play."""
        choosing = [group.answers for group in self._groups if group.answers is not None]
        for each in choosing:
            each.cancel()
        await asyncio.gather(*choosing, return_exceptions=True)
        for group in self._groups:
            for tag in group.tables:
                self.arena.drop(tag)
        self._groups.clear()


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """What poke-env knows is a quarter of a million objects, and looking through them again and again takes long."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
