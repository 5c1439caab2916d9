"""What a language model is told of the battles that it plays: each request as a decision in words."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from poke_env.battle import Move
from poke_env.player import SingleBattleOrder

from gemma_metamon.battle.actions import FIRST_SWITCH
from gemma_metamon.battle.state import BattleState
from gemma_metamon.battle.words import move_word
from gemma_metamon.language.telling.answers import choice_names
from gemma_metamon.language.telling.prompts import HISTORY, BattleSoFar, Decision
from gemma_metamon.showdown.live.battle import LiveBattle


@dataclass
class Telling:
    """A battle, as far as its decisions were told.

    Attributes:
        so_far: tells each decision with those before.
        decision: the last one.
        at: where the battle stood then.
    """

    so_far: BattleSoFar
    decision: Decision | None = None
    at: object = None

    def decide(self, state: BattleState, choices: Mapping[int, str], at: object) -> Decision:
        """The decision in this state; asked again at the same place, as after a refusal, with the choices left."""
        if self.decision is None or self.at != at:
            self.at, self.decision = at, self.so_far.decide(state, choices)
        else:
            self.decision = replace(self.decision, choices=choices)
        return self.decision

    def chose(self, action: int) -> None:
        """This action, one of the choices, is taken at the decision that was told last."""
        if self.decision is not None:
            self.so_far.chose(self.decision.choices[action])


class ToldBattles:
    """A player's battles in play, as far as their decisions were told.

    Args:
        history: how many decisions before are told with each.
    """

    def __init__(self, history: int = HISTORY) -> None:
        self._history = history
        self._battles: dict[str, Telling] = {}

    def decide(self, live: LiveBattle) -> Decision:
        """The decision at the battle's request, with the choices that the simulator accepts."""
        telling = self._battles.setdefault(live.battle.battle_tag, Telling(BattleSoFar(self._history)))
        return telling.decide(live.state, live_choices(live), (live, live.n_messages))

    def chose(self, live: LiveBattle, action: int) -> None:
        """As `Telling.chose`, in this battle."""
        self._battles[live.battle.battle_tag].chose(action)

    def knows(self, battle_tag: str) -> bool:
        """Whether anything of this battle was told."""
        return battle_tag in self._battles

    def forget(self, battle_tag: str) -> None:
        """The battle is over."""
        self._battles.pop(battle_tag, None)


def live_choices(live: LiveBattle) -> dict[int, str]:
    """Action -> name of all that the simulator accepts now; Recharge and Struggle, which have no number, among them."""
    return choice_names(live.state, live.options, offered_moves(live))


def offered_moves(live: LiveBattle) -> dict[int, str]:
    """Action -> word of the moves at a request that are none of the Pokémon's own: Struggle, Recharge and the like."""
    known = [move.name for move in live.state.player_active_pokemon.known_moves]
    offered = {}
    for action, order in live.options.items():
        if action < FIRST_SWITCH:
            named = order.order if isinstance(order, SingleBattleOrder) else None
            word = move_word(named.id) if isinstance(named, Move) else "default"
            if action >= len(known) or known[action] != word:
                offered[action] = word
    return offered
