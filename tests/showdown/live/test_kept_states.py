"""A Pokémon that has not changed keeps its state from decision to decision, and what is kept is what would be read."""

import asyncio
import logging

import pytest
from support.kept_states import compare_states
from support.live_battles import START, new_battle
from support.live_goldens import feed

from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.live.battle import live_battle


@pytest.mark.server
@pytest.mark.parametrize("battle_format", ["gen2randombattle", "gen6customgame", "gen9randombattle"])
def test_a_battle_with_what_was_kept_gives_the_states_that_are_read_anew(battle_format: str) -> None:
    """scripts/check_states.py holds hundreds of battles of all generations to this."""
    logging.disable(logging.WARNING)  # poke-env's, of messages that it does not know
    try:
        with Arena() as arena:
            compared = asyncio.run(compare_states(arena, battle_format, 6, seed=1, player="RandomPlayer"))
    finally:
        logging.disable(logging.NOTSET)
    assert compared.different == []
    assert compared.states > 300
    assert compared.kept > compared.pokemon / 2


def test_only_what_has_changed_is_another_object() -> None:
    rest, slam = "|move|p1a: Snorlax|Rest|p1a: Snorlax", "|move|p1a: Snorlax|Body Slam|p2a: Gengar"
    battle = new_battle(*START, rest, "|turn|2", slam, "|turn|3")
    before = live_battle(battle).state
    feed(battle, ["|-damage|p2a: Gengar|60/100", "|turn|4"])
    after = live_battle(battle).state
    assert after.player_active_pokemon is before.player_active_pokemon
    assert after.opponent_active_pokemon.hp_pct == 0.6
    feed(battle, [rest, "|turn|5"])
    rested = live_battle(battle).state.player_active_pokemon
    assert [move.name for move in rested.moves] == ["rest", "bodyslam"]
    assert rested.moves[0].current_pp == before.player_active_pokemon.moves[0].current_pp - 1
    assert rested.moves[1] is before.player_active_pokemon.moves[1]
