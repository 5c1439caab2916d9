"""The user's text: all that is legal is in it, nothing that a player cannot know, and it follows from the decision."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.paths import BATTLE_FILES

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.telling.answers import choice_names
from gemma_metamon.language.telling.prompts import BLANK, BattleSoFar, Decision, messages_of, user_text
from gemma_metamon.text.vocabulary import load_display_names

NAMES = load_display_names()


@pytest.mark.parametrize("path", BATTLE_FILES, ids=lambda path: path.name[:24])
def test_a_text_has_the_choices_both_actives_and_the_past(path: Path) -> None:
    battle = load_battle(path)
    for decision, again in zip(recorded_decisions(battle, 2), recorded_decisions(battle, 2), strict=True):
        text, state = user_text(decision), decision.state
        assert text == user_text(again)
        for action, choice in decision.choices.items():
            assert action >= 9 or f"\n{choice}" in text
        assert NAMES.get(state.player_active_pokemon.name, state.player_active_pokemon.name) in text
        assert NAMES.get(state.opponent_active_pokemon.name, state.opponent_active_pokemon.name) in text
        assert text.count("\nTurn ") == len(decision.history) <= 2
        assert ("Terastallize" in text.partition("Choices:")[2]) == (max(decision.choices, default=0) >= 9)
        assert "unknown" not in text


def test_what_was_not_shown_of_the_opponent_changes_nothing() -> None:
    """A state holds the opponent's base stats and PP, which a text must not tell, and of its team only who was seen."""
    battle = load_battle(BATTLE_FILES[0])
    for decision in recorded_decisions(battle):
        foe = decision.state.opponent_active_pokemon
        hidden = replace(
            foe,
            base_spe=1,
            base_atk=1,
            moves=tuple(replace(move, max_pp=1, base_power=1, accuracy=0.5) for move in foe.moves),
        )
        other = replace(decision, state=replace(decision.state, opponent_active_pokemon=hidden))
        assert user_text(other) == user_text(decision)


def test_the_opponents_team_is_what_was_on_the_field_before() -> None:
    for path in BATTLE_FILES:
        met: list[str] = []
        for decision in recorded_decisions(load_battle(path)):
            there = decision.state.opponent_active_pokemon.base_species
            assert {pokemon.base_species for pokemon in decision.seen} == {*met} - {there}
            met.append(there)


def test_a_forced_switch_is_of_the_same_turn() -> None:
    for path in BATTLE_FILES:
        turns = [(d.turn, d.state.forced_switch) for d in recorded_decisions(load_battle(path))]
        assert turns[0][0] == 1
        for (before, _), (turn, forced) in pairwise(turns):
            assert turn == before + (not forced)


def test_a_live_battles_decision_is_told_as_the_recorded_one() -> None:
    """What a player does request by request gives the chats of the recording."""
    battle = load_battle(BATTLE_FILES[-1])
    so_far = BattleSoFar(2)
    for decision, action in zip(recorded_decisions(battle, 2), battle.actions, strict=False):
        choices = choice_names(decision.state, decision.choices)
        assert messages_of(so_far.decide(decision.state, choices)) == messages_of(decision)
        so_far.chose(choices.get(action, ""))


def test_the_blank_text_is_the_same_for_all() -> None:
    texts = {messages_of(d, blank=True)[1]["content"] for d in recorded_decisions(load_battle(BATTLE_FILES[0]))}
    assert texts == {BLANK}


def test_a_choice_that_is_no_move_of_the_pokemon_stands_alone() -> None:
    state = next(s for s in load_battle(BATTLE_FILES[0]).states if not s.forced_switch)
    decision = Decision(state=state, choices=choice_names(state, np.array([0]), {0: "recharge"}))
    assert user_text(decision).endswith("Choices:\nmove Recharge")
