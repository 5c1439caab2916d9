"""Words, numbers, rewards and actions equal metamon 1.4.0, bit for bit (see tests/goldens/README.md)."""

from pathlib import Path

import numpy as np
import pytest
from support.paths import BATTLE_FILES, GOLDENS, observation_golden

from gemma_metamon.battle.actions import get_action_space
from gemma_metamon.battle.observations import OBSERVATION_SPACES, OpponentMemory, get_observation_space
from gemma_metamon.battle.replays import load_battle
from gemma_metamon.battle.rewards import REWARD_FUNCTIONS, get_reward_function
from gemma_metamon.errors import ConfigError

BATTLES = pytest.mark.parametrize("path", BATTLE_FILES, ids=lambda p: p.name[:26])
OF_140 = [
    OBSERVATION_SPACES[f"{name}ObservationSpace"] for name in ("Default", "Expanded", "TeamPreview", "OpponentMove")
]
"""The rest came later, see test_spaces."""


@BATTLES
@pytest.mark.parametrize("space", OF_140, ids=lambda s: s.name)
def test_words_and_numbers_equal_metamons(path: Path, space) -> None:
    golden = np.load(observation_golden(path))
    words, numbers = space.observe_battle(load_battle(path).states)
    assert [" ".join(row) for row in words] == golden[f"{space.name}/text"].tolist()
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, golden[f"{space.name}/numbers"])


@BATTLES
@pytest.mark.parametrize("reward", REWARD_FUNCTIONS.values(), ids=lambda r: r.name)
def test_rewards_equal_metamons(path: Path, reward) -> None:
    golden = np.load(observation_golden(path))
    np.testing.assert_array_equal(reward.of_battle(load_battle(path).states), golden[f"reward/{reward.name}"])


@pytest.mark.parametrize("space", OBSERVATION_SPACES.values(), ids=lambda s: s.name)
def test_observing_step_by_step_is_observing_the_whole_battle(space, battle_file: Path) -> None:
    states = load_battle(battle_file).states
    words, numbers = space.observe_battle(states)
    memory = OpponentMemory()
    for t, state in enumerate(states):
        step_words, step_numbers = space.observe(state, memory)
        assert step_words == words[t].tolist()
        np.testing.assert_array_equal(step_numbers, numbers[t])
    assert words.shape == (len(states), space.n_words)
    assert numbers.shape == (len(states), space.n_numbers)


def test_the_spaces_have_metamons_widths() -> None:
    widths = {name: (space.n_words, space.n_numbers) for name, space in OBSERVATION_SPACES.items()}
    assert widths == {
        "DefaultObservationSpace": (87, 48),
        "ExpandedObservationSpace": (100, 55),
        "TeamPreviewObservationSpace": (106, 55),
        "OpponentMoveObservationSpace": (106, 55),
        "GroupedObservationSpace": (104, 221),
        "PAC-ExpandedObservationSpace": (100, 55),
        "PAC-TeamPreviewObservationSpace": (106, 55),
        "PAC-OpponentMoveObservationSpace": (106, 55),
    }


@pytest.mark.parametrize("get", [get_observation_space, get_action_space, get_reward_function])
def test_an_unknown_name_lists_the_known_ones(get) -> None:
    with pytest.raises(ConfigError, match=r"'Nope'; choose one of \w+"):
        get("Nope")


def test_every_golden_battle_has_its_observations() -> None:
    assert len(BATTLE_FILES) >= 12
    assert all(observation_golden(path).is_file() for path in BATTLE_FILES)
    assert any("edge_cases" in path.parts for path in (GOLDENS / "battles").rglob("*.lz4"))
