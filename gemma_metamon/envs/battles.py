"""The battles of an environment: each goes on until the environment is to decide in it, and waits there."""

import asyncio
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from poke_env.player import Player

from gemma_metamon.envs.event_loop import EventLoop
from gemma_metamon.envs.opponents import FoundOpponent
from gemma_metamon.envs.sides import OrderedPlayer, Side, Taken
from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.showdown.arena.arena import SEATS, Arena, Ending, News
from gemma_metamon.showdown.arena.seeds import dice
from gemma_metamon.showdown.live.recording import MAX_TURNS
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat
from gemma_metamon.showdown.matches.arena_tables import begin_battle, draw_pair, player_of
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.simulator.formats import find_teams
from gemma_metamon.view import BattleView

logger = logging.getLogger(__name__)
_ALL = 1 << 30  # news: until no more can come


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is played, and what of it is shown.

    Attributes:
        battle_format: a singles format.
        teams: packed, of which each battle draws two; none in formats that give out teams.
        view: what a side is shown, may do and is paid.
        max_turns: battles that get past this turn are cut short.
        workers: Node processes.
        replace_illegal: whether a legal action is played in place of an illegal one; otherwise it is an error.
    """

    battle_format: str
    teams: Sequence[str]
    view: BattleView
    max_turns: int
    workers: int
    replace_illegal: bool

    @classmethod
    def find(
        cls,
        battle_format: str,
        *,
        team_dir: Path | str | None = None,
        view: BattleView | None = None,
        max_turns: int = MAX_TURNS,
        workers: int = 1,
        illegal_action: str = "replace",
    ) -> "Rules":
        """Looks everything up; nothing is started.

        Args:
            battle_format: its id or name.
            team_dir: of the teams to draw from, as `--team_dir` has them; None takes the packaged ones.
            view: None is `BattleView.default()`.
            max_turns: see `Rules`.
            workers: see `Rules`.
            illegal_action: "replace" or "raise".

        Raises:
            ConfigError: an unknown format or one that is no singles, or a value that cannot be.
            DataError, MissingFileError: as `load_teams`.
            MissingDependencyError, ServerError: without Node.js, or where the simulator cannot be installed.
        """
        if illegal_action not in ("replace", "raise"):
            raise ConfigError(f"illegal_action is {illegal_action!r}; choose 'replace' or 'raise'")
        for name, value in (("max_turns", max_turns), ("workers", workers)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; give 1 or more")
        found, teams = find_teams(battle_format, None if team_dir is None else Path(team_dir))
        return cls(
            battle_format=found,
            teams=teams,
            view=BattleView.default() if view is None else view,
            max_turns=max_turns,
            workers=workers,
            replace_illegal=illegal_action == "replace",
        )


@dataclass
class EnvBattle:
    """A battle of an environment.

    Attributes:
        slot: its place among the battles of the environment.
        seed: of a sequence of battles.
        number: in that sequence.
        seats: by "p1" and "p2".
        sides: those of them that the environment decides for.
        ended: how it ended.
        cut_short: why it is not played to its end.
        is_begun_again: whether its first beginning was lost with its worker.
    """

    slot: int
    seed: int
    number: int
    seats: dict[str, ArenaSeat]
    sides: dict[str, Side]
    ended: Ending | None = None
    cut_short: str | None = None
    is_begun_again: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be decided."""
        return self.ended is not None or self.cut_short is not None

    @property
    def is_truncated(self) -> bool:
        """Whether it is cut short."""
        return self.cut_short is not None

    @property
    def is_terminated(self) -> bool:
        """Whether it was played to its end."""
        return self.is_over and not self.is_truncated

    @property
    def waits(self) -> bool:
        """Whether it stands still until the environment decides, or for ever."""
        return self.is_over or any(side.is_asked for side in self.sides.values())


@dataclass(frozen=True)
class _Running:
    """What an environment has started. Calling `end` ends it, as does the end of the environment or of the program."""

    arena: Arena
    loop: EventLoop
    end: Callable[[], object]


class EnvBattles:
    """Battles in slots, one in each, all in one arena.

    What a battle is follows from its seed and number, and what is decided in it: not from its slot, what is played
    beside it, or the number of workers. The arena is started with the first battle and ended by `close`, or with this
    object.

    Args:
        slots: how many battles are played at a time.
        rules: what is played.
        opponent: p2; None where the environment decides for both sides.
    """

    def __init__(self, slots: int, rules: Rules, opponent: FoundOpponent | None) -> None:
        self.rules = rules
        self._slots = slots
        self._opponent = opponent
        self._battles: dict[str, EnvBattle] = {}  # in play, by their tags
        self._begun = 0
        self._running: _Running | None = None
        self._ordered: dict[str, OrderedPlayer] = {}
        self._players: dict[str, Player] = {}

    def begin(self, slot: int, seed: int, number: int) -> EnvBattle:
        """A new battle in a slot; `advance` brings it to its first decision. One that is in play there is dropped."""
        for tag, battle in list(self._battles.items()):
            if battle.slot == slot:
                self._drop(tag)
        if self._running is None:
            self._start()
        new = EnvBattle(slot, int(seed), number, {}, {})  # a number of NumPy's would give other seeds
        self._seat(new)
        return new

    def take(self, chosen: Mapping[Side, int]) -> dict[Side, Taken]:
        """Decides for sides that are asked; `advance` plays on.

        Raises ConfigError for an illegal action where the rules do not replace it; then nothing is decided.
        """
        for side, action in chosen.items():
            if not self.rules.replace_illegal and not side.is_legal(action):
                legal = ", ".join(map(str, np.flatnonzero(side.legal)))
                raise ConfigError(f"action {action} is illegal at this decision; legal: {legal}")
        return {side: side.take(action) for side, action in chosen.items()}

    def advance(self) -> None:
        """Plays on, until every battle waits for the environment or is over.

        Raises ServerError where the simulator refuses the format or a team (in its words), a player fails, a battle
        stands still, or one cannot be followed to its first decision.
        """
        if self._running is None:
            return
        while not all(battle.waits for battle in self._battles.values()):
            self._running.loop.run(self._answer())
            received = self._running.arena.receive(at_least=_ALL)
            if not received:
                raise ServerError(f"nobody is asked anything in {', '.join(self._battles)}; reset the environment")
            for news in received:
                self._read(news)
            for tag, battle in list(self._battles.items()):
                self._look_after(tag, battle)

    def close(self) -> None:
        """Ends all battles and the arena's processes."""
        if self._running is not None:
            self._running.end()
            self._running = None
        self._battles.clear()
        self._ordered.clear()
        self._players.clear()

    def _start(self) -> None:
        opponent = None if self._opponent is None else self._opponent.contestant(self._slots)
        loop = EventLoop()
        try:
            arena = Arena(self.rules.workers)
        except BaseException:
            loop.close()
            raise
        self._running = _Running(arena, loop, weakref.finalize(self, _end, arena, loop))
        agent = Contestant("Agent", OrderedPlayer)
        for name, who in zip(SEATS, (agent, opponent or agent), strict=True):
            player = self._players[name] = player_of(who, name, self.rules.battle_format, loop=loop.loop)
            if isinstance(player, OrderedPlayer):
                self._ordered[name] = player

    def _seat(self, battle: EnvBattle) -> None:
        """Sits the players down at a new battle, or at one that begins again."""
        rules, seed, number = self.rules, battle.seed, battle.number
        self._begun += 1
        tag = f"battle-{rules.battle_format}-{self._begun}"
        p1, p2 = self._players.values()
        table = begin_battle(
            self._arena,
            tag,
            battle_format=rules.battle_format,
            seed=seed,
            number=number,
            players=(p1, p2),
            teams=draw_pair(rules.teams, seed, number),
        )
        battle.seats = dict(zip(SEATS, table, strict=True))
        battle.sides = {
            name: Side(battle.seats[name], player, rules.view, dice(seed, number, "in place of illegal actions", name))
            for name, player in self._ordered.items()
        }
        self._battles[tag] = battle

    @property
    def _arena(self) -> Arena:
        if self._running is None:
            raise ServerError("the environment is closed; make another one")
        return self._running.arena

    def _read(self, news: News) -> None:
        battle = self._battles[news.battle]
        for name, messages in news.told.items():
            battle.seats[name].read(messages)
        if news.lost is not None:
            self._lose(news, battle)
        elif news.ended is not None:
            battle.ended = news.ended
            for seat in battle.seats.values():
                seat.end()
            del self._battles[news.battle]
            battle.cut_short = _given_up(battle)

    def _lose(self, news: News, battle: EnvBattle) -> None:
        """A battle that has begun is over for its side; one that has not begins again once, and goes as it would."""
        del self._battles[news.battle]
        _abandon(battle)
        if any(side.state is not None for side in battle.sides.values()):
            logger.warning("%s; its episode is cut short", news.lost)
            battle.cut_short = news.lost
        elif news.worker_lost and not battle.is_begun_again:
            battle.is_begun_again = True
            self._seat(battle)
        else:
            raise ServerError(str(news.lost))

    def _look_after(self, tag: str, battle: EnvBattle) -> None:
        """Cuts a battle short that cannot be followed, or has gone on for too long."""
        why = _given_up(battle)
        turn = max(seat.battle.turn for seat in battle.seats.values())
        if why is None and turn > self.rules.max_turns:
            why = f"turn {turn} is past max_turns = {self.rules.max_turns}"
        if why is not None:
            battle.cut_short = why
            self._drop(tag)

    def _drop(self, tag: str) -> None:
        self._arena.drop(tag)
        _abandon(self._battles.pop(tag))

    async def _answer(self) -> None:
        """Everybody who is asked answers, in battles that do not wait for the environment: its sides as it chose.

        So an opponent's answer to the same request is made in the same batch, and goes out with it.
        """
        asked = [
            (tag, name, battle.sides.get(name, seat))
            for tag, battle in sorted(self._battles.items(), key=lambda item: item[1].slot)
            for name, seat in battle.seats.items()
            if seat.is_asked and not battle.waits
        ]
        answers = await asyncio.gather(*(who.answer() for _, _, who in asked))
        for (tag, name, _), message in zip(asked, answers, strict=True):
            self._arena.send(tag, name, message)


def _end(arena: Arena, loop: EventLoop) -> None:
    arena.close()
    loop.close()


def _abandon(battle: EnvBattle) -> None:
    """Nobody plays it on."""
    for seat in battle.seats.values():
        seat.abandon()
    for side in battle.sides.values():
        side.is_over = True


def _given_up(battle: EnvBattle) -> str | None:
    """Why poke-env cannot follow it, in words; None of a battle that it can."""
    why = next((seat.given_up for seat in battle.seats.values() if seat.given_up is not None), None)
    return None if why is None else f"poke-env cannot follow the battle: {why}"
