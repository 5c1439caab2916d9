"""Recorded battles as decisions in words: what could be chosen, what was, and where a file cannot tell."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_metamon.battle.actions import FIRST_SWITCH, get_action_space
from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.battle.state import BattleState
from gemma_metamon.language.telling.answers import choice_names
from gemma_metamon.language.telling.prompts import HISTORY, BattleSoFar, Decision

_RECHARGING: Final = {
    "blastburn", "eternabeam", "frenzyplant", "gigaimpact", "hydrocannon", "hyperbeam", "meteorassault",
    "prismaticlaser", "roaroftime", "rockwrecker",
}  # fmt: skip
"""Moves after which the turn is lost."""
_BINDING: Final = {"bind", "clamp", "firespin", "wrap"}
"""Moves of generation 1 whose target cannot act."""


def recorded_decisions(battle: RecordedBattle, history: int = HISTORY) -> Iterator[Decision]:
    """The decisions of a recorded battle, in order, with the choices that its states allow.

    A file does not tell of disabled moves and trapping, so the choices are those of metamon's simple rule.

    Args:
        battle: T states, T - 1 decisions.
        history: how many decisions before each are told with it.
    """
    space = get_action_space("DefaultActionSpace")
    so_far = BattleSoFar(history)
    for t, (state, action) in enumerate(zip(battle.states[:-1], battle.actions[:-1], strict=True)):
        legal = np.flatnonzero(space.legal(state)).tolist()
        if _only_fights(battle, t):
            choices = choice_names(state, [0, *(a for a in legal if a >= FIRST_SWITCH)], {0: "fight"})
        else:
            choices = choice_names(state, legal)
        yield so_far.decide(state, choices)
        so_far.chose("" if is_stand_in(battle, t) else choices.get(action, ""))


def is_stand_in(battle: RecordedBattle, t: int) -> bool:
    """Whether the first move, action 0, only stands for what has no number: Recharge, Struggle, or no act at all.

    Then nothing was chosen, and the move's name would be a false answer. It is so where the Pokémon has no PP left, or
    its last choice was a move like Hyper Beam, or in generation 1 a move like Wrap holds it; and the next state does
    not show that the move was used. Of a Hyper Beam that missed, and a first move that then failed, it is said wrongly.

    Args:
        battle: recorded.
        t: the decision's timestep, from 0 to T - 2.
    """
    state, then = battle.states[t], battle.states[t + 1]
    mine = state.player_active_pokemon
    if battle.actions[t] != 0 or state.forced_switch or not mine.moves or _only_fights(battle, t):
        return False
    if all(move.current_pp <= 0 for move in mine.moves):
        return True
    held = state.format.startswith("gen1") and state.opponent_prev_move.name in _BINDING
    return (held or _recharges(battle, t)) and not _used_first_move(state, then)


def _only_fights(battle: RecordedBattle, t: int) -> bool:
    """Whether the moves were offered as one, "Fight", as generation 1 does to a Pokémon that sleeps or is frozen.

    Showdown does so since 2026; in battles of before one of the moves was chosen, and those stay as they are.
    """
    state, action = battle.states[t], battle.actions[t]
    unable = state.player_active_pokemon.status in ("slp", "frz") and not state.forced_switch
    chosen = action == 0 or action >= FIRST_SWITCH
    return state.format.startswith("gen1") and unable and chosen and not _used_first_move(state, battle.states[t + 1])


def _recharges(battle: RecordedBattle, t: int) -> bool:
    if t == 0:
        return False
    before, action = battle.states[t - 1].player_active_pokemon, battle.actions[t - 1]
    same = before.name == battle.states[t].player_active_pokemon.name
    return same and 0 <= action < len(before.known_moves) and before.known_moves[action].name in _RECHARGING


def _used_first_move(state: BattleState, then: BattleState) -> bool:
    mine, later = state.player_active_pokemon, then.player_active_pokemon
    if mine.name != later.name or not later.moves:
        return False
    return later.known_moves[0].current_pp < mine.known_moves[0].current_pp
