"""Any player's battles as recorded ones: the state before each choice, the choice, and the state at the end."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from poke_env.battle import Battle
from poke_env.player import BattleOrder, ForfeitBattleOrder

from gemma_metamon.battle.replays import MISSING_ACTION, RecordedBattle
from gemma_metamon.battle.state import BattleState
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.live.orders import Options, order_to_action

MAX_TURNS = 1000
"""The server itself ends a battle, as a tie, at this turn."""

Label: TypeAlias = Callable[[LiveBattle], Awaitable[int]]
"""Gives the action (0 to 12, -1 for none) that an expert would choose in a battle as it stands."""


@dataclass
class _Recording:
    states: list[BattleState] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    thoughts: list[str | None] = field(default_factory=list)
    at: tuple[LiveBattle, int] | None = None  # the battle, and how many messages it had read, at the last request
    options: Options = field(default_factory=dict)  # at the last request


class Recorder:
    """Writes down what a player sees, and what is sent for it. It is told by whoever sends: a `Door`, a `LadderBattle`.

    Args:
        on_battle: called at the end of each battle with it and its record, or with None where no choice was made, or
            where poke-env could not follow the battle.
        max_turns: battles that get this far are cut off: the player gives up, and the record says neither won nor lost.
        label: the action that somebody else would choose at a request, which `follow` records beside the player's own;
            None records no labels.
    """

    def __init__(
        self,
        on_battle: Callable[[Battle, RecordedBattle | None], None],
        *,
        max_turns: int = MAX_TURNS,
        label: Label | None = None,
    ) -> None:
        self._on_battle = on_battle
        self._max_turns = max_turns
        self._label = label
        self._recordings: dict[str, _Recording] = {}

    def is_too_long(self, battle: Battle) -> bool:
        """Whether the battle is to be given up now."""
        return battle.turn > self._max_turns

    def note_request(self, live: LiveBattle) -> None:
        """Something is to be chosen. Raises what the battle's state and options raise; then nothing is noted."""
        state, options, at = live.state, live.options, (live, live.n_messages)
        recording = self._recordings.setdefault(live.battle.battle_tag, _Recording())
        if at == recording.at:  # the last choice was refused: this is the same decision again
            recording.states.pop()
            recording.actions.pop()
            recording.labels.pop()
            recording.thoughts.pop()
        recording.at, recording.options = at, options
        recording.states.append(state)
        recording.actions.append(MISSING_ACTION)
        recording.labels.append(MISSING_ACTION)
        recording.thoughts.append(None)
        live.thought = None

    def note_sent(self, live: LiveBattle, order: BattleOrder) -> None:
        """This order is sent, for the request that was noted last."""
        recording = self._recordings.get(live.battle.battle_tag)
        if recording is not None:  # else the battle has ended while the player was choosing
            recording.actions[-1] = order_to_action(order, recording.options)
            recording.thoughts[-1] = live.thought

    async def follow(self, live: LiveBattle, decide: Callable[[], Awaitable[BattleOrder]]) -> BattleOrder:
        """Notes the request that stands and the order that `decide` gives for it; gives up a battle that is too long.

        Raises what `note_request`, `label` and `decide` raise; then no order is noted.
        """
        if self.is_too_long(live.battle):
            return ForfeitBattleOrder()
        self.note_request(live)
        if self._label is not None:
            label = await self._label(live)
            if (recording := self._recordings.get(live.battle.battle_tag)) is not None:  # it may end meanwhile
                recording.labels[-1] = label
        order = await decide()
        self.note_sent(live, order)
        return order

    def forget(self, battle: Battle) -> None:
        """The battle will begin again: what was noted of it is forgotten."""
        self._recordings.pop(battle.battle_tag, None)

    def note_end(self, live: LiveBattle, *, followed: bool = True) -> None:
        """The battle has ended. `followed` says whether poke-env could follow it: otherwise there is no record."""
        recording = self._recordings.pop(live.battle.battle_tag, None)
        if recording is None or not recording.states or not followed:
            self._on_battle(live.battle, None)
            return
        terminal = live.state
        if self.is_too_long(live.battle):
            terminal = replace(terminal, battle_won=False, battle_lost=False)
        states = (*recording.states, terminal)
        labels = None if self._label is None else (*recording.labels, MISSING_ACTION)
        thoughts = (*recording.thoughts, None) if live.speaks else None
        self._on_battle(live.battle, RecordedBattle(states, (*recording.actions, MISSING_ACTION), labels, thoughts))
