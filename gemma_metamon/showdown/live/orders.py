"""The 13 actions of recorded battles and poke-env's orders, as a pair, and which of them the simulator allows now.

0-3   the active Pokémon's moves, by name; 0 also where the simulator offers something that is none of them
      (recharge, struggle, gen 1's "fight")
4-8   the Pokémon on the bench, by name; the fainted ones when reviving
9-12  the moves of 0-3 with terastallisation
"""

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


def legal_actions(battle: Battle) -> NDArray[np.bool_]:
    """(13,) bool, True where the simulator accepts the action at this request. At least one is True.

    Knows disabled moves, trapping, forced switches and reviving. A Pokémon that is only perhaps trapped may still be
    refused: the server then asks again, and this gives the new answer.
    """
    legal = np.zeros(N_RECORDED_ACTIONS, dtype=np.bool_)
    for action in _options(battle):
        legal[action] = True
    return legal


def action_to_order(action: int, battle: Battle) -> BattleOrder:
    """Raises ValueError, naming what is legal, for an action that `legal_actions` does not allow."""
    options = _options(battle)
    if action not in options:
        raise ValueError(
            f"action {action} is not legal for {battle.player_username} in {battle.battle_tag} (turn {battle.turn}); "
            f"legal: {', '.join(f'{a} {order.message}' for a, order in sorted(options.items()))}"
        )
    return options[action]


def order_to_action(order: BattleOrder, battle: Battle) -> int:
    """The action that gives this order; -1 for an order that no action gives (a forfeit, or "default")."""
    message = as_sent(order, battle).message
    for action, option in _options(battle).items():
        if as_sent(option, battle).message == message:
            return action
    return MISSING_ACTION


def as_sent(order: BattleOrder, battle: AbstractBattle) -> BattleOrder:
    """The order with its move or Pokémon named by its place in the request: "/choose move 2", "/choose switch 3".

    A name can mean something else to the server than to us. A Ditto that has transformed bears the species of the
    opponent's Pokémon, and perhaps of one on its own bench; Mimic can copy a move that its Pokémon knows already. Of
    several the server takes the first, and refuses it. An order that names nothing of the request stays as it is.
    """
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


def _options(battle: Battle) -> dict[int, BattleOrder]:
    """Every legal action with its order, the moves first."""
    options: dict[int, BattleOrder] = {}
    if not battle.force_switch:
        options |= _move_options(battle)
    available = {id(pokemon) for pokemon in battle.available_switches}
    bench = sorted(
        (p for p in battle.team.values() if is_candidate(p, battle)), key=lambda pokemon: species_word(pokemon.species)
    )
    for i, pokemon in enumerate(bench[:MAX_SWITCHES]):
        if id(pokemon) in available:
            options[FIRST_SWITCH + i] = SingleBattleOrder(pokemon)
    # the server's own choice, should it ever ask without offering anything we know
    return options or {0: Player.choose_default_move()}


def _move_options(battle: Battle) -> dict[int, BattleOrder]:
    offered = {move.id: move for move in battle.available_moves}
    options: dict[int, BattleOrder] = {}
    for i, move in enumerate(ordered_moves(battle.active_pokemon)):
        if move.id in offered:
            options[i] = SingleBattleOrder(offered[move.id])
            if battle.can_tera:
                options[FIRST_TERA + i] = SingleBattleOrder(offered[move.id], terastallize=True)
    if offered and not options:
        options[0] = SingleBattleOrder(next(iter(offered.values())))
    return options


def ordered_moves(pokemon: Pokemon | None) -> list[Move]:
    """The known moves in the order of the actions: the first four, by name."""
    if pokemon is None:
        return []
    return sorted(list(pokemon.moves.values())[:MAX_MOVES], key=lambda move: move_word(move.id))
