"""The critics' networks: the same numbers as the plain formulation, and only what counts is evaluated."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gemma_metamon.nets.heads.critics import NCriticsTwoHot
from gemma_metamon.nets.heads.ensemble import ActionEnsemble, StateEnsemble

C, D, A, H, BINS = 3, 5, 4, 8, 6
GAMMAS = [0.1, 0.9, 0.999]


def plain_mlps(net: Any, rows: Tensor, activation: Any) -> Tensor:
    """Each row through each MLP, layer by layer: (N, d_inp) -> (C, N, d_output)."""
    hidden = rows.expand(C, -1, -1)
    for layer in (net.inp_layer, *net.core_layers):
        hidden = activation(hidden @ layer.weight + layer.bias[0, 0, :, None])
    out: Tensor = hidden @ net.output_layer.weight + net.output_layer.bias[0, 0, :, None]
    return out


def critics(**options: Any) -> NCriticsTwoHot:
    torch.manual_seed(0)
    return NCriticsTwoHot(
        D,
        A,
        GAMMAS,
        True,
        C,
        d_hidden=H,
        min_return=-100,
        max_return=100,
        output_bins=BINS,
        use_symlog=False,
        **options,
    )


def random_queries() -> tuple[Tensor, Tensor, Tensor]:
    """States (2, 3, D), four actions in each and the actions' weights, a third of them 0."""
    torch.manual_seed(1)
    shape = (4, 2, 3, len(GAMMAS))
    return torch.randn(2, 3, D), torch.rand(*shape, A), torch.rand(shape) * (torch.rand(shape) > 1 / 3)


@settings(max_examples=30)
@given(
    tried=st.integers(1, 3),
    timesteps=st.integers(1, 3),
    discounts=st.integers(1, 3),
    n_layers=st.integers(1, 3),
    activation=st.sampled_from(["leaky_relu", "relu", "gelu"]),
)
def test_shares_add_up_to_the_plain_network_and_its_gradients(
    tried: int, timesteps: int, discounts: int, n_layers: int, activation: str
) -> None:
    torch.manual_seed(0)
    K, T, G = tried, timesteps, discounts
    net = ActionEnsemble(C, D, A, H, n_layers, BINS, activation, 0.0)
    state, gammas, action = torch.randn(2, T, D, requires_grad=True), torch.randn(G), torch.randn(K, 2, T, G, A)
    rows = torch.cat(
        (state[None, :, :, None].expand(K, -1, -1, G, -1), gammas[:, None].expand(K, 2, T, G, 1), action), dim=-1
    )
    plain = plain_mlps(net, rows.flatten(0, 3), getattr(F, activation))
    plain = plain.view(C, K, 2, T, G, BINS).permute(1, 2, 3, 0, 4, 5)
    ours = net(state, gammas, action)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    inputs, cotangent = [state, *net.parameters()], torch.randn(plain.shape)
    for mine, expected in zip(
        torch.autograd.grad(ours, inputs, cotangent), torch.autograd.grad(plain, inputs, cotangent), strict=True
    ):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_networks_of_the_state_alone_equal_the_plain_ones() -> None:
    torch.manual_seed(0)
    net, state = StateEnsemble(C, D, H, 2, BINS, "leaky_relu", 0.0), torch.randn(2, 3, D)
    plain = plain_mlps(net, state.flatten(0, 1), F.leaky_relu).view(C, 2, 3, BINS).permute(1, 2, 0, 3)
    torch.testing.assert_close(net(state), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", ["3.1", "3.3"])
def test_the_mean_value_is_the_mean_of_the_values(version: Any) -> None:
    net = critics(amago_version=version)
    state, action, weights = random_queries()
    values = net.values(net(state, action))  # (K, B, T, C, G, 1)
    expected = (values * weights[:, :, :, None, :, None]).sum(0)
    torch.testing.assert_close(net.mean_value(state, action, weights), expected, rtol=1e-5, atol=1e-4)
    drawn = torch.randint(C, (2, 3, 2, len(GAMMAS), 1))
    torch.testing.assert_close(
        net.mean_value(state, action, weights, drawn), expected.take_along_dim(drawn, 2), rtol=1e-5, atol=1e-4
    )


def test_the_mean_value_has_the_gradients_of_the_mean_of_the_values() -> None:
    net = critics()
    state, action, weights = (given.requires_grad_() for given in random_queries())
    expected = (net.values(net(state, action)) * weights[:, :, :, None, :, None]).sum(0)
    ours, cotangent = net.mean_value(state, action, weights), torch.randn(expected.shape)
    counted = weights.detach() != 0
    inputs = [state, action, weights, *net.parameters()]
    for i, (mine, plain) in enumerate(
        zip(torch.autograd.grad(ours, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent), strict=True)
    ):
        # what has no weight is not evaluated, so the gradient of its weight is not known
        plain = torch.where(counted, plain, 0.0) if i == 2 else plain
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-4)


def test_only_what_has_a_weight_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (state, action, weights) = critics(), random_queries()
    counts, evaluate = [], net.net.evaluate
    monkeypatch.setattr(net.net, "evaluate", lambda share, rows: counts.append(share.shape[1]) or evaluate(share, rows))
    net.mean_value(state, action, weights)
    assert sum(counts) == weights.count_nonzero() < weights.numel()
    counts.clear()
    # every critic is drawn for a third of the rows
    drawn = torch.arange(2 * 3 * len(GAMMAS)).remainder(C).view(2, 3, 1, len(GAMMAS), 1)
    net.mean_value(state, action, torch.ones_like(weights), drawn)
    assert sum(counts) == weights.numel() / C


def test_autocast_leaves_returns_in_float32() -> None:
    net, (state, action, weights) = critics(), random_queries()
    exact = net.mean_value(state, action, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = net.mean_value(state, action, weights)
        log_probs = net(state, action)
        returns = net.values(log_probs)
    assert rough.dtype == returns.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0, atol=2.0)  # bins reach from -100 to 100
    torch.testing.assert_close(returns, net.values(log_probs), rtol=0, atol=0)
