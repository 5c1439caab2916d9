"""Choices by name and answers that name them: a pair, for every legal choice of the bundled battles."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import BATTLE_FILES

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.battle.state import MAX_WORD_LENGTH, BattleState, is_word
from gemma_metamon.errors import DataError
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.telling.answers import AnswerError, choice_names, parse_answer, split_answer, write_answer
from gemma_metamon.sample_battles import bundled_formats, extract
from gemma_metamon.text.vocabulary import load_display_names

BATTLES_PER_FORMAT = 150


def bundled_battles() -> Iterator[Path]:
    for battle_format in bundled_formats():
        yield from sorted((extract(battle_format) / battle_format).iterdir())[:BATTLES_PER_FORMAT]


@pytest.fixture
def state() -> BattleState:
    """gen9ou, where a move may terastallise."""
    states = [state for path in BATTLE_FILES for state in load_battle(path).states[:-1]]
    return next(state for state in states if state.can_tera and not state.forced_switch and len(state.switches) > 2)


def test_every_legal_choice_of_the_bundled_battles_is_read_back_from_its_answer() -> None:
    seen = 0
    for path in (*bundled_battles(), *BATTLE_FILES):
        for decision in recorded_decisions(load_battle(path)):
            assert len(set(decision.choices.values())) == len(decision.choices)
            for action, choice in decision.choices.items():
                assert parse_answer(write_answer(choice), decision.choices) == action
                assert parse_answer(write_answer(choice.upper(), "it's <b>best</b>\n"), decision.choices) == action
                seen += 1
    assert seen > 10_000


WORDS = st.one_of(
    st.sampled_from(list(load_display_names())), st.text(min_size=1, max_size=MAX_WORD_LENGTH).filter(is_word)
).filter(lambda word: not {"<", ">"} & set(word))


@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(WORDS, max_size=5), st.text(), st.booleans())
def test_choices_of_any_names_have_distinct_answers(
    moves: list[str], bench: list[str], thought: str, tera: bool
) -> None:
    base = load_battle(BATTLE_FILES[0]).states[0]
    active, move = base.player_active_pokemon, base.player_active_pokemon.moves[0]
    made = replace(
        base,
        player_active_pokemon=replace(active, moves=tuple(replace(move, name=word) for word in moves)),
        available_switches=tuple(replace(active, name=word) for word in bench),
    )
    actions = [*range(len(moves)), *range(4, 4 + len(bench)), *(range(9, 9 + len(moves)) if tera else ())]
    choices = choice_names(made, actions)
    assert list(choices) == actions
    for action, choice in choices.items():
        answer = write_answer(choice, thought.replace("<", "("))
        assert parse_answer(answer, choices) == action
        assert split_answer(answer)[0] == thought.replace("<", "(").strip()


def test_two_of_one_name_are_told_apart(state: BattleState) -> None:
    first = state.switches[0]
    twice = replace(state, available_switches=(first, first))
    names = list(choice_names(twice, [4, 5]).values())
    assert names[1] == f"{names[0]} (2)"


def test_names_that_differ_in_capitals_alone_are_told_apart(state: BattleState) -> None:
    bench = tuple(replace(state.switches[0], name=name) for name in ("Abc", "abc"))
    assert list(choice_names(replace(state, available_switches=bench), [4, 5]).values()) == [
        "switch Abc",
        "switch abc (2)",
    ]


def test_a_choice_is_called_what_the_request_offers_and_the_pokemon_does_not_know(state: BattleState) -> None:
    assert choice_names(state, [0], {0: "recharge"}) == {0: "move Recharge"}


def test_an_action_that_the_state_has_no_name_for_is_refused(state: BattleState) -> None:
    with pytest.raises(DataError, match=r"action 8 names nothing: there are 4 moves"):
        choice_names(replace(state, available_switches=()), [0, 8])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "0 <SOLUTION> blocks; give exactly one"),
        ("move Rest", "0 <SOLUTION> blocks"),
        ("<SOLUTION>move Rest</SOLUTION><SOLUTION>move Rest</SOLUTION>", "2 <SOLUTION> blocks"),
        ("<SOLUTION>move Rest</SOLUTION><REASONING>so</REASONING>", "before the <SOLUTION>"),
        ("<REASONING>a</REASONING><REASONING>b</REASONING><SOLUTION>move Rest</SOLUTION>", "at most one <REASONING>"),
        ("<REASONING>a<SOLUTION>move Rest</SOLUTION>", "text outside"),
        ("<REASONING>a<SOLUTION>b</REASONING><SOLUTION>move Rest</SOLUTION>", "lies in another one"),
        ("I choose <SOLUTION>move Rest</SOLUTION>", "text outside of the blocks"),
        ("<SOLUTION>Rest</SOLUTION>", "'Rest' is no choice here; choose one of move Rest, switch Jynx"),
        ("<SOLUTION>1</SOLUTION>", "'1' is no choice here"),
        ("<SOLUTION>move Rest, Terastallize</SOLUTION>", "is no choice here"),
    ],
)
def test_an_answer_of_another_form_or_of_no_legal_choice_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(AnswerError) as caught:
        parse_answer(text, {3: "move Rest", 4: "switch Jynx"})
    assert complaint in str(caught.value)


def test_spaces_capitals_and_a_curly_apostrophe_do_not_count() -> None:
    text = "\n<SOLUTION> switch  sirfetch\N{RIGHT SINGLE QUOTATION MARK}d </SOLUTION>\n"
    assert parse_answer(text, {4: "switch Sirfetch'd"}) == 4
