"""docs/architecture.md tells the way of a battle into a batch with shapes: those that the code gives."""

import re
from pathlib import Path

import pytest
from support.paths import ROOT

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_recorded
from gemma_metamon.view import BattleView


@pytest.fixture
def sizes() -> dict[str, int]:
    """W, N and A as the page has them."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return {name: int(size) for name, size in re.findall(r"\b([WNA]) = (\d+)", page)}


def test_a_battle_becomes_a_batch_of_the_shapes_that_the_architecture_tells(
    battle_file: Path, sizes: dict[str, int]
) -> None:
    W, N, A = (sizes[name] for name in "WNA")
    view = BattleView.default()
    assert view.obs_space.name == "TeamPreviewObservationSpace"
    recorded = load_battle(battle_file)
    T = len(recorded.states)
    words, numbers = view.obs_space.observe_battle(recorded.states)
    assert (words.shape, numbers.shape) == ((T, W), (T, N))
    encoded = encode_recorded(recorded, view)
    assert (encoded.word_ids.shape, encoded.legal_actions.shape, encoded.labels.shape) == ((T, W), (T, A), (T,))
    window = take_window(encoded, 2, 5)
    assert (window.rl2s.shape, window.actions.shape, window.dones.shape) == ((6, 1 + A), (5, A), (5, 1))
    batch = collate([window, take_window(encoded, 0, 9)])
    assert batch.obs["text_tokens"].shape == (2, 10, W)
    assert (batch.rl2s[0, 6:] == 4.0).all()
    assert batch.rewards.shape == (2, 9, 1)
