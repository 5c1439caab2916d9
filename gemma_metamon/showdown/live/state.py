"""The state of a battle being played, exactly as metamon's recorded battles would have it.

poke-env's `Battle` is read, not changed; what it forgets comes from a `BattleMemory`. Only `current_pp` is better than
in upstream's live recordings, where it never falls.
"""

from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any

from poke_env.battle import Battle, Move, Pokemon, PokemonType

from gemma_metamon.battle.state import MAX_MOVES, TEAM_SIZE, BattleState, MoveState, PokemonState
from gemma_metamon.battle.words import letters, move_word, species_word
from gemma_metamon.errors import DataError
from gemma_metamon.showdown.live.memory import BattleMemory

NO_MOVE = MoveState("nomove", "nomove", "nomove", 0, 1.0, 0, 0, 0)
_boosts = itemgetter("atk", "spa", "def", "spd", "spe", "accuracy", "evasion")
_base_stats = itemgetter("atk", "spa", "def", "spd", "spe", "hp")


class StateReader:
    """Reads the states of one battle, as it goes on.

    A Pokémon's state follows from a few values that poke-env and the memory keep of it, and from nothing else. While
    they stay as they are, which on the bench is most of the time, it is the same object in state after state; so is a
    move's while its PP stay.

    Args:
        battle: which is read and never changed.
        memory: the battle's own.
    """

    def __init__(self, battle: Battle, memory: BattleMemory) -> None:
        self._battle, self._memory = battle, memory
        self._known: dict[str, tuple[tuple[Any, ...], PokemonState]] = {}  # key -> what it follows from, the state
        self._moves: dict[Move, MoveState] = {}

    def read(self) -> BattleState:
        """The state at this decision, or after the end; the memory has read all of the battle's messages.

        Raises DataError before both sides have a Pokémon on the field.
        """
        battle = self._battle
        active_key, active = _active(battle.team)
        opponent_key, opponent = _active(battle.opponent_team)
        if active is None or opponent is None:
            raise DataError(
                f"{battle.battle_tag} has no Pokémon on the field yet; ask after the first request for a move"
            )
        switches = [(key, p) for key, p in battle.team.items() if is_candidate(p, battle)]
        return BattleState(
            format=battle.battle_tag.split("-")[1],
            player_active_pokemon=self._pokemon_state(active_key, active),
            opponent_active_pokemon=self._pokemon_state(opponent_key, opponent),
            available_switches=tuple([self._pokemon_state(key, pokemon) for key, pokemon in switches]),
            player_prev_move=self._previous_move(active_key, active),
            opponent_prev_move=self._previous_move(opponent_key, opponent),
            opponents_remaining=TEAM_SIZE - sum([p.fainted for p in battle.opponent_team.values()]),
            player_conditions=_latest(battle.side_conditions, "noconditions"),
            opponent_conditions=_latest(battle.opponent_side_conditions, "noconditions"),
            weather=next((letters(weather.name) for weather in battle.weather), "noweather"),
            battle_field=_latest(battle.fields, "nofield"),
            forced_switch=bool(battle.force_switch),
            battle_won=bool(battle.won),
            battle_lost=bool(battle.lost),
            can_tera=bool(battle.can_tera),
            opponent_teampreview=tuple([species_word(p.base_species) for p in battle.teampreview_opponent_team]),
        )

    def _pokemon_state(self, key: str, pokemon: Pokemon) -> PokemonState:
        moves = tuple([self._move_state(move) for move in list(pokemon.moves.values())[:MAX_MOVES]])
        boosts, base_stats = _boosts(pokemon.boosts), _base_stats(pokemon.base_stats)
        facts = (
            pokemon.species,  # the base species follows from it
            pokemon.current_hp_fraction,
            pokemon.types,
            pokemon.item,
            pokemon.ability,
            self._memory.revealed_abilities.get(key),
            pokemon.level,
            pokemon.status,
            self._memory.effect(key),
            moves,
            boosts,
            base_stats,
            pokemon.tera_type,
        )
        known = self._known.get(key)
        if known is not None and known[0] == facts:
            return known[1]
        species, hp, types, item, ability, revealed_ability, level, status, effect, *_, tera_type = facts
        values: tuple[Any, ...] = (  # in the order of a PokemonState
            species_word(species),
            float(hp),
            " ".join(sorted(_type_words(types))),
            _item(item),
            _ability(ability or revealed_ability, pokemon.gen),
            level,
            "nostatus" if status is None else letters(status.name),
            letters(effect or "noeffect"),
            moves,
            *boosts,
            *base_stats,
            "notype" if tera_type is None else letters(tera_type.name),
            species_word(pokemon.base_species),
        )
        state = PokemonState(*values)
        self._known[key] = facts, state
        return state

    def _move_state(self, move: Move) -> MoveState:
        known = self._moves.get(move)
        if known is None or known.current_pp != move.current_pp:  # all else is given to it when it is made
            known = self._moves[move] = _move_state(move)
        return known

    def _previous_move(self, key: str, pokemon: Pokemon) -> MoveState:
        move_id = self._memory.previous_moves.get(key)
        if move_id is None or not Move.should_be_stored(move_id, pokemon.gen):
            return NO_MOVE
        move = pokemon.moves.get(move_id)
        return _unused_move_state(move_id, pokemon.gen) if move is None else self._move_state(move)


def is_candidate(pokemon: Pokemon, battle: Battle) -> bool:
    """Whether a Pokémon is on the bench as the states mean it: able to fight, or, when reviving, fainted."""
    return not pokemon.active and pokemon.fainted == battle.reviving


def _active(team: dict[str, Pokemon]) -> tuple[str, Pokemon | None]:
    return next(((key, pokemon) for key, pokemon in team.items() if pokemon.active), ("", None))


def _type_words(types: list[PokemonType]) -> list[str]:
    words = [letters(type_.name) for type_ in types]
    return words + ["notype"] * (2 - len(words))


def _item(item: str | None) -> str:
    """An item seen to go is `unknownitem` again, as in metamon's recordings; only the request's "" says `noitem`."""
    if item is None or item == "unknown_item":
        return "unknownitem"
    return letters(item) or "noitem"


def _ability(ability: str | None, gen: int) -> str:
    if gen < 3:
        return "noability"
    if ability is None:
        return "unknownability"
    return letters(ability) or "noability"


def _latest(turns: Mapping[Any, int], nothing: str) -> str:
    """The name with the largest turn (or layers, for what is stacked); the first of equals."""
    return letters(max(turns, key=lambda key: turns[key]).name) if turns else nothing


def _move_state(move: Move) -> MoveState:
    name, move_type, category, base_power, accuracy, priority, max_pp = _move_facts(
        move.id, move.gen, move.base_power, move.max_pp
    )
    return MoveState(name, move_type, category, base_power, accuracy, priority, move.current_pp, max_pp)


@lru_cache(maxsize=4096)
def _unused_move_state(move_id: str, gen: int) -> MoveState:
    """Of a move that is none of its user's: another move called it."""
    return _move_state(Move(move_id, gen=gen))


@lru_cache(maxsize=4096)
def _move_facts(move_id: str, gen: int, base_power: int, max_pp: int) -> tuple[str, str, str, int, float, int, int]:
    move = Move(move_id, gen=gen)
    return (
        move_word(move_id),
        letters(move.type.name),
        letters(move.category.name),
        base_power,
        float(move.accuracy),
        move.priority,
        max_pp,
    )
