"""The view of all agents here."""

import pytest

from gemma_metamon.view import BattleView


@pytest.fixture
def view() -> BattleView:
    return BattleView.default()
