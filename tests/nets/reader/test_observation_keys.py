"""Under which names the encoder finds words and numbers: one array each, or metamon's groups, and nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.encoders import ACTIONS
from support.paths import BATTLE_FILES
from support.small_agent import BACKBONE
from torch import Tensor

from gemma_metamon.battle.observation_groups import GROUPS
from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.battle.replays import load_battle
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.observation_keys import ObservationKeys
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.text.vocabulary import Vocabulary

GROUPED = OBSERVATION_SPACES["GroupedObservationSpace"]
GROUP_WORDS = {f"text_{group}_tokens": 20 if group == "misc" else 12 for group in GROUPS}
GROUP_NUMBERS = {f"numbers_{group}": 4 if group == "misc" else 31 for group in GROUPS}


def spaces(**widths: int) -> dict[str, Any]:
    return {name: SimpleNamespace(shape=(width,)) for name, width in widths.items()}


def build(obs_space: dict[str, Any], **options: Any) -> GemmaTstepEncoder:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"backbone_config": BACKBONE, "text_emb_dim": 24, "summary_tokens": 3}
    rl2_space = SimpleNamespace(shape=(1 + ACTIONS,))
    return GemmaTstepEncoder(obs_space, rl2_space, pretrained=False, text_cache_mb=0, **sizes, **options).eval()


def as_metamon_gives(obs: dict[str, Tensor]) -> dict[str, Tensor]:
    """One row of words and one of numbers as metamon's arrays, in another order than a turn's."""
    given: dict[str, Tensor] = {}
    for joined, widths in (("numbers", GROUP_NUMBERS), ("text_tokens", GROUP_WORDS)):
        parts = obs[joined].split(list(widths.values()), dim=-1)
        given |= dict(reversed(list(zip(widths, parts, strict=True))))
    return given


@pytest.mark.parametrize(("granularity", "phrasing"), [("turn", "natural"), ("entity", "natural"), ("entity", "raw")])
def test_metamons_groups_are_read_as_one_row_is(granularity: str, phrasing: str) -> None:
    """The same weights, so that a run of either runtime plays in the other."""
    options = {"granularity": granularity, "phrasing": phrasing}
    theirs = build(spaces(**GROUP_NUMBERS, **GROUP_WORDS, illegal_actions=13, missing_action_mask=1), **options)
    ours = build(spaces(text_tokens=104, numbers=221, illegal_actions=13), **options)
    ours.load_state_dict(theirs.state_dict())
    words, numbers = GROUPED.observe_battle(load_battle(BATTLE_FILES[-1]).states[:6])
    obs = {
        "text_tokens": torch.from_numpy(Vocabulary.default().encode(words)).view(2, 3, -1),
        "numbers": torch.from_numpy(numbers).view(2, 3, -1),
    }
    rl2s = torch.randn(2, 3, 1 + ACTIONS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ours(obs, rl2s)
        assert (expected[:, 0] - expected[:, 1]).abs().max() > 1e-3  # it does read them
        torch.testing.assert_close(theirs(as_metamon_gives(obs), rl2s), expected, rtol=0, atol=0)


def test_the_groups_are_found_in_any_order_and_joined_in_a_turns() -> None:
    keys = ObservationKeys.find(dict(reversed(spaces(**GROUP_WORDS, **GROUP_NUMBERS).items())))
    assert keys.words == tuple(GROUP_WORDS) == GROUPED.word_keys
    assert keys.numbers == tuple(GROUP_NUMBERS) == GROUPED.number_keys
    assert (keys.n_words, keys.n_numbers) == (GROUPED.n_words, GROUPED.n_numbers)


@pytest.mark.parametrize(
    ("obs_space", "told"),
    [
        (spaces(image=5), r"nothing to read in the observations 'image': the encoder reads 'text_tokens' with"),
        ({}, r"nothing to read in the observations \(none\)"),
        (spaces(numbers=5), r"'text_tokens' is no vector among the observations 'numbers'"),
        ({**spaces(numbers=5), "text_tokens": SimpleNamespace(shape=())}, "'text_tokens' is no vector"),
        (
            spaces(text_tokens=5, numbers=5, text_team_tokens=6, scene=9),
            r"hold 'scene', 'text_team_tokens', which would go unread: .* or the groups of GroupedObservationSpace; "
            r"choose one of DefaultObservationSpace, .*PAC-OpponentMoveObservationSpace",
        ),
        (
            spaces(**{name: width for name, width in (GROUP_WORDS | GROUP_NUMBERS).items() if "switch_4" not in name}),
            r"'text_switch_4_tokens' is no vector among the observations 'numbers_active_pokemon', ",
        ),
        (spaces(**GROUP_WORDS, **GROUP_NUMBERS, text_switch_5_tokens=12), "hold 'text_switch_5_tokens', which would"),
        (spaces(**GROUP_WORDS, **GROUP_NUMBERS, text_tokens=87, numbers=48), "hold 'numbers', 'text_tokens', which"),
    ],
)
def test_observations_of_which_a_part_would_go_unread_are_refused_by_name(obs_space: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(obs_space)


def test_groups_of_another_width_are_no_entities() -> None:
    with pytest.raises(ConfigError, match=r"GroupedObservationSpace has 104 words, but the observations have 105"):
        build(
            spaces(**GROUP_WORDS | {"text_misc_tokens": 21}, **GROUP_NUMBERS),
            granularity="entity",
            observation_space="GroupedObservationSpace",
        )
