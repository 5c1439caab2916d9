"""Every word of a turn is in exactly one slot, and the slot's name says what it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import BATTLE_FILES, observation_golden

from gemma_metamon.battle.observations import OBSERVATION_SPACES, ObservationSpace
from gemma_metamon.battle.replays import load_battle
from gemma_metamon.errors import ConfigError
from gemma_metamon.text.slots import find_space, split_turn

SPACES = list(OBSERVATION_SPACES.values())
RECORDED = [*SPACES[:4]]
"""Those of goldens/observations, which are lines with tags."""
TAGS = {"player": "<player>", "move 1": "<move>", "move 4": "<move>", "bench 1": "<switch>", "bench 5": "<switch>"}
TAGS |= {"opponent": "<opponent>", "conditions": "<conditions>"}
TAGS |= {"player's last move": "<player_prev>", "opponent's last move": "<opp_prev>"}


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_every_word_is_in_exactly_one_slot_in_the_order_of_the_turn(space: ObservationSpace) -> None:
    slots = split_turn(space)
    assert [word for slot in slots for word in range(slot.start, slot.stop)] == list(range(space.n_words))
    assert len({slot.name for slot in slots}) == len(slots)


@pytest.mark.parametrize("space", RECORDED, ids=lambda space: space.name)
@pytest.mark.parametrize("path", BATTLE_FILES[::7], ids=lambda path: path.name[:26])
def test_slots_begin_with_the_tag_of_what_they_are_named_for(space: ObservationSpace, path: Path) -> None:
    """On metamon's own words of recorded battles, all turns of them."""
    with np.load(observation_golden(path)) as golden:
        text = np.array([line.split(" ") for line in golden[f"{space.name}/text"]])  # (T, n_words)
    at = {slot.name: text[:, slot.start : slot.stop] for slot in split_turn(space)}
    for name, tag in TAGS.items():
        assert set(at[name][:, 0]) == {tag}, name
    # a tag begins an entity, but for the word before a benched Pokémon's moves
    for name, words in at.items():
        inner = {word for word in words[:, 1:].ravel() if word.startswith("<")}
        assert inner <= {"<blank>", "<moveset>", "<forcedswitch>", "<anychoice>"}, name


def test_the_spaces_differ_as_they_should() -> None:
    counts = {space.name: len(split_turn(space)) for space in SPACES}
    assert [*counts.values()] == [15, 16, 17, 21, 13, 16, 17, 21]
    opponent_move = [slot.name for slot in split_turn(RECORDED[-1])]
    assert opponent_move.index("opponent's move 1") == opponent_move.index("opponent") + 1
    assert opponent_move[-2:] == ["revealed", "preview"]


def test_the_groups_are_entities_with_the_last_one_in_parts(battle_file: Path) -> None:
    """A Pokémon has one text, whether it fights or waits; all else of the turn is by itself."""
    space = OBSERVATION_SPACES["GroupedObservationSpace"]
    states = load_battle(battle_file).states
    words, _ = space.observe_battle(states)
    at = {slot.name: words[:, slot.start : slot.stop] for slot in split_turn(space)}
    for t, state in enumerate(states):
        assert at["player"][t, 0] == state.player_active_pokemon.name
        assert at["opponent"][t, 0] == state.opponent_active_pokemon.name
        bench = [at[f"bench {index}"][t, 0] for index in range(1, 6)]
        assert bench == [*(p.name for p in state.switches), *["<blank>"] * (5 - len(state.switches))]
        assert at["format"][t].tolist() == ["<gen9ou>", "<forcedswitch>" if state.forced_switch else "<anychoice>"]
        field = "<blank>" if state.battle_field == "nofield" else state.battle_field
        conditions = [state.weather, field, state.player_conditions, state.opponent_conditions]
        assert at["conditions"][t].tolist() == conditions
        assert at["player's last move"][t].tolist() == [state.player_prev_move.name]
        assert at["opponent's last move"][t].tolist() == [state.opponent_prev_move.name]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_a_space_is_found_by_its_name(space: ObservationSpace) -> None:
    assert find_space(space.n_words, space.name) is space


def test_a_width_whose_turns_are_all_split_alike_needs_no_name() -> None:
    """Where tera types are hidden stands a word, too: a run from before those spaces finds its own."""
    assert [find_space(n_words, None) for n_words in (87, 100, 104)] == [SPACES[0], SPACES[1], SPACES[4]]


@pytest.mark.parametrize(
    ("n_words", "name", "told"),
    [
        (106, None, r"TeamPreview.* and OpponentMove.* both have 106 .*GemmaTstepEncoder.observation_space = 'Team"),
        (12, None, r"no observation space .* 12 words.* choose one of Default.* \(87\).* or read .* = 'turn'"),
        (106, "MySpace", r"unknown .* 'MySpace'; choose one of Default.* or read turns whole: .* = 'turn'"),
        (106, "DefaultObservationSpace", r"Default.* has 87 words, but the observations have 106; correct Gemma"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_mend(n_words: int, name: str | None, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        find_space(n_words, name)


@pytest.fixture(scope="module")
def script() -> Any:
    import count_entities

    return count_entities


def test_each_text_is_counted_once_in_a_batch(script: Any) -> None:
    """By hand: three turns of two entities, two of them the same; a text has as many subwords as words, and bos."""
    first, second = [("a",), ("b", "c")], [("d", "e"), ("b", "c")]
    lengths = {text: 1 + len(text) for turn in (first, second) for text in (*turn, sum(turn, ()))}
    assert script.count([first, second, first], lengths) == {
        "timesteps": 3,
        "entities": 3,
        "entities_per_turn": 1.0,
        "turn_subwords_all": (4 + 5 + 4) / 3,
        "turn_subwords": (4 + 5) / 3,
        "entity_subwords": (2 + 3 + 3) / 3,
        "ratio": 9 / 8,
    }
