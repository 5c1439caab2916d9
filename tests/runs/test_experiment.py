"""What the gin configuration of a run makes of both agents, and what is warned of before it starts."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.amago_goldens import experiment
from support.small_agent import TINY, train_command

from gemma_metamon.battle.rewards import REWARD_FUNCTIONS
from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.experiment import returns_beyond_bins
from gemma_metamon.runs.loading import load_agent

AGENT_CONFIG = f"""
include "{TINY}"
MetamonAMAGOExperiment.agent_type = @agent.Agent
Agent.actor_type = @MetamonMaskedActor
Agent.pass_obs_keys_to_actor = ["illegal_actions"]
Agent.critic_type = @actor_critic.NCritics
NCritics.d_hidden = 16
"""


def agent_with(*, reward_multiplier: float = 10.0, uses_critics: bool = True) -> SimpleNamespace:
    critics = NCriticsTwoHot(4, 3, [0.9], True, 2, min_return=-1100, max_return=1100, use_symlog=False)
    options = SimpleNamespace(owner="MultiTaskAgent", reward_multiplier=reward_multiplier)
    return SimpleNamespace(critics=critics, uses_critics=uses_critics, options=options)


def test_a_win_beyond_the_bins_is_warned_of_with_numbers_and_mend() -> None:
    message = returns_beyond_bins(agent_with(), REWARD_FUNCTIONS["AggressiveShapedReward"])
    assert message is not None
    for part in ("AggressiveShapedReward", "200 for a win x reward_multiplier 10 = 2000", "-1100 to 1100"):
        assert part in message
    assert "max_return = 2200" in message
    assert "reward_multiplier = 5" in message


def test_what_fits_or_does_not_matter_is_not_warned_of() -> None:
    aggressive = REWARD_FUNCTIONS["AggressiveShapedReward"]
    assert returns_beyond_bins(agent_with(), REWARD_FUNCTIONS["DefaultShapedReward"]) is None
    assert returns_beyond_bins(agent_with(reward_multiplier=5.0), aggressive) is None
    assert returns_beyond_bins(agent_with(uses_critics=False), aggressive) is None
    scalar = agent_with()
    scalar.critics = NCritics(4, 3, True, [0.9], 2)
    assert returns_beyond_bins(scalar, aggressive) is None


def test_training_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert main(train_command(tmp_path, "--reward_function", "AggressiveShapedReward")) == 0
    assert [record.message for record in caplog.records if "beyond the critics' bins" in record.message] != []
    assert caplog.text.count("beyond the critics' bins") == 1


def test_the_learning_rate_rises_falls_in_a_straight_line_and_stays_low() -> None:
    settings = experiment(lr_warmup_steps=4, lr_decay_updates=104)
    factors = [settings.learning_rate_factor(update) for update in (0, 2, 4, 54, 103, 104, 10_000)]
    assert factors == pytest.approx([0, 0.5, 1, 0.5, 0.02, 0.02, 0.02])
    steady = experiment(lr_warmup_steps=0)
    assert [steady.learning_rate_factor(update) for update in (0, 10_000)] == [1, 1]


def test_a_fall_that_would_end_before_the_warm_up_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="lr_decay_updates is 40, but the learning rate rises until lr_warmup_steps, 40"
    ):
        experiment(lr_warmup_steps=40, lr_decay_updates=40)


@pytest.mark.parametrize(
    "training", ["il.gin", "binary_rl.gin", "binary_rl_critic_warmup.gin", "exp_rl.gin", "binary_maxq_rl.gin"]
)
@pytest.mark.parametrize("agent", ["Agent", "MultiTaskAgent"])
def test_every_training_config_trains_either_agent(agent: str, training: str, tmp_path: Path) -> None:
    config = tmp_path / "agent.gin"
    config.write_text(AGENT_CONFIG if agent == "Agent" else f'include "{TINY}"')
    lacks = ("NCriticsTwoHot",) if agent == "Agent" else ()
    assert main(train_command(tmp_path, training=training, model=str(config), lacks=lacks)) == 0
    trained, meta = load_agent(Checkpoint(tmp_path / "run", 1), "cpu")
    assert type(trained).__name__ == agent
    assert meta.updates == 2
    assert all(torch.isfinite(parameter).all() for parameter in trained.parameters())
