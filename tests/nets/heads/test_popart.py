"""PopArt: outputs stay what they were when the statistics move (which are AMAGO's: test_amago_goldens)."""

import torch

from gemma_metamon.nets.heads.popart import PopArtLayer


def test_an_update_leaves_denormalised_outputs() -> None:
    layer = PopArtLayer(gammas=2)
    raw, returns = torch.randn(5, 2, 1), 300 + 50 * torch.randn(3, 4, 1, 2, 1)
    before = layer(raw, normalized=False)
    for _ in range(20):
        layer.update_stats(returns, torch.ones_like(returns, dtype=torch.bool))
    torch.testing.assert_close(layer(raw, normalized=False), before, rtol=1e-3, atol=1e-2)
    assert (layer.mu > 250).all()


def test_an_update_without_a_single_value_moves_nothing() -> None:
    layer = PopArtLayer(gammas=2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    values = torch.randn(3, 4, 1, 2, 1)
    layer.update_stats(values, torch.zeros_like(values, dtype=torch.bool))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_values_that_are_not_finite_move_nothing() -> None:
    layer = PopArtLayer(gammas=2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    values = torch.randn(3, 4, 1, 2, 1)
    values[1, 2] = float("nan")
    layer.update_stats(values, torch.ones_like(values, dtype=torch.bool))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_switched_off_it_is_the_identity() -> None:
    layer, x = PopArtLayer(gammas=2, enabled=False), torch.randn(3, 4, 1, 2, 1)
    layer.update_stats(x, torch.ones_like(x, dtype=torch.bool))
    assert layer(x, normalized=False) is x
    assert layer.normalize_values(x) is x
    assert layer.mu.eq(0).all()
