"""The adapters' dropout: as torch's own, but for how it draws."""

import pytest
import torch

from gemma_metamon.nets.reader.backbone import BackboneOptions, build_backbone
from gemma_metamon.nets.reader.dropout import AdapterDropout

SIZE = 200_001  # no multiple of the four decisions that are drawn at a time


@pytest.mark.parametrize("p", [0.05, 0.5, 0.999])
def test_the_share_is_dropped_and_the_rest_scaled(p: float) -> None:
    torch.manual_seed(0)
    out = AdapterDropout(p)(torch.ones(SIZE))
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / SIZE) ** 0.5)
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / (1 - p)), rtol=1e-2, atol=0)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (AdapterDropout(0.5)(torch.ones(SIZE)) != 0).double()
    for apart in range(1, 9):
        both = (kept[apart:] * kept[:-apart]).mean().item()
        assert both == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / SIZE) ** 0.5)


def test_the_gradient_passes_where_the_value_passed() -> None:
    states = torch.randn(7, 11, requires_grad=True)
    out = AdapterDropout(0.5)(states)
    out.sum().backward()
    torch.testing.assert_close(states.grad, out / states)


def test_the_seed_decides() -> None:
    states, draws = torch.ones(1000), []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(AdapterDropout(0.5)(states))
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], AdapterDropout(0.5)(states))


def test_nothing_is_dropped_when_acting() -> None:
    states = torch.randn(10)
    assert AdapterDropout(0.5).eval()(states) is states
    assert (AdapterDropout(1.0)(states) == 0).all()


def test_every_adapter_has_it() -> None:
    tiny = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 1}
    tiny |= {"num_key_value_heads": 1, "head_dim": 16, "layer_types": ["full_attention"] * 2}
    options = BackboneOptions(pretrained=False, backbone_config=tiny, lora_dropout=0.25)
    dropouts = [m for m in build_backbone(options, range(9), trim=True).modules() if isinstance(m, torch.nn.Dropout)]
    assert len(dropouts) == 2 * 7
    assert all(type(dropout) is AdapterDropout and dropout.p == 0.25 for dropout in dropouts)
