"""Critics alone in a metamon process: the policy of an agent of amago's is frozen as soon as it is built."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.upstream.critic_warmup import POLICY, freeze_policies


@pytest.fixture(autouse=True)
def _frozen() -> Iterator[None]:
    handle = freeze_policies()
    yield
    handle.remove()


class AmagosAgent(nn.Module):
    """Built in the order of amago's; one layer each, with dropout in it."""

    def __init__(self, online_coeff: float, offline_coeff: float, **options: float) -> None:
        super().__init__()
        self.online_coeff, self.offline_coeff = online_coeff, offline_coeff
        for name, value in options.items():
            setattr(self, name, value)
        for name in ("tstep_encoder", "traj_encoder", "critics", "actor", "target_actor"):
            setattr(self, name, nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))

    def states(self, x: Tensor) -> Any:
        return self.get_submodule("traj_encoder")(self.get_submodule("tstep_encoder")(x))


AmagosAgent.__module__ = "amago.agent"


class FinetuneAgent(AmagosAgent):
    """Somebody else's, of amago's."""


class Stranger(nn.Module):
    """What is no agent of amago's is left alone, whatever it calls its parts."""

    online_coeff = offline_coeff = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.target_actor = nn.Linear(2, 2)


@pytest.mark.parametrize("kind", [AmagosAgent, FinetuneAgent])
def test_the_states_and_the_policy_rest_while_the_critics_learn(
    kind: type[AmagosAgent], caplog: pytest.LogCaptureFixture
) -> None:
    agent = kind(0.0, 0.0, critic_loss_weight=10.0).train()
    x = torch.randn(8, 2)
    torch.testing.assert_close(agent.states(x), agent.states(x), rtol=0, atol=0)
    agent.get_submodule("critics")(agent.states(x)).sum().backward()
    received = {name.split(".")[0] for name, parameter in agent.named_parameters() if parameter.grad is not None}
    assert received == {"critics"}
    assert "the critics train alone" in caplog.text


@pytest.mark.parametrize(("online", "offline"), [(0.0, 1.0), (0.25, 0.0)])
def test_an_agent_whose_actor_learns_is_left_alone(online: float, offline: float) -> None:
    agent = AmagosAgent(online, offline, critic_loss_weight=10.0).train()
    agent.states(torch.randn(8, 2))
    for name in POLICY:
        assert agent.get_submodule(name).training
        assert all(parameter.requires_grad for parameter in agent.get_submodule(name).parameters())


def test_an_amago_that_cannot_is_named_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"amago 3\.1 cannot train critics alone.*export --to amago"):
        AmagosAgent(0.0, 0.0)
    Stranger()
