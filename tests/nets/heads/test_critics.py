"""Critics, their bins and labels: AMAGO's numbers, and what a label means."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amago_goldens import Golden

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot
from gemma_metamon.nets.heads.returns import ReturnBins, expected_return, hl_gauss, two_hot

BINS = ReturnBins(min_return=-1100, max_return=1100, output_bins=96, use_symlog=False)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("amago-3.1.1/critic/NCriticsTwoHot_symlog_seed0")


def build(golden: Golden, **options: Any) -> NCriticsTwoHot:
    names = ("state_dim", "action_dim", "gammas", "discrete", "num_critics", "d_hidden", "n_layers", "dropout_p")
    names += ("activation", "min_return", "max_return", "output_bins", "use_symlog")
    critics = NCriticsTwoHot(**{name: golden.config[name] for name in names}, **options)
    critics.load_state_dict(golden.group("params"))
    return critics


def test_critics_of_actions_without_a_list_are_refused() -> None:
    with pytest.raises(ConfigError, match="discrete must be True"):
        NCritics(4, 3, False, [0.9], 2)


def test_the_first_layer_in_shares_equals_the_whole_one(golden: Golden) -> None:
    critics = build(golden)
    state, action = golden["inputs/state"], golden["inputs/action"]
    K, B, T, G, _ = action.shape
    rows = torch.cat(
        (
            state[None, :, :, None].expand(K, B, T, G, -1),
            critics.gamma_feature[:, None].expand(K, B, T, G, 1),
            action.clamp(-0.999, 0.999),
        ),
        dim=-1,
    )
    net = critics.net
    hidden = torch.nn.functional.leaky_relu(
        torch.einsum("kbtgi,cio->kbtcgo", rows, net.inp_layer.weight) + net.inp_layer.bias[0, 0, :, None]
    )
    core = net.core_layers[0]
    hidden = torch.nn.functional.leaky_relu(
        torch.einsum("kbtcgi,cio->kbtcgo", hidden, core.weight) + core.bias[0, 0, :, None]
    )
    out = torch.einsum("kbtcgi,cio->kbtcgo", hidden, net.output_layer.weight) + net.output_layer.bias[0, 0, :, None]
    torch.testing.assert_close(critics(state, action), out.log_softmax(-1), rtol=0, atol=2e-5)


@settings(max_examples=200)
@given(st.floats(-1100.0, 1100.0))
def test_two_hot_labels_keep_the_return(value: float) -> None:
    bin_values = BINS.values().double()
    labels = two_hot(torch.tensor([value], dtype=torch.float64), BINS, bin_values)  # (96,)
    assert labels.min() >= 0
    assert labels.count_nonzero() <= 2
    assert labels.sum().item() == pytest.approx(1.0)
    assert expected_return(labels.log(), BINS, bin_values).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("value", "bin_index"), [(-5000.0, 0), (-1100.0, 0), (1100.0, 95), (5000.0, 95)])
def test_returns_beyond_the_bins_go_to_the_last_one(value: float, bin_index: int) -> None:
    labels = two_hot(torch.tensor([value]), BINS, BINS.values())
    assert labels[bin_index] == 1.0
    assert labels.sum() == 1.0


@settings(max_examples=50)
@given(st.floats(-1000.0, 1000.0, width=32))
def test_gaussian_labels_keep_the_return(value: float) -> None:
    bin_values = BINS.values()
    labels = hl_gauss(torch.tensor([value]), BINS, bin_values, sigma=0.75)
    assert labels.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert (labels @ bin_values).item() == pytest.approx(value, abs=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_return": 5, "max_return": -5}, r"min_return \(5\) must be below max_return \(-5\)"),
        ({"output_bins": 1}, "output_bins = 1; it must be a whole number from 2"),
        ({"label_type": "threehot"}, "'threehot'; it must be one of 'twohot', 'hlgauss'"),
        ({"sigma": 0.0}, "sigma"),
        ({"n_layers": 0}, "n_layers"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NCriticsTwoHot(4, 3, [0.9], True, 2, **options)


def test_a_bound_of_zero_was_not_given_in_the_old_version() -> None:
    old = NCriticsTwoHot(4, 3, [0.9], True, 2, min_return=-1, max_return=0, amago_version="3.1")
    new = NCriticsTwoHot(4, 3, [0.9], True, 2, min_return=-1, max_return=0)
    assert (old.bins.max_return, new.bins.max_return) == (100_000.0, 0)


HL_BINS = ReturnBins(min_return=-1100, max_return=1100, output_bins=256, use_symlog=False)


@settings(max_examples=200)
@given(st.floats(-1070.0, 1070.0))
def test_hl_gauss_rows_sum_to_1_are_a_bell_and_decode_to_the_return(value: float) -> None:
    bin_values = HL_BINS.values().double()
    labels = hl_gauss(torch.tensor([value], dtype=torch.float64), HL_BINS, bin_values, 0.75)  # (256,)
    assert labels.min() >= 0
    assert float(labels.sum()) == pytest.approx(1.0, abs=1e-9)
    nearest = int((bin_values - value).abs().argmin())
    assert labels[nearest] >= labels.max() - 1e-4  # half way between two bins either is the nearest
    assert (labels[:nearest].diff() >= -1e-4).all()
    assert (labels[nearest:].diff() <= 1e-4).all()
    decoded = expected_return(labels.clamp(min=1e-300).log(), HL_BINS, bin_values)
    # a bell is not quite even between bins: off by at most a thousandth of their width of 8.6
    assert decoded.item() == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize("value", [-1100.0, 1100.0])
def test_a_bell_at_the_end_is_cut_and_decodes_within_a_bin_of_it(value: float) -> None:
    bin_values = HL_BINS.values().double()
    labels = hl_gauss(torch.tensor([value], dtype=torch.float64), HL_BINS, bin_values, 0.75)
    assert float(labels.sum()) == pytest.approx(1.0, abs=1e-9)
    decoded = expected_return(labels.clamp(min=1e-300).log(), HL_BINS, bin_values)
    assert decoded.item() == pytest.approx(value, abs=float(bin_values[1] - bin_values[0]))


@pytest.mark.parametrize("use_symlog", [False, True])
def test_the_label_of_no_number_is_no_distribution(use_symlog: bool) -> None:
    """A NaN among returns must end in a NaN loss, and not as the best return that there is."""
    bins = ReturnBins(min_return=-10, max_return=10, output_bins=5, use_symlog=use_symlog)
    labels = two_hot(torch.tensor([[float("nan")], [3.0]]), bins, bins.values())
    assert labels.sum(-1).isnan().tolist() == [True, False]
