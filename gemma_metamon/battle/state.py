"""A decision of a battle as plain data: the move, Pokémon and battle states of metamon's parsed replays.

Field names and their order are those of the files, so that what is read and written again is the same to the byte.
Words are Showdown ids ("greattusk"); an absent thing has a word of its own ("noitem", "nostatus", "nomove", ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from gemma_metamon.errors import DataError

MAX_MOVES = 4
MAX_SWITCHES = 5
TEAM_SIZE = 6

State = TypeVar("State", "MoveState", "PokemonState", "BattleState")


@dataclass(frozen=True, slots=True)
class MoveState:
    """One move as its user knows it. Accuracy is in 0..1; a move that cannot miss has 1.0."""

    name: str
    move_type: str
    category: str
    base_power: int
    accuracy: float
    priority: int
    current_pp: int
    max_pp: int

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MoveState:
        """Raises DataError where a field is missing or of another type."""
        return _read(cls, data, {}, _MOVE_TYPES)

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _MOVE_TYPES}


@dataclass(frozen=True, slots=True)
class PokemonState:
    """One Pokémon as the player knows it. `types` is two sorted words; hp_pct is in 0..1; boosts are -6..6 stages."""

    name: str
    hp_pct: float
    types: str
    item: str
    ability: str
    lvl: int
    status: str
    effect: str
    moves: tuple[MoveState, ...]
    atk_boost: int
    spa_boost: int
    def_boost: int
    spd_boost: int
    spe_boost: int
    accuracy_boost: int
    evasion_boost: int
    base_atk: int
    base_spa: int
    base_def: int
    base_spd: int
    base_spe: int
    base_hp: int
    tera_type: str
    base_species: str

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PokemonState:
        """Files from before terastallisation lack tera_type and base_species; raises DataError for any other lack."""
        name = data.get("name")
        old_file = {"tera_type": "notype", "base_species": name.split("-")[0] if isinstance(name, str) else name}
        moves = tuple(MoveState.from_dict(move) for move in _list(data, "moves"))
        return _read(cls, data, old_file, _POKEMON_TYPES, moves=moves)

    def to_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in _POKEMON_TYPES}
        return {**values, "moves": [move.to_dict() for move in self.moves]}

    @property
    def known_moves(self) -> list[MoveState]:
        """The first four moves of the file, in the order of the action space (by name, bytewise)."""
        return sorted(self.moves[:MAX_MOVES], key=lambda move: move.name)


@dataclass(frozen=True, slots=True)
class BattleState:
    """One decision, seen by one player. `battle_field` is terrain or room; a terminal state has won or lost set."""

    format: str
    player_active_pokemon: PokemonState
    opponent_active_pokemon: PokemonState
    available_switches: tuple[PokemonState, ...]
    player_prev_move: MoveState
    opponent_prev_move: MoveState
    opponents_remaining: int
    player_conditions: str
    opponent_conditions: str
    weather: str
    battle_field: str
    forced_switch: bool
    battle_won: bool
    battle_lost: bool
    can_tera: bool
    opponent_teampreview: tuple[str, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BattleState:
        """Files from before terastallisation lack can_tera and opponent_teampreview; any other lack is a DataError."""
        preview = _list(data, "opponent_teampreview") if "opponent_teampreview" in data else []
        if not all(isinstance(species, str) for species in preview):
            raise DataError(f"opponent_teampreview must be a list of words, found {preview!r}")
        return _read(
            cls,
            data,
            {"can_tera": False},
            _BATTLE_TYPES,
            player_active_pokemon=PokemonState.from_dict(_mapping(data, "player_active_pokemon")),
            opponent_active_pokemon=PokemonState.from_dict(_mapping(data, "opponent_active_pokemon")),
            available_switches=tuple(PokemonState.from_dict(p) for p in _list(data, "available_switches")),
            player_prev_move=MoveState.from_dict(_mapping(data, "player_prev_move")),
            opponent_prev_move=MoveState.from_dict(_mapping(data, "opponent_prev_move")),
            opponent_teampreview=tuple(preview),
        )

    def to_dict(self) -> dict[str, Any]:
        nested = {
            "player_active_pokemon": self.player_active_pokemon.to_dict(),
            "opponent_active_pokemon": self.opponent_active_pokemon.to_dict(),
            "available_switches": [pokemon.to_dict() for pokemon in self.available_switches],
            "player_prev_move": self.player_prev_move.to_dict(),
            "opponent_prev_move": self.opponent_prev_move.to_dict(),
            "opponent_teampreview": list(self.opponent_teampreview),
        }
        return {**{name: getattr(self, name) for name in _BATTLE_TYPES}, **nested}

    @property
    def switches(self) -> list[PokemonState]:
        """The Pokémon that may be switched in, in the order of the action space (by name, bytewise)."""
        return sorted(self.available_switches, key=lambda pokemon: pokemon.name)[:MAX_SWITCHES]


# Annotations are strings here: each is what a JSON value of that field may be. int also fits where a float is meant.
_JSON_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
_NESTED = (object,)


def _field_types(cls: type) -> dict[str, tuple[type, ...]]:
    return {field.name: _JSON_TYPES.get(str(field.type), _NESTED) for field in fields(cls)}


_MOVE_TYPES = _field_types(MoveState)
_POKEMON_TYPES = _field_types(PokemonState)
_BATTLE_TYPES = _field_types(BattleState)


def _read(
    cls: type[State],
    data: Mapping[str, Any],
    defaults: Mapping[str, Any],
    types: Mapping[str, tuple[type, ...]],
    **nested: Any,
) -> State:
    values: list[Any] = []
    for name, allowed in types.items():
        value = nested[name] if name in nested else data.get(name, defaults.get(name))
        if not isinstance(value, allowed) or value is None:
            found = f"is {value!r}" if name in data else "is missing"
            raise DataError(f"{cls.__name__}.{name} {found}; expected {' or '.join(t.__name__ for t in allowed)}")
        values.append(value)
    return cls(*values)


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    if not isinstance(value, Mapping):
        raise DataError(f"{name} must be a JSON object, found {type(value).__name__}")
    return value


def _list(data: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = data.get(name)
    if not isinstance(value, list):
        raise DataError(f"{name} must be a JSON list, found {type(value).__name__}")
    return value
