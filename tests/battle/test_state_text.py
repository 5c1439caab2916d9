"""What is the same object in many states is written once, and the file is to the byte what `json.dumps` makes of it."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import BATTLE_FILES

from gemma_metamon.battle.replays import dump_battle, load_battle
from gemma_metamon.battle.state import BattleState, MoveState, PokemonState
from gemma_metamon.battle.state_text import states_text

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(max_size=9),
    "int": st.integers() | st.booleans(),  # 1 is no true, though they are equal
    "float": st.floats() | st.integers(),  # nan, -0.0 and 1 for 1.0
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(st.text(max_size=9), max_size=3).map(tuple),
}


def states_of(kind: Any, **nested: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    leaves = {field.name: VALUES[str(field.type)] for field in fields(kind) if field.name not in nested}
    return st.builds(kind, **leaves, **nested)


@st.composite
def battles(draw: st.DrawFn) -> list[BattleState]:
    """States that share their Pokémon and moves, as those of a battle do; some are equal and not the same."""

    def some(kind: Any, **nested: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.sampled_from(draw(st.lists(states_of(kind, **nested), min_size=1, max_size=3)))

    def several(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(items, max_size=4).map(tuple) | st.lists(items, max_size=2)

    move = some(MoveState)
    pokemon = some(PokemonState, moves=several(move))
    names = ("player_active_pokemon", "opponent_active_pokemon")
    nested = dict.fromkeys(names, pokemon) | dict.fromkeys(("player_prev_move", "opponent_prev_move"), move)
    return draw(st.lists(states_of(BattleState, available_switches=several(pokemon), **nested), max_size=3))


@given(battles())
def test_the_text_of_states_is_that_of_their_dictionaries(states: list[BattleState]) -> None:
    assert states_text(states) == json.dumps([state.to_dict() for state in states])


@pytest.mark.parametrize("path", BATTLE_FILES, ids=lambda p: p.name[:26])
def test_a_recorded_battle_is_written_as_json_writes_it(path: Path) -> None:
    battle = load_battle(path)
    whole = {"states": [state.to_dict() for state in battle.states], "actions": list(battle.actions)}
    assert dump_battle(battle) == json.dumps(whole).encode()
