"""Weights of behaviour cloning: AMAGO's numbers."""

from functools import partial

import pytest
import torch
from amago_goldens import Golden, relative_error

from gemma_metamon.nets.filters import binary_filter, exp_filter, leaky_relu_filter

ALAKAZAM = {"beta": 0.5, "tau": 0.01, "clip_weights_low": 1e-3, "clip_weights_high": 15.0}
ALAKAZAM2 = {"beta": 0.4, "tau": 0.001, "clip_weights_low": 1e-3, "clip_weights_high": 15.0}


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("outputs/binary_filter", binary_filter),
        ("outputs/binary_filter_threshold0.5", partial(binary_filter, threshold=0.5)),
        ("outputs/exp_filter_default", exp_filter),
        ("outputs/exp_filter_exp_rl", partial(exp_filter, beta=1.0, clip_weights_high=100)),
        (
            "outputs/exp_filter_beta0.5_advclip-2_3_weights0.1_5",
            partial(exp_filter, beta=0.5, clip_adv_low=-2, clip_adv_high=3, clip_weights_low=0.1, clip_weights_high=5),
        ),
        ("outputs/leaky_relu_filter_default", partial(leaky_relu_filter, add_binary=False)),
        ("outputs/leaky_relu_filter_alakazam", partial(leaky_relu_filter, add_binary=False, **ALAKAZAM)),
        ("outputs_3.3/leaky_relu_filter_default", leaky_relu_filter),
        ("outputs_3.3/leaky_relu_filter_alakazam", partial(leaky_relu_filter, **ALAKAZAM)),
        ("outputs_3.3/leaky_relu_filter_alakazam2", partial(leaky_relu_filter, **ALAKAZAM2)),
    ],
)
def test_weights_match_amago(name: str, function: partial[torch.Tensor]) -> None:
    golden = Golden("filters")
    assert relative_error(function(golden["inputs/advantage"]), golden[name].float()) < 2e-6
