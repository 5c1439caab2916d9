"""What may be chosen at a request: the 13 actions of recorded battles, each with poke-env's order that gives it.

0-3   the active Pokémon's moves, by name; 0 also where the simulator offers something that is none of them
      (recharge, struggle, gen 1's "fight")
4-8   the Pokémon on the bench, by name; the fainted ones when reviving
9-12  the moves of 0-3 with terastallisation

A name can mean something else to the server than to us. A Ditto that has transformed bears the species of the
opponent's Pokémon, and perhaps of one on its own bench; Mimic can copy a move that its Pokémon knows already. Of
several the server takes the first, and refuses it. So orders go out by their place in the request: those of
`legal_options` know it, and `as_sent` finds it for all others.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from poke_env.battle import AbstractBattle, Battle, Move, Pokemon
from poke_env.player import BattleOrder, Player, SingleBattleOrder

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.battle.replays import MISSING_ACTION, N_RECORDED_ACTIONS
from gemma_metamon.battle.state import MAX_MOVES, MAX_SWITCHES
from gemma_metamon.battle.words import move_word, species_word
from gemma_metamon.showdown.live.state import is_candidate

_CHOOSE = "/choose "
_MOVE_OPTIONS = {"mega", "megax", "megay", "zmove", "ultra", "dynamax", "max", "terastallize", "terastal"}

Options = dict[int, BattleOrder]
"""Every legal action (0-12) with the order that gives it."""


@dataclass
class PlacedOrder(SingleBattleOrder):
    """A move or a switch whose message names it by its place in the request, from 1: "/choose move 2"."""

    place: int = 0

    @property
    def message(self) -> str:
        """What is sent."""
        verb = "switch" if isinstance(self.order, Pokemon) else "move"
        return f"{_CHOOSE}{verb} {self.place}{' terastallize' if self.terastallize else ''}"


def legal_options(battle: Battle) -> Options:
    """What the simulator accepts at this request, in the order of the actions. At least one option.

    Knows disabled moves, trapping, forced switches and reviving. A Pokémon that is only perhaps trapped may still be
    refused: the server then asks again, and this gives the new answer.
    """
    options: Options = {}
    if not battle.force_switch:
        options |= _move_options(battle)
    available = set(battle.available_switches)
    places = _places_on_bench(battle)
    bench = sorted((p for p in battle.team.values() if is_candidate(p, battle)), key=lambda p: species_word(p.species))
    for i, pokemon in enumerate(bench[:MAX_SWITCHES]):
        if pokemon in available:
            options[FIRST_SWITCH + i] = _placed(pokemon, places.get(pokemon))
    # the server's own choice, should it ever ask without offering anything we know
    return dict(sorted(options.items())) or {0: Player.choose_default_move()}


def legal_mask(options: Options) -> NDArray[np.bool_]:
    """(13,) bool, True where an action is among the options."""
    legal = np.zeros(N_RECORDED_ACTIONS, dtype=np.bool_)
    legal[list(options)] = True
    return legal


def action_to_order(action: int, options: Options) -> BattleOrder:
    """Raises ValueError, naming what is legal, for an action that is none of the options."""
    if action not in options:
        raise ValueError(
            f"action {action} is not legal; legal: {', '.join(f'{a} {o.message}' for a, o in options.items())}"
        )
    return options[action]


def order_to_action(order: BattleOrder, options: Options) -> int:
    """The action that gives this order, as it is sent; -1 for one that none gives (a forfeit, or "default")."""
    return next((action for action, option in options.items() if option.message == order.message), MISSING_ACTION)


def as_sent(order: BattleOrder, battle: AbstractBattle) -> BattleOrder:
    """The order with its move or Pokémon named by its place in the request: "/choose move 2", "/choose switch 3".

    An order that names nothing of the request stays as it is, and so does one that names a place.
    """
    if isinstance(order, PlacedOrder):
        return order
    verb, _, choice = order.message.removeprefix(_CHOOSE).partition(" ")
    if not order.message.startswith(_CHOOSE) or verb not in ("move", "switch"):
        return order
    named = order.order if isinstance(order, SingleBattleOrder) else None
    options: list[str] = []
    if isinstance(named, Pokemon):
        place = _places_on_bench(battle).get(named)
    elif verb == "switch":
        place = _place_of_species(choice, battle)
    else:
        words = choice.split(" ")
        options = [word for word in words if word in _MOVE_OPTIONS]
        name = "".join(words[: len(words) - len(options)])
        place = _places_of_moves(battle).get(Move.retrieve_id(name))
    return order if place is None else SingleBattleOrder(" ".join([f"{_CHOOSE}{verb} {place}", *options]))


def _places_of_moves(battle: AbstractBattle) -> dict[str, int]:
    """The offered moves by id, from 1; of several of one id the first that can be used."""
    offered = (battle.last_request.get("active") or [{}])[0].get("moves", [])
    moves = [(bool(move.get("disabled")), place, Move.retrieve_id(move["id"])) for place, move in enumerate(offered, 1)]
    return {move_id: place for _, place, move_id in sorted(moves, reverse=True)}  # the best comes last, and stays


def _places_on_bench(battle: AbstractBattle) -> dict[Pokemon, int]:
    """The own Pokémon, from 1; of several places of one the first that may come in."""
    return {
        battle.team[member["ident"]]: place
        for place, member in reversed(_members(battle))
        if member["ident"] in battle.team
    }


def _place_of_species(name: str, battle: AbstractBattle) -> int | None:
    """From 1; of several by that name the first that may come in. None for a number, or one that is not in the team."""
    word = species_word(name)
    for place, member in _members(battle):
        if word in map(species_word, (member["ident"].partition(": ")[2], member["details"].partition(",")[0])):
            return place
    return None


def _members(battle: AbstractBattle) -> list[tuple[int, dict[str, Any]]]:
    """The own Pokémon as the request has them, each with its place, from 1: first those that may come in."""
    members = (battle.last_request.get("side") or {}).get("pokemon", [])
    reviving = any(member.get("reviving") for member in members)

    def may_enter(member: dict[str, Any]) -> bool:
        return not member["active"] and member["condition"].endswith(" fnt") == reviving

    return sorted(enumerate(members, 1), key=lambda placed: not may_enter(placed[1]))


def _move_options(battle: Battle) -> Options:
    offered = {move.id: move for move in battle.available_moves}
    places = _places_of_moves(battle)
    options: Options = {}
    for i, move in enumerate(ordered_moves(battle.active_pokemon)):
        if move.id in offered:
            place = places.get(Move.retrieve_id(move.id))
            options[i] = _placed(offered[move.id], place)
            if battle.can_tera:
                options[FIRST_TERA + i] = _placed(offered[move.id], place, terastallize=True)
    if offered and not options:
        move_id, move = next(iter(offered.items()))
        options[0] = _placed(move, places.get(Move.retrieve_id(move_id)))
    return options


def _placed(named: Move | Pokemon, place: int | None, *, terastallize: bool = False) -> SingleBattleOrder:
    if place is None:  # a request that does not list what poke-env read from it
        return SingleBattleOrder(named, terastallize=terastallize)
    return PlacedOrder(named, terastallize=terastallize, place=place)


def ordered_moves(pokemon: Pokemon | None) -> list[Move]:
    """The known moves in the order of the actions: the first four, by name."""
    if pokemon is None:
        return []
    return sorted(list(pokemon.moves.values())[:MAX_MOVES], key=lambda move: move_word(move.id))
