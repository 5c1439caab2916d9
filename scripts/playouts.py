"""Battles in which a teacher is asked beside the agent; and what comes of a decision, by playing it out many times.

A battle is kept as its seeds and choices, so that it can be led back to any of its decisions and forked there, with the
true teams: this looks back at who was right, and is nothing that a player may know.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from poke_env.battle import Battle, Move, MoveCategory, Pokemon
from poke_env.player import BattleOrder, Player, SingleBattleOrder

from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.errors import ServerError
from gemma_metamon.explain.follow import action_name
from gemma_metamon.showdown.arena.arena import SEATS, Arena, Ending, News
from gemma_metamon.showdown.arena.hidden import TRUTH
from gemma_metamon.showdown.arena.seeds import dice, simulator_seed
from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.live.orders import as_sent, order_to_action
from gemma_metamon.showdown.live.poke_env_hooks import freeze_battle, intercept_choices, thaw_battle
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat
from gemma_metamon.showdown.matches.arena_tables import Table, begin_battle, draw_pair, player_of
from gemma_metamon.showdown.players.contestants import Contestant

_ALL = 1 << 30  # news: until no more can come


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What somebody chooses.

    Attributes:
        action: its number; -1 of what is none of the legal actions.
        name: "Thunderbolt", "switch to Alakazam".
        kind: "attack", "status move", "switch", "replacement" of a Pokémon that has fainted, or "other".
        message: what is sent for it.
    """

    action: int
    name: str
    kind: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One of the agent's: the battle's turn, the legal actions, what it did and what its teacher would have done."""

    turn: int
    legal: list[int]
    agent: Choice
    teacher: Choice

    @property
    def is_free(self) -> bool:
        """Whether there was anything to choose."""
        return len(self.legal) > 1

    @property
    def differs(self) -> bool:
        """Whether the teacher would have done something else."""
        return self.is_free and self.agent.message != self.teacher.message


@dataclass(frozen=True, kw_only=True)
class PlayedBattle:
    """A battle of the agent's.

    Attributes:
        number: of it in the run.
        seat: the agent's, "p1" or "p2".
        won: 1, 0, or 0.5 of a tie.
        inputs: all that the simulator was told.
        decisions: the agent's, but for team preview.
    """

    number: int
    seat: str
    won: float
    inputs: list[str]
    decisions: list[Decision]

    def inputs_before(self, decision: int) -> list[str]:
        """The inputs up to the agent's decision of this number, from 0: what it chose there is not among them."""
        own = [
            i
            for i, line in enumerate(self.inputs)
            if line.startswith(f">{self.seat} ") and not line.startswith(f">{self.seat} team ")
        ]
        return self.inputs[: own[decision]]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is played: the format, packed teams to draw from, the run's seed, battles at a time, the last turn."""

    battle_format: str
    teams: Sequence[str]
    seed: int
    in_play: int
    max_turns: int


async def play_to_end(arena: Arena, tables: Mapping[str, Table], *, max_turns: int) -> dict[str, Ending | None]:
    """Plays battles that have begun; gives how each ended, None of one that was dropped after `max_turns`.

    Args:
        arena: in which they were begun; other battles in it are not asked anything meanwhile.
        tables: both seats of each, by the battle's name.
        max_turns: how many turns a battle may take.
    """
    endings: dict[str, Ending | None] = {}
    while len(endings) < len(tables):
        # in rounds: an agent decides for all battles together, and on a busy machine every turn in which two processes
        # wait for each other takes its time
        news = arena.receive(at_least=_ALL)
        if not news:
            raise ServerError(f"nobody is asked anything in {', '.join(tables.keys() - endings.keys())}")
        asked: dict[tuple[str, str], ArenaSeat] = {}
        for each in news:
            if each.battle in endings:
                continue  # it was dropped, and more had come of it
            seats = dict(zip(SEATS, tables[each.battle], strict=True))
            if _goes_on(arena, each, seats, max_turns):
                asked |= {(each.battle, name): seat for name, seat in seats.items() if seat.is_asked}
            else:
                endings[each.battle] = each.ended
        answers = await asyncio.gather(*(seat.answer() for seat in asked.values()))
        for (battle, name), message in zip(asked, answers, strict=True):
            arena.send(battle, name, message)
    return endings


def _goes_on(arena: Arena, news: News, seats: Mapping[str, ArenaSeat], max_turns: int) -> bool:
    """Reads the news of a battle; False where that was its end, or where it is dropped now.

    Raises ServerError where it is lost.
    """
    if news.lost is not None:
        raise ServerError(news.lost)
    for name, seat in seats.items():
        seat.read(news.told.get(name, ()))
    if news.ended is not None:
        for seat in seats.values():
            seat.end()
        return False
    if all(seat.battle.turn <= max_turns and seat.given_up is None for seat in seats.values()):
        return True
    arena.drop(news.battle)
    for seat in seats.values():
        seat.abandon()
    return False


@dataclass
class AskedBeside:
    """The agent, with a teacher asked at each of its decisions, of whom nothing is sent.

    Attributes:
        agent: who plays.
        teacher: a scripted player.
        decisions: by the battle's name.
    """

    agent: Contestant
    teacher: Contestant
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    _asked_at: dict[str, int] = field(default_factory=dict)

    def contestant(self) -> Contestant:
        """Under the agent's name."""
        return Contestant(self.agent.name, self._build, self.agent.policy)

    def _build(self, **options: Any) -> Player:
        player, teacher = self.agent.build(**options), self.teacher.build(**options)

        def choose(battle: Any, ask: Callable[[Any], Any]) -> Any:
            return self._note(live_battle(battle), teacher.choose_move(battle), ask(battle))

        intercept_choices(player, choose)
        return player

    async def _note(self, live: LiveBattle, advised: Any, chosen: Any) -> BattleOrder:
        order: BattleOrder = await chosen if inspect.isawaitable(chosen) else chosen
        decisions = self.decisions.setdefault(live.battle.battle_tag, [])
        if self._asked_at.get(live.battle.battle_tag) == live.n_messages:
            decisions.pop()  # its last choice was refused: this is the same decision again
        self._asked_at[live.battle.battle_tag] = live.n_messages
        agent, teacher = (choice_of(each, live) for each in (order, advised))
        decisions.append(Decision(turn=live.battle.turn, legal=list(live.options), agent=agent, teacher=teacher))
        return order


def choice_of(order: BattleOrder, live: LiveBattle) -> Choice:
    """An order as a choice among the battle's options."""
    message = as_sent(order, live.battle).message
    action = order_to_action(as_sent(order, live.battle), live.options)
    if action < 0:
        return Choice(action=action, name=message, kind="other", message=message)
    kind = kind_of(live.options[action], live.battle)
    return Choice(action=action, name=action_name(action, live.state), kind=kind, message=message)


def kind_of(order: BattleOrder, battle: Battle) -> str:
    """See `Choice.kind`."""
    named = order.order if isinstance(order, SingleBattleOrder) else None
    if isinstance(named, Pokemon):
        return "replacement" if battle.force_switch else "switch"
    if isinstance(named, Move):
        return "status move" if named.category == MoveCategory.STATUS else "attack"
    return "other"


async def play_beside(
    arena: Arena, rules: Rules, agent: Contestant, opponent: Contestant, teacher: Contestant, numbers: Sequence[int]
) -> list[tuple[PlayedBattle, RecordedBattle]]:
    """Plays battles of these numbers with a teacher beside the agent, and records the agent's view of them.

    Each pair of teams is played twice, the players exchanged. Without those that poke-env could not follow or that took
    too many turns.

    Args:
        arena: with nothing in play.
        rules: what is played.
        agent: in one seat.
        opponent: in the other.
        teacher: a scripted player.
        numbers: all are in play at a time.
    """
    beside = AskedBeside(agent, teacher)
    records: dict[str, RecordedBattle | None] = {}
    tables: dict[str, Table] = {}
    in_seats = [_players((beside.contestant(), opponent), seat, rules) for seat in SEATS]
    for number in numbers:
        tag = f"battle-{rules.battle_format}-{number}"
        recorder = Recorder(lambda battle, record: records.__setitem__(battle.battle_tag, record))
        tables[tag] = begin_battle(
            arena,
            tag,
            battle_format=rules.battle_format,
            seed=rules.seed,
            number=number,
            players=in_seats[number % 2],
            teams=draw_pair(rules.teams, rules.seed, number // 2),
            recorders=(None, recorder) if number % 2 else (recorder, None),
        )
    endings = await play_to_end(arena, tables, max_turns=rules.max_turns)
    played = []
    for number, tag in zip(numbers, tables, strict=True):
        ending, record, seat = endings[tag], records.get(tag), SEATS[number % 2]
        if ending is not None and record is not None:
            inputs, decisions = list(ending.inputs), beside.decisions[tag]
            won = share_won(ending, seat)
            battle = PlayedBattle(number=number, seat=seat, won=won, inputs=inputs, decisions=decisions)
            played.append((battle, record))
    return played


def _players(who: tuple[Contestant, Contestant], first_seat: str, rules: Rules) -> tuple[Player, Player]:
    """p1's and p2's, the first of the two in that seat."""
    p1, p2 = who if first_seat == SEATS[0] else who[::-1]
    return player_of(p1, SEATS[0], rules.battle_format), player_of(p2, SEATS[1], rules.battle_format)


def share_won(ending: Ending | None, seat: str) -> float:
    """1 of a battle that the seat won, 0 of one that it lost, 0.5 of one that nobody won."""
    if ending is None or ending.winner is None:
        return 0.5
    return float(ending.winner == seat)


class Playouts:
    """Plays decisions of the agent's out: the choice that is given, then the teacher in the agent's seat.

    In the other seat plays the opponent, from its answer to this very decision on. So the share won is the value of the
    choice for whoever goes on as the teacher does, and the differences to the teacher's own choices, summed over all
    decisions of a battle, are on average what the agent wins more or less than the teacher (the performance difference
    lemma; Kakade and Langford 2002).

    Args:
        arena: with nothing in play.
        rules: what is played.
        agent: its label alone: its seat keeps its name.
        opponent: a scripted player, for its moves and its name.
        teacher: a scripted player.
    """

    def __init__(self, arena: Arena, rules: Rules, agent: Contestant, opponent: Contestant, teacher: Contestant):
        self._arena, self._rules = arena, rules
        self._first: dict[str, str] = {}  # battle -> what is sent in it first
        stand_in = Contestant(agent.name, lambda **options: self._obedient(teacher.build(**options)))
        self._players = {seat: _players((stand_in, opponent), seat, rules) for seat in SEATS}

    async def rate(
        self, battle: PlayedBattle, decision: int, messages: Sequence[str], n: int, *, dice_for: str
    ) -> list[list[float]]:
        """For each message a list of n: `share_won` by the agent's seat. The i-th of all have the same dice.

        Args:
            battle: the agent's.
            decision: which of its decisions, from 0.
            messages: what may be sent there.
            n: how often each is played out.
            dice_for: another word gives other dice.
        """
        source = f"battle-{self._rules.battle_format}-{battle.number}"
        self._arena.replay(source, battle.inputs_before(decision))
        seats = self._seats(source, battle.seat, (0,))
        for news in self._arena.receive(at_least=_ALL):
            for name, told in news.told.items():
                seats[name].read(told)
        frozen = {name: freeze_battle(seat.battle) for name, seat in seats.items()}
        if source not in self._arena.battles:
            raise ServerError(f"{source} ends before decision {decision}: its inputs do not belong to this simulator")
        shares: list[list[float]] = [[] for _ in messages]
        seeds = (battle.number, decision, dice_for)
        at_once = max(1, self._rules.in_play // len(messages))
        try:
            for first in range(0, n, at_once):
                numbers = range(first, min(n, first + at_once))
                forks = {f"{source}-{i}-{j}": (i, j, message) for i in numbers for j, message in enumerate(messages)}
                tables = {
                    tag: self._fork(source, tag, battle.seat, frozen, message, (*seeds, i))
                    for tag, (i, _, message) in forks.items()
                }
                endings = await play_to_end(self._arena, tables, max_turns=self._rules.max_turns)
                for tag, (_, j, _) in forks.items():
                    shares[j].append(share_won(endings[tag], battle.seat))
        finally:
            self._arena.drop(source)
            self._arena.receive(at_least=_ALL)
        return shares

    def _fork(
        self,
        source: str,
        tag: str,
        seat: str,
        frozen: Mapping[str, bytes],
        message: str,
        seeds: tuple[int | str, ...],
    ) -> Table:
        self._first[tag] = message
        seed = simulator_seed(self._rules.seed, *seeds, "fork")
        self._arena.fork(source, tag, seat=seat, seed=seed, hidden=TRUTH)
        seats = self._seats(tag, seat, seeds, frozen)
        return seats[SEATS[0]], seats[SEATS[1]]

    def _seats(
        self, tag: str, seat: str, seeds: tuple[int | str, ...], frozen: Mapping[str, bytes] | None = None
    ) -> dict[str, ArenaSeat]:
        """Of a battle in which the agent's seat is that one: they have read what is frozen, or nothing."""
        return {
            name: ArenaSeat(
                tag,
                player,
                dice(self._rules.seed, *seeds, name),
                battle=None if frozen is None else thaw_battle(frozen[name], tag),
            )
            for name, player in zip(SEATS, self._players[seat], strict=True)
        }

    def _obedient(self, teacher: Player) -> Player:
        """Sends what it is told to first, in each battle."""

        def choose(battle: Any, ask: Callable[[Any], Any]) -> Any:
            message = self._first.pop(battle.battle_tag, None)
            return ask(battle) if message is None else SingleBattleOrder(message)

        intercept_choices(teacher, choose)
        return teacher
