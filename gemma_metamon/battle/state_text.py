"""A battle's states as JSON text, to the byte what `json.dumps` makes of their `to_dict`.

Most of a state is that of the state before it: the bench, the moves. What is the same object in both is written once.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import lru_cache
from math import isfinite
from operator import attrgetter
from typing import Any

from gemma_metamon.battle.state import BattleState, MoveState, PokemonState

_quoted: Callable[[str], str] = lru_cache(maxsize=8192)(json.dumps)
"""Of a word; the same come again and again."""


def states_text(states: Sequence[BattleState]) -> str:
    """A JSON list, in ASCII."""
    written: dict[int, str] = {}  # by the object's id, which is its own while `states` holds it

    def text(value: Any) -> str:
        kind = type(value)
        if kind is str:
            return _quoted(value)
        if kind is int or (kind is float and isfinite(value)):
            return repr(value)
        if kind is bool:
            return "true" if value else "false"
        if kind in (tuple, list):
            return f"[{', '.join([text(item) for item in value])}]"
        if kind not in _FORMS:
            return json.dumps(value)
        known = written.get(id(value))
        if known is None:
            form, values_of = _FORMS[kind]
            known = written[id(value)] = form % tuple([text(item) for item in values_of(value)])
        return known

    return text(tuple(states))


def _form(kind: type[MoveState] | type[PokemonState] | type[BattleState]) -> tuple[str, Callable[[Any], Any]]:
    """The text of an object with a place for each value, and what gives its values."""
    names = [field.name for field in fields(kind)]
    return "{" + ", ".join(f'"{name}": %s' for name in names) + "}", attrgetter(*names)


_FORMS = {kind: _form(kind) for kind in (MoveState, PokemonState, BattleState)}
