"""A choice that was read from a log as one of the 13 actions of the state it was made in."""

from poke_env.battle import Battle, Status

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.battle.replays import MISSING_ACTION
from gemma_metamon.battle.state import MAX_SWITCHES
from gemma_metamon.battle.words import move_word, species_word
from gemma_metamon.replay_logs.choices import Choice
from gemma_metamon.showdown.live.orders import ordered_moves
from gemma_metamon.showdown.live.state import is_candidate

# offered alone, whatever the Pokémon knows; Struggle may also take the place of a move that was offered
_NO_OWN_MOVE = {"recharge", "struggle", "fight"}


def action_of(choice: Choice, battle: Battle, *, key: str) -> tuple[int, str]:
    """The action, or -1 and why it cannot be known. `key` is poke-env's of whom a switch brought in."""
    if key:
        return _switch(battle, key)
    offered = _offered(battle)
    words = [move_word(move.id) for move in ordered_moves(battle.active_pokemon)]
    nothing_else = not offered or not set(offered) & set(words)
    if nothing_else and (choice.move in _NO_OWN_MOVE - {"struggle"} or _is_helpless(battle)):
        return 0, ""
    if choice.unknown:
        return MISSING_ACTION, choice.unknown
    if choice.move == "struggle":
        certain = offered == ["struggle"] if offered else choice.locked
        return (0, "") if certain else (MISSING_ACTION, "struggled, though other moves may have been offered")
    if move_word(choice.move) in words:
        place = words.index(move_word(choice.move))
        return place + (FIRST_TERA if choice.tera else 0), ""
    if choice.locked and nothing_else:  # a move that another one called and that goes on: nothing else was offered
        return 0, ""
    return MISSING_ACTION, "a move that is none of its four: a Z-Move, a Max Move, or an Illusion's"


def _switch(battle: Battle, key: str) -> tuple[int, str]:
    bench = sorted(
        (item for item in battle.team.items() if is_candidate(item[1], battle)),
        key=lambda item: species_word(item[1].species),
    )
    keys = [candidate for candidate, _ in bench[:MAX_SWITCHES]]
    if key in keys:
        return FIRST_SWITCH + keys.index(key), ""
    return MISSING_ACTION, "a switch to a Pokémon that is not on the bench: an Illusion's"


def _offered(battle: Battle) -> list[str]:
    """The moves in the request, in words; none where the request is made from what the log tells."""
    active = battle.last_request.get("active") or [{}]
    return [move_word(move["id"]) for move in active[0].get("moves", [])]


def _is_helpless(battle: Battle) -> bool:
    """In gen 1 one that sleeps or is frozen is offered no move: it leaves, or does nothing."""
    active = battle.active_pokemon
    return battle.gen == 1 and active is not None and active.status in (Status.SLP, Status.FRZ)
