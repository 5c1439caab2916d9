"""Words and numbers of every space equal metamon 1.6.0's, bit for bit (see tests/goldens/README.md)."""

import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import BATTLE_FILES, GOLDENS

from gemma_metamon.battle.actions import ACTION_SPACES
from gemma_metamon.battle.observations import OBSERVATION_SPACES, get_observation_space
from gemma_metamon.battle.replays import load_battle
from gemma_metamon.battle.rewards import REWARD_FUNCTIONS
from gemma_metamon.battle.state import BattleState
from gemma_metamon.commands._arguments import SPACES
from gemma_metamon.errors import ConfigError
from gemma_metamon.text.slots import split_turn
from gemma_metamon.text.vocabulary import METAMON_WORD_LISTS, Vocabulary

RECORDED = GOLDENS / "spaces"
NAMES = json.loads((RECORDED / "names.json").read_text())
DIGESTS = json.loads((RECORDED / "digests.json").read_text())
ODD = json.loads(lzma.decompress((RECORDED / "odd_states.json.xz").read_bytes()))
EACH_SPACE = pytest.mark.parametrize("space", OBSERVATION_SPACES.values(), ids=lambda space: space.name)
PAC = [name for name in OBSERVATION_SPACES if name.startswith("PAC-")]


# ---- the names


def test_the_spaces_are_metamons_each_with_the_arrays_that_metamon_gives() -> None:
    ours = {name: {*space.word_keys, *space.number_keys} for name, space in OBSERVATION_SPACES.items()}
    assert ours == {name: set(keys) for name, keys in NAMES["observation_spaces"].items()}
    for name, keys in NAMES["observation_spaces"].items():
        space = OBSERVATION_SPACES[name]
        assert space.n_words == sum(keys[key][0] for key in space.word_keys)
        assert space.n_numbers == sum(keys[key][0] for key in space.number_keys)


def test_metamon_has_no_action_space_reward_or_word_list_that_is_unknown_here() -> None:
    assert sorted(ACTION_SPACES) == NAMES["action_spaces"]
    assert sorted(REWARD_FUNCTIONS) == NAMES["reward_functions"]
    assert sorted(METAMON_WORD_LISTS) == sorted(NAMES["tokenizers"])


@pytest.mark.parametrize(
    ("flag", "registry"),
    [("obs_space", OBSERVATION_SPACES), ("action_space", ACTION_SPACES), ("reward_function", REWARD_FUNCTIONS)],
)
def test_the_help_lists_the_registry(flag: str, registry: dict[str, Any]) -> None:
    listed = SPACES[flag][1].partition(": ")[2].replace(" or ", ", ").split(", ")
    assert listed == list(registry)


def test_a_near_name_is_told() -> None:
    """metamon's class has no hyphen, its name has one."""
    told = r"'PACTeamPreviewObservationSpace'; did you mean PAC-TeamPreviewObservationSpace\? choose one of Default"
    with pytest.raises(ConfigError, match=told):
        get_observation_space("PACTeamPreviewObservationSpace")


@pytest.mark.upstream
def test_the_recorded_names_are_those_of_the_metamon_that_is_installed() -> None:
    interface = pytest.importorskip("metamon.interface")
    known = {*interface.get_observation_space_names()} - {"PatchPokeAgentTeraBug"}  # which takes another space
    assert known <= {*OBSERVATION_SPACES}
    assert {*interface.get_action_space_names()} == {*ACTION_SPACES}
    assert {*interface.get_reward_function_names()} == {*REWARD_FUNCTIONS}


# ---- the values


def read_lines(words: np.ndarray) -> list[str]:
    return [" ".join(row) for row in words]


def place(path: Path) -> str:
    return path.relative_to(GOLDENS / "battles").as_posix()


@pytest.mark.parametrize("path", BATTLE_FILES, ids=lambda path: path.name[:26])
@EACH_SPACE
def test_every_battle_is_shown_as_metamon_shows_it(path: Path, space: Any) -> None:
    words, numbers = space.observe_battle(load_battle(path).states)
    shown = "\n".join(read_lines(words)).encode() + numbers.astype("<f4").tobytes()
    assert hashlib.sha256(shown).hexdigest() == DIGESTS[place(path)][space.name]


@pytest.mark.parametrize("file", ["grouped.npz", "pac.npz"])
def test_whole_battles_are_shown_as_metamon_shows_them(file: str) -> None:
    """What a digest says of all battles, word by word of some."""
    with np.load(RECORDED / file) as golden:
        shown = {key.rpartition("/")[0] for key in golden}
        assert len(shown) >= 3
        for key in sorted(shown):
            name, _, battle = key.partition("/")
            words, numbers = OBSERVATION_SPACES[name].observe_battle(load_battle(GOLDENS / "battles" / battle).states)
            assert read_lines(words) == golden[f"{key}/text"].tolist()
            np.testing.assert_array_equal(numbers, golden[f"{key}/numbers"])


@EACH_SPACE
def test_states_that_no_game_brings_about_are_shown_as_metamon_shows_them(space: Any) -> None:
    """No bench, no moves, seven in the preview, a format with a long timer, Conversion beside Conversion 2, ..."""
    for battle in ODD:
        lines, rows = battle["shown"][space.name]
        words, numbers = space.observe_battle([BattleState.from_dict(state) for state in battle["states"]])
        assert read_lines(words) == lines
        np.testing.assert_array_equal(numbers, np.array(rows, dtype=np.float32))


@EACH_SPACE
def test_every_word_that_a_recorded_battle_shows_is_known(space: Any) -> None:
    vocabulary = Vocabulary.default()
    for path in BATTLE_FILES:
        vocabulary.encode(space.observe_battle(load_battle(path).states)[0])
    assert set(vocabulary.unknown_counts) <= {"aaaextra"}  # of an edge case


# ---- what the PAC spaces hide


@pytest.mark.parametrize("name", PAC)
def test_a_pac_space_hides_the_players_own_tera_types_and_nothing_else(name: str) -> None:
    hiding, showing = OBSERVATION_SPACES[name], OBSERVATION_SPACES[name.removeprefix("PAC-")]
    own = [slot.stop - 1 for slot in split_turn(hiding) if slot.name == "player" or slot.name.startswith("bench")]
    theirs = next(slot.stop - 1 for slot in split_turn(hiding) if slot.name == "opponent")
    assert len(own) == 6
    differing, shown = set(), set()
    for path in BATTLE_FILES:
        states = load_battle(path).states
        hidden_words, hidden_numbers = hiding.observe_battle(states)
        words, numbers = showing.observe_battle(states)
        np.testing.assert_array_equal(hidden_numbers, numbers)
        differing |= set(np.argwhere(hidden_words != words)[:, 1].tolist())
        shown |= set(hidden_words[:, theirs].tolist())
        assert set(hidden_words[:, own].ravel().tolist()) <= {"notype", "<blank>"}
    assert differing <= set(own)
    assert len(differing) >= 5  # no recorded Pokémon with a tera type stands last on the bench
    assert len(shown) > 1  # the opponent's own


def test_the_documentation_lists_every_space_with_its_sizes() -> None:
    text = (GOLDENS.parents[1] / "docs" / "reference" / "observation_spaces.md").read_text(encoding="utf-8")
    for space in OBSERVATION_SPACES.values():
        assert f"| {space.name} | {space.n_words} | {space.n_numbers} | {len(split_turn(space))} |" in text
