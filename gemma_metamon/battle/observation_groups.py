"""A turn as groups: seven Pokémon that are described alike, and what concerns the whole battle.

A group of words comes with a group of numbers. Here they follow each other, so that a turn is one row of words and one
of numbers as in every space; metamon gives each group an array of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from gemma_metamon.battle.observation_space import (
    BLANK,
    MISSING_NUMBER,
    ObservationSpace,
    OpponentMemory,
    boosts_of,
    choice_word,
    filled,
    filled_words,
    format_word,
    pp_level,
    stats_of,
    strength_of,
)
from gemma_metamon.battle.state import MAX_MOVES, MAX_SWITCHES, TEAM_SIZE, BattleState, PokemonState

POKEMON_WORDS: Final = 12
"""Name, item, ability, tera type, two types, effect, status, four moves."""
POKEMON_NUMBERS: Final = 31
"""hp, level, six base stats, seven boosts; of each move its power, accuracy, priority and PP level."""
GROUPS: Final = (
    "active_pokemon",
    *(f"switch_{index}" for index in range(MAX_SWITCHES)),
    "opponent_active_pokemon",
    "misc",
)
"""metamon's names, in the order of a turn."""


@dataclass(frozen=True, kw_only=True)
class GroupedSpace(ObservationSpace):
    """Eight groups: the player's active Pokémon, five benched, the opponent's, and the rest.

    Unlike in a line no tag says what follows, a move has no type and no category, and what is known of a benched
    Pokémon or of the opponent's is as much as of the player's. Of the spaces only this one tells terrain and room.
    """

    word_keys: ClassVar[tuple[str, ...]] = tuple(f"text_{group}_tokens" for group in GROUPS)
    number_keys: ClassVar[tuple[str, ...]] = tuple(f"numbers_{group}" for group in GROUPS)

    @property
    def entities(self) -> Mapping[str, int]:
        """The last group in parts, because most of it stays from turn to turn."""
        bench = (f"bench {index}" for index in range(1, MAX_SWITCHES + 1))
        return {
            **dict.fromkeys(("player", *bench, "opponent"), POKEMON_WORDS),
            "format": 2,  # with it, whether a switch is forced
            "conditions": 4,
            "player's last move": 1,
            "opponent's last move": 1,
            "revealed": TEAM_SIZE,
            "preview": TEAM_SIZE,
        }

    @property
    def n_numbers(self) -> int:
        """Of seven Pokémon, and of the battle: opponents remaining, any asleep, any frozen, can_tera."""
        return (2 + MAX_SWITCHES) * POKEMON_NUMBERS + 4

    def _words(self, state: BattleState, memory: OpponentMemory) -> list[str]:
        words = _pokemon_words(state.player_active_pokemon)
        for pokemon in filled(state.switches, MAX_SWITCHES):
            words += _pokemon_words(pokemon) if pokemon else [BLANK] * POKEMON_WORDS
        words += _pokemon_words(state.opponent_active_pokemon)
        field = BLANK if state.battle_field == "nofield" else state.battle_field
        words += [format_word(state), choice_word(state)]
        words += [state.weather, field, state.player_conditions, state.opponent_conditions]
        words += [state.player_prev_move.name, state.opponent_prev_move.name]
        return [*words, *filled_words(sorted(memory.revealed)), *filled_words(sorted(state.opponent_teampreview))]

    def _numbers(self, state: BattleState, memory: OpponentMemory) -> list[float]:
        player, opponent = state.player_active_pokemon, state.opponent_active_pokemon
        numbers = _pokemon_numbers(player, boosts_of(player))
        for pokemon in filled(state.switches, MAX_SWITCHES):
            unboosted = [0.0] * len(boosts_of(player))
            numbers += _pokemon_numbers(pokemon, unboosted) if pokemon else [MISSING_NUMBER] * POKEMON_NUMBERS
        numbers += _pokemon_numbers(opponent, boosts_of(opponent))
        flags = (memory.any_asleep, memory.any_frozen, state.can_tera)
        return [*numbers, state.opponents_remaining / TEAM_SIZE, *map(float, flags)]


def _pokemon_words(pokemon: PokemonState) -> list[str]:
    words = [pokemon.name, pokemon.item, pokemon.ability, pokemon.tera_type, *pokemon.types.split(" ")]
    words += [pokemon.effect, pokemon.status]
    return [*words, *(move.name if move else BLANK for move in filled(pokemon.known_moves, MAX_MOVES))]


def _pokemon_numbers(pokemon: PokemonState, boosts: list[float]) -> list[float]:
    numbers = [*stats_of(pokemon), *boosts]
    for move in filled(pokemon.known_moves, MAX_MOVES):
        numbers += [*strength_of(move), pp_level(move)] if move else [MISSING_NUMBER] * 4
    return numbers
