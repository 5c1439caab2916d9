"""One side of a battle that an environment decides for: what it is shown, and what it may do."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, Player

from gemma_metamon.battle.observations import OpponentMemory
from gemma_metamon.battle.state import BattleState
from gemma_metamon.envs.spaces import Observation
from gemma_metamon.showdown.live.battle import live_battle
from gemma_metamon.showdown.live.orders import Options, action_to_order, legal_mask
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat
from gemma_metamon.view import BattleView


class OrderedPlayer(Player):
    """Gives the orders that it was given. At team preview it draws a lead, as the package's agents do."""

    def __init__(self, **player_options: Any) -> None:
        super().__init__(**player_options)
        self._orders: dict[str, BattleOrder] = {}

    def take(self, tag: str, order: BattleOrder) -> None:
        """What it is to answer next in this battle."""
        self._orders[tag] = order

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        """The order that it was given for this battle."""
        return self._orders.pop(battle.battle_tag)


@dataclass(frozen=True)
class Taken:
    """An action as it was taken: what is played, and whether that is another one because what was asked is illegal."""

    action: int
    was_illegal: bool


class Side:
    """A seat that waits for an environment's action at every decision but the lead.

    Args:
        seat: whose player is an `OrderedPlayer`.
        player: that one.
        view: what is shown.
        dice: what is played in place of illegal actions is drawn with them.
    """

    def __init__(self, seat: ArenaSeat, player: OrderedPlayer, view: BattleView, dice: random.Random) -> None:
        self.seat = seat
        self.live = live_battle(seat.battle)
        """The battle, as it goes on."""
        self.state: BattleState | None = None
        """At the last look; None before the first."""
        self.legal: npt.NDArray[np.bool_] = np.zeros(view.action_space.n, dtype=np.bool_)
        """(A,), True where an action may be chosen now; nothing may at the end."""
        self.was_refused = False
        """Whether the last choice was taken back: the side is asked again, of the same state."""
        self.is_over = False
        """Whether the battle was cut short, so that nothing more is asked."""
        self._has_chosen = False
        self._player, self._view, self._dice = player, view, dice
        self._memory = OpponentMemory()
        self._options: Options = {}
        self._text_tokens = np.zeros(view.obs_space.n_words, dtype=np.int32)
        self._numbers = np.zeros(view.obs_space.n_numbers, dtype=np.float32)
        self._last: BattleOrder | None = None
        self._n_refused = 0
        self._refused: set[str] = set()

    @property
    def is_asked(self) -> bool:
        """Whether the environment is to choose."""
        chooses = not self.seat.battle.teampreview and self.seat.given_up is None
        return self.seat.is_asked and chooses and not self._has_chosen and not self.is_over

    async def answer(self) -> str:
        """What the seat sends: what was chosen, or its lead. Raises as `ArenaSeat.answer`."""
        self._has_chosen = False
        return await self.seat.answer()

    def look(self) -> float:
        """Takes the battle as it stands, before a decision or at the end; the reward of the decision that led to it.

        One that poke-env cannot follow any more stays as it was seen last, with reward 0.
        """
        if self.seat.given_up is not None and self.state is not None:
            self.legal = np.zeros_like(self.legal)
            return 0.0
        state, before = self.live.state, self.state
        self.state = state
        words, self._numbers = self._view.obs_space.observe(state, self._memory)
        self._text_tokens = self._view.vocabulary.encode(words)
        self._note_refusal()
        self._options, n_actions = self.live.options if self.is_asked else {}, self._view.action_space.n
        not_refused = {a: order for a, order in self._options.items() if order.message not in self._refused}
        self.legal = legal_mask(not_refused)[:n_actions]
        if not self.legal.any():
            self.legal = legal_mask(self._options)[:n_actions]
        return 0.0 if before is None else float(self._view.reward_function(before, state))

    def observation(self) -> Observation:
        """As of the last look: "text_tokens" and "numbers", copies."""
        return {"text_tokens": self._text_tokens.copy(), "numbers": self._numbers.copy()}

    def is_legal(self, action: int) -> bool:
        """Whether this action may be chosen now."""
        return 0 <= action < len(self.legal) and bool(self.legal[action])

    def take(self, action: int) -> Taken:
        """This action is to be played, or a legal one in its place; call only while the side is asked."""
        was_legal = self.is_legal(action)
        if not was_legal:
            action = self._dice.choice(np.flatnonzero(self.legal).tolist())
        self._last = action_to_order(action, self._options)
        self._player.take(self.seat.battle.battle_tag, self._last)
        self._has_chosen = True
        return Taken(action, not was_legal)

    def _note_refusal(self) -> None:
        self.was_refused = self.seat.choices.refused > self._n_refused
        self._n_refused = self.seat.choices.refused
        if not self.was_refused:
            self._refused.clear()
        elif self._last is not None:
            self._refused.add(self._last.message)
