"""The state of a battle being played, exactly as metamon's recorded battles would have it.

poke-env's `Battle` is read, not changed; what it forgets comes from a `BattleMemory`. Only `current_pp` is better than
in upstream's live recordings, where it never falls.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from poke_env.battle import Battle, Move, Pokemon, PokemonType

from gemma_metamon.battle.state import MAX_MOVES, TEAM_SIZE, BattleState, MoveState, PokemonState
from gemma_metamon.battle.words import letters, move_word, species_word
from gemma_metamon.errors import DataError
from gemma_metamon.showdown.live.memory import BattleMemory

NO_MOVE = MoveState("nomove", "nomove", "nomove", 0, 1.0, 0, 0, 0)


def battle_state(battle: Battle, memory: BattleMemory) -> BattleState:
    """The state at this decision, or after the end. `memory` is this battle's own, and has read all of its messages.

    Raises DataError before both sides have a Pokémon on the field.
    """
    active_key, active = _active(battle.team)
    opponent_key, opponent = _active(battle.opponent_team)
    if active is None or opponent is None:
        raise DataError(f"{battle.battle_tag} has no Pokémon on the field yet; ask after the first request for a move")
    switches = [(key, p) for key, p in battle.team.items() if is_candidate(p, battle)]
    return BattleState(
        format=battle.battle_tag.split("-")[1],
        player_active_pokemon=_pokemon_state(active_key, active, memory),
        opponent_active_pokemon=_pokemon_state(opponent_key, opponent, memory),
        available_switches=tuple(_pokemon_state(key, pokemon, memory) for key, pokemon in switches),
        player_prev_move=_previous_move(active_key, active, memory),
        opponent_prev_move=_previous_move(opponent_key, opponent, memory),
        opponents_remaining=TEAM_SIZE - sum(p.fainted for p in battle.opponent_team.values()),
        player_conditions=_latest(battle.side_conditions, "noconditions"),
        opponent_conditions=_latest(battle.opponent_side_conditions, "noconditions"),
        weather=next((letters(weather.name) for weather in battle.weather), "noweather"),
        battle_field=_latest(battle.fields, "nofield"),
        forced_switch=bool(battle.force_switch),
        battle_won=bool(battle.won),
        battle_lost=bool(battle.lost),
        can_tera=bool(battle.can_tera),
        opponent_teampreview=tuple(species_word(p.base_species) for p in battle.teampreview_opponent_team),
    )


def is_candidate(pokemon: Pokemon, battle: Battle) -> bool:
    """Whether a Pokémon is on the bench as the states mean it: able to fight, or, when reviving, fainted."""
    return not pokemon.active and pokemon.fainted == battle.reviving


def _pokemon_state(key: str, pokemon: Pokemon, memory: BattleMemory) -> PokemonState:
    boosts, base = pokemon.boosts, pokemon.base_stats
    return PokemonState(
        name=species_word(pokemon.species),
        hp_pct=float(pokemon.current_hp_fraction),
        types=" ".join(sorted(_type_words(pokemon.types))),
        item=_item(pokemon.item),
        ability=_ability(key, pokemon, memory),
        lvl=pokemon.level,
        status="nostatus" if pokemon.status is None else letters(pokemon.status.name),
        effect=letters(memory.effect(key) or "noeffect"),
        moves=tuple(_move_state(move) for move in list(pokemon.moves.values())[:MAX_MOVES]),
        atk_boost=boosts["atk"],
        spa_boost=boosts["spa"],
        def_boost=boosts["def"],
        spd_boost=boosts["spd"],
        spe_boost=boosts["spe"],
        accuracy_boost=boosts["accuracy"],
        evasion_boost=boosts["evasion"],
        base_atk=base["atk"],
        base_spa=base["spa"],
        base_def=base["def"],
        base_spd=base["spd"],
        base_spe=base["spe"],
        base_hp=base["hp"],
        tera_type="notype" if pokemon.tera_type is None else letters(pokemon.tera_type.name),
        base_species=species_word(pokemon.base_species),
    )


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


def _ability(key: str, pokemon: Pokemon, memory: BattleMemory) -> str:
    if pokemon.gen < 3:
        return "noability"
    ability = pokemon.ability or memory.revealed_abilities.get(key)
    if ability is None:
        return "unknownability"
    return letters(ability) or "noability"


def _latest(turns: Mapping[Any, int], nothing: str) -> str:
    """The name with the largest turn (or layers, for what is stacked); the first of equals."""
    return letters(max(turns, key=lambda key: turns[key]).name) if turns else nothing


def _previous_move(key: str, pokemon: Pokemon, memory: BattleMemory) -> MoveState:
    move_id = memory.previous_moves.get(key)
    if move_id is None or not Move.should_be_stored(move_id, pokemon.gen):
        return NO_MOVE
    return _move_state(pokemon.moves.get(move_id) or Move(move_id, gen=pokemon.gen))


def _move_state(move: Move) -> MoveState:
    name, move_type, category, base_power, accuracy, priority, max_pp = _move_facts(
        move.id, move.gen, move.base_power, move.max_pp
    )
    return MoveState(name, move_type, category, base_power, accuracy, priority, move.current_pp, max_pp)


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
