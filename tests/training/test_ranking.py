"""Battles ranked by the advantage of what was decided in them."""

from pathlib import Path

import pytest
import torch
from support.small_agent import BATTLES, SMALL, TINY

from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import collate, load_encoded, take_window
from gemma_metamon.nets.batch import countable_actions
from gemma_metamon.runs import resolve
from gemma_metamon.training.ranking import mean_advantages
from gemma_metamon.view import BattleView

LENGTH = 12


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_battles_rank_is_by_the_mean_advantage_of_its_known_decisions(tmp_path: Path, batch_size: int) -> None:
    view = BattleView.default()
    overrides = ["MultiTaskAgent.baseline = 'state'", "MultiTaskAgent.lambda_return = 1.0"]
    resolve.load(TINY, "binary_rl.gin", [*SMALL, *overrides])
    agent = configurable(EXPERIMENT)().build_agent(view)
    damaged = tmp_path / "damaged.json.lz4"
    damaged.write_bytes(b"nothing")
    battles = [damaged, *sorted((BATTLES / "gen1ou").glob("*.lz4"))[:4]]
    means = mean_advantages(agent, battles, view, LENGTH, batch_size)
    assert agent.training
    agent.eval()
    assert means[0] is None
    for battle, mean in zip(battles[1:], means[1:], strict=True):
        batch = collate([take_window(load_encoded(battle, view), 0, LENGTH)])
        advantages, _ = agent.judge_recorded(batch)
        known: torch.Tensor = advantages[countable_actions(batch)]
        assert mean == pytest.approx(float(known.mean()), rel=1e-4, abs=0.01)
