"""A decision of a battle as plain data: the move, Pokémon and battle states of metamon's parsed replays.

Field names and their order are those of the files, so that what is read and written again is the same to the byte.
Words are Showdown ids ("greattusk"); an absent thing has a word of its own ("noitem", "nostatus", "nomove", ...).

What comes from a file is checked value by value (`from_dict`): type, range, length. The ranges are wider than the game
where recorded battles vary, and narrow enough for every number that an agent sees to be a finite float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from gemma_metamon.battle.words import move_word, species_word
from gemma_metamon.errors import DataError
from gemma_metamon.strict_json import shown

MAX_MOVES = 4
MAX_SWITCHES = 5
TEAM_SIZE = 6
MAX_WORD_LENGTH = 64
"""More than twice the longest name there is. Words lie in arrays as wide as the longest of a battle."""
MAX_LISTED = 24
"""Moves, switches or species in a list: Showdown's own bound of a team."""


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
        """Raises DataError, naming the field, where one is missing, of another type or out of range."""
        return _known_move(*_MOVE.values(data, {}))

    def to_dict(self) -> dict[str, Any]:
        """As the files have it; `from_dict` reads it."""
        return {name: getattr(self, name) for name in _MOVE.names}


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
        moves = tuple([MoveState.from_dict(move) for move in _objects(data, "moves")])
        return cls(**_POKEMON.read(data, old_file), moves=moves)

    def to_dict(self) -> dict[str, Any]:
        """As the files have it; `from_dict` reads it."""
        values = {name: getattr(self, name) for name in _POKEMON.names}
        return {**values, "moves": [move.to_dict() for move in self.moves]}

    @property
    def known_moves(self) -> list[MoveState]:
        """The first four moves of the file, in the order of the action space (by `move_word`, bytewise)."""
        return sorted(self.moves[:MAX_MOVES], key=lambda move: move_word(move.name))


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
        for species in preview:
            if not _WORD.fits(species):
                raise DataError(f"opponent_teampreview holds {shown(species)}; expected {_WORD.expected}")
        return cls(
            **_BATTLE.read(data, {"can_tera": False}),
            player_active_pokemon=PokemonState.from_dict(_object(data, "player_active_pokemon")),
            opponent_active_pokemon=PokemonState.from_dict(_object(data, "opponent_active_pokemon")),
            available_switches=tuple([PokemonState.from_dict(p) for p in _objects(data, "available_switches")]),
            player_prev_move=MoveState.from_dict(_object(data, "player_prev_move")),
            opponent_prev_move=MoveState.from_dict(_object(data, "opponent_prev_move")),
            opponent_teampreview=tuple(preview),
        )

    def to_dict(self) -> dict[str, Any]:
        """As the files have it; `from_dict` reads it."""
        nested = {
            "player_active_pokemon": self.player_active_pokemon.to_dict(),
            "opponent_active_pokemon": self.opponent_active_pokemon.to_dict(),
            "available_switches": [pokemon.to_dict() for pokemon in self.available_switches],
            "player_prev_move": self.player_prev_move.to_dict(),
            "opponent_prev_move": self.opponent_prev_move.to_dict(),
            "opponent_teampreview": list(self.opponent_teampreview),
        }
        return {**{name: getattr(self, name) for name in _BATTLE.names}, **nested}

    @property
    def switches(self) -> list[PokemonState]:
        """The Pokémon that may be switched in, in the order of the action space (by `species_word`, bytewise)."""
        return sorted(self.available_switches, key=lambda pokemon: species_word(pokemon.name))[:MAX_SWITCHES]


class _Check(NamedTuple):
    """What a value of a field may be: of one of these types (a bool is no int), and in low ... high or of a form."""

    types: tuple[type, ...]
    expected: str
    low: float = 0
    high: float = 0
    form: Callable[[str], bool] | None = None

    def fits(self, value: Any) -> bool:
        if type(value) not in self.types:
            return False
        return self.low <= value <= self.high if self.form is None else self.form(value)


def is_word(word: str) -> bool:
    """Short, and without white space, controls or halves of characters: it must stay one word in a text."""
    return len(word) <= MAX_WORD_LENGTH and word.isprintable() and " " not in word


def _is_two_words(words: str) -> bool:
    first, space, second = words.partition(" ")
    return space == " " and is_word(first) and is_word(second)


def _integer(low: int, high: int) -> _Check:
    return _Check((int,), f"an integer from {low} to {high}", low, high)


_WORD = _Check((str,), f"a word of at most {MAX_WORD_LENGTH} characters without white space", form=is_word)
_TWO_WORDS = _Check((str,), f"two words of at most {MAX_WORD_LENGTH} characters each", form=_is_two_words)
_TRUTH = _Check((bool,), "true or false", 0, 1)
_SHARE = _Check((float, int), "a number from 0 to 1", 0, 1)
_BOOST, _BASE_STAT, _PP = _integer(-6, 6), _integer(0, 999), _integer(-999, 999)
_CHECKS = {
    "types": _TWO_WORDS,
    "hp_pct": _SHARE,
    "accuracy": _SHARE,
    "lvl": _integer(1, 9999),  # as far as Showdown's custom games go
    "base_power": _integer(0, 999),
    "priority": _integer(-20, 20),
    "current_pp": _PP,
    "max_pp": _PP,
    "opponents_remaining": _integer(-MAX_LISTED, MAX_LISTED),
    **{f"{stat}_boost": _BOOST for stat in ("atk", "spa", "def", "spd", "spe", "accuracy", "evasion")},
    **{f"base_{stat}": _BASE_STAT for stat in ("atk", "spa", "def", "spd", "spe", "hp")},
}
_BY_TYPE = {"str": _WORD, "bool": _TRUTH}  # annotations are strings here


class _Schema:
    """The fields of a class in the order of its files, and what those that hold no objects or lists must be."""

    def __init__(self, cls: type) -> None:
        self.title = cls.__name__
        self.names = [field.name for field in fields(cls)]
        found = {field.name: _CHECKS.get(field.name, _BY_TYPE.get(str(field.type))) for field in fields(cls)}
        self.checks = {name: check for name, check in found.items() if check is not None}
        self._pick = itemgetter(*self.checks)
        self._check_known = lru_cache(8192, typed=True)(self._check)  # the same come again and again; true is no 1

    def read(self, data: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The values by field. Raises DataError, naming the field, where one is missing or not as it must be."""
        return dict(zip(self.checks, self.values(data, defaults), strict=True))

    def values(self, data: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Any, ...]:
        try:
            values: tuple[Any, ...] = self._pick(data)
        except KeyError:
            data = {**defaults, **data}
            for name, check in self.checks.items():
                if name not in data:
                    raise DataError(f"{self.title}.{name} is missing; expected {check.expected}") from None
            values = self._pick(data)
        try:
            self._check_known(*values)
        except TypeError:  # where a word or a number is meant stands a list or an object, which has no hash
            self._check(*values)
        return values

    def _check(self, *values: Any) -> None:
        for (name, check), value in zip(self.checks.items(), values, strict=True):
            if not check.fits(value):
                raise DataError(f"{self.title}.{name} is {shown(value)}; expected {check.expected}")


_MOVE, _POKEMON, _BATTLE = _Schema(MoveState), _Schema(PokemonState), _Schema(BattleState)
_known_move = lru_cache(8192, typed=True)(MoveState)


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _require_object(data.get(name), name)


def _objects(data: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    listed = _list(data, name)
    for index, value in enumerate(listed):
        if type(value) is not dict:
            _require_object(value, f"{name}[{index}]")
    return listed


def _require_object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{name} is {shown(value)}; expected a JSON object")
    return value


def _list(data: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = data.get(name)
    if not isinstance(value, list):
        raise DataError(f"{name} is {shown(value)}; expected a JSON list")
    if len(value) > MAX_LISTED:
        raise DataError(f"{name} holds {len(value)} entries; expected at most {MAX_LISTED}")
    return value
