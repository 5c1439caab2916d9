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
    available = {id(pokemon) for pokemon in battle.available_switches}
    bench = sorted(
        (p for p in battle.team.values() if is_candidate(p, battle)), key=lambda pokemon: species_word(pokemon.species)
    )
    for i, pokemon in enumerate(bench[:MAX_SWITCHES]):
        if id(pokemon) in available:
            options[FIRST_SWITCH + i] = _placed(pokemon, battle)
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
    place: int | None
    if verb == "switch":
        place, options = _place_on_bench(named if isinstance(named, Pokemon) else choice, battle), []
    else:
        words = choice.split(" ")
        options = [word for word in words if word in _MOVE_OPTIONS]
        place = _place_of_move("".join(words[: len(words) - len(options)]), battle)
    return order if place is None else SingleBattleOrder(" ".join([f"{_CHOOSE}{verb} {place}", *options]))


def _place_of_move(name: str, battle: AbstractBattle) -> int | None:
    """From 1; of several moves of that name the first that can be used. None for a number, or a move not offered."""
    offered = (battle.last_request.get("active") or [{}])[0].get("moves", [])
    wanted = Move.retrieve_id(name)
    places = [place for place, move in enumerate(offered, 1) if Move.retrieve_id(move["id"]) == wanted]
    usable = [place for place in places if not offered[place - 1].get("disabled")]
    return next(iter(usable or places), None)


def _place_on_bench(wanted: Pokemon | str, battle: AbstractBattle) -> int | None:
    """From 1; of several by that name the first that may come in. None for a number, or one that is not in the team."""
    members = (battle.last_request.get("side") or {}).get("pokemon", [])
    reviving = any(member.get("reviving") for member in members)
    places = []
    for place, member in enumerate(members, 1):
        if isinstance(wanted, Pokemon):
            meant = battle.team.get(member["ident"]) is wanted
        else:
            names = (member["ident"].partition(": ")[2], member["details"].partition(",")[0])
            meant = species_word(wanted) in map(species_word, names)
        if meant:
            may_enter = not member["active"] and member["condition"].endswith(" fnt") == reviving
            places.append((not may_enter, place))
    return min(places)[1] if places else None


def _move_options(battle: Battle) -> Options:
    offered = {move.id: move for move in battle.available_moves}
    options: Options = {}
    for i, move in enumerate(ordered_moves(battle.active_pokemon)):
        if move.id in offered:
            options[i] = _placed(offered[move.id], battle)
            if battle.can_tera:
                options[FIRST_TERA + i] = _placed(offered[move.id], battle, terastallize=True)
    if offered and not options:
        options[0] = _placed(next(iter(offered.values())), battle)
    return options


def _placed(named: Move | Pokemon, battle: Battle, *, terastallize: bool = False) -> SingleBattleOrder:
    place = _place_on_bench(named, battle) if isinstance(named, Pokemon) else _place_of_move(named.id, battle)
    if place is None:  # a request that does not list what poke-env read from it
        return SingleBattleOrder(named, terastallize=terastallize)
    return PlacedOrder(named, terastallize=terastallize, place=place)


def ordered_moves(pokemon: Pokemon | None) -> list[Move]:
    """The known moves in the order of the actions: the first four, by name."""
    if pokemon is None:
        return []
    return sorted(list(pokemon.moves.values())[:MAX_MOVES], key=lambda move: move_word(move.id))
