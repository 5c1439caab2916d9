"""Any player's battles as recorded ones: the state before each choice, the choice, and the state at the end."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from poke_env.battle import AbstractBattle, Battle
from poke_env.player import BattleOrder, ForfeitBattleOrder, Player

from gemma_metamon.battle.replays import MISSING_ACTION, RecordedBattle
from gemma_metamon.battle.state import BattleState
from gemma_metamon.showdown.live.door import given_up
from gemma_metamon.showdown.live.memory import BattleMemory
from gemma_metamon.showdown.live.orders import order_to_action
from gemma_metamon.showdown.live.poke_env_hooks import (
    Choose,
    FinishBattle,
    intercept_battle_end,
    intercept_choices,
    messages_read,
)
from gemma_metamon.showdown.live.state import battle_state

# The server itself ends a battle, as a tie, at turn 1000.
MAX_TURNS = 1000


@dataclass
class _Recording:
    memory: BattleMemory = field(default_factory=BattleMemory)
    states: list[BattleState] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    heard: tuple[int, int] = (0, -1)  # which battle object, and how many messages, at the last decision


class Recorder:
    """Writes down what a player sees and chooses.

    Args:
        on_battle: called at the end of each battle with it and its record, or with None where no choice was made, or
            where poke-env could not follow the battle.
        max_turns: battles that get this far are cut off: the player gives up, and the record says neither won nor lost.
    """

    def __init__(
        self, on_battle: Callable[[Battle, RecordedBattle | None], None], *, max_turns: int = MAX_TURNS
    ) -> None:
        self._on_battle = on_battle
        self._max_turns = max_turns
        self._recordings: dict[str, _Recording] = {}

    def attach(self, player: Player) -> None:
        """From now on the player's choices go through this recorder. One recorder per player.

        The door of a player with a connection is opened before: what comes through it is what is sent.
        """

        def choose_move(battle: AbstractBattle, choose: Choose) -> Any:
            if battle.turn > self._max_turns:
                return ForfeitBattleOrder()
            recording = self._before(battle)
            order = choose(battle)
            if not inspect.isawaitable(order):
                return self._after(recording, order, battle)

            async def later() -> BattleOrder:
                return self._after(recording, await order, battle)

            return later()

        def finish(battle: AbstractBattle, inner: FinishBattle) -> None:
            try:
                if given_up(player, battle.battle_tag) is None:
                    self._finish(battle)
                else:  # what is held of it may be anything
                    self._recordings.pop(battle.battle_tag, None)
                    self._on_battle(battle, None)  # type: ignore[arg-type]
            finally:
                inner(battle)

        intercept_choices(player, choose_move)
        intercept_battle_end(player, finish)

    def correct(self, battle: Battle, order: BattleOrder) -> None:
        """The last choice in this battle was made by somebody else than the player, and was this."""
        recording = self._recordings.get(battle.battle_tag)
        if recording is not None and recording.actions:
            recording.actions[-1] = order_to_action(order, battle)

    def _before(self, battle: Any) -> _Recording:
        recording = self._recordings.setdefault(battle.battle_tag, _Recording())
        heard = (id(battle), len(messages_read(battle)))  # a rejoined battle is another object, and counts otherwise
        if heard == recording.heard:  # the last choice was refused: this is the same decision again
            recording.states.pop()
            recording.actions.pop()
        recording.heard = heard
        recording.states.append(battle_state(battle, recording.memory))
        recording.actions.append(MISSING_ACTION)
        return recording

    def _after(self, recording: _Recording, order: BattleOrder, battle: Any) -> BattleOrder:
        recording.actions[-1] = order_to_action(order, battle)
        return order

    def _finish(self, battle: Any) -> None:
        recording = self._recordings.pop(battle.battle_tag, None)
        if recording is None or not recording.states:
            self._on_battle(battle, None)
            return
        terminal = battle_state(battle, recording.memory)
        if battle.turn > self._max_turns:
            terminal = replace(terminal, battle_won=False, battle_lost=False)
        states = (*recording.states, terminal)
        self._on_battle(battle, RecordedBattle(states, (*recording.actions, MISSING_ACTION)))
