"""Every parameter that a config can set is refused in one sentence where its value is of no use."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents import amago2, interface, options
from gemma_metamon.nets.checks import FLAG, TEXT, Rule, check, each, number, one_of, whole
from gemma_metamon.nets.heads import actors, critics, filters, popart
from gemma_metamon.nets.reader import backbone
from gemma_metamon.nets.reader import tstep_encoder as encoders
from gemma_metamon.nets.trajectory import traj_encoder
from gemma_metamon.runs import experiment
from gemma_metamon.strict_json import shown


@given(st.integers() | st.floats() | st.booleans() | st.none() | st.text())
def test_a_number_is_finite_and_within_its_range(value: Any) -> None:
    right = type(value) in (int, float) and math.isfinite(min(max(value, -9), 9)) and 0 < value <= 2
    assert number(0, 2, above=True).holds(value) is right


@given(st.integers() | st.floats() | st.booleans() | st.none() | st.text())
def test_a_whole_number_is_no_float_and_no_truth_value(value: Any) -> None:
    assert whole(1, 5).holds(value) is (type(value) is int and 1 <= value <= 5)


def test_numbers_of_numpy_are_numbers() -> None:
    assert whole(1, 5).holds(np.int64(3))
    assert number(0, 1).holds(np.float32(0.5))
    assert not number(0, 1).holds(np.float64("nan"))


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (FLAG, [True, False], [0, 1, "True", None]),
        (TEXT, ["a"], ["", 1, None, ["a"]]),
        (one_of("a", "b"), ["a"], ["c", "", None, ["a"], {}]),
        (whole(0, 3).or_none(), [0, None], [-1, "None", False]),
        (each(number(0, 1), most=2), [[], [0.5], (0, 1)], [[2], [0, 0, 0], 0.5, "0", {0: 0}, None, [[0]]]),
    ],
)
def test_a_rule_holds_for_what_it_names_alone(rule: Rule, right: list[Any], wrong: list[Any]) -> None:
    assert all(rule.holds(value) for value in right)
    assert not any(rule.holds(value) for value in wrong)


@pytest.mark.parametrize(
    "value",
    [16**5000, "x" * 10**7, ["y" * 500] * 40, "\ud800\0\n" * 50, {"a": {"b": "c" * 200}}, math.nan],
    ids=["digits", "long", "list", "unprintable", "nested", "nan"],
)
def test_a_refusal_is_one_short_line_whatever_the_value(value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        check("Actor", {"n_layers": value}, {"n_layers": whole(1, 4)})
    assert str(error.value).startswith("Actor.n_layers = ")
    assert str(error.value).endswith("; it must be a whole number from 1 to 4")
    assert len(str(error.value)) < 200
    assert str(error.value).isprintable()
    assert len(shown(value)) <= 80


TABLES: list[tuple[Callable[..., Any], dict[str, Rule]]] = [
    (traj_encoder.TformerTrajEncoder, traj_encoder._RULES),
    (critics.NCriticsTwoHot, critics._NETWORK_RULES | critics._BIN_RULES),
    (critics.NCritics, critics._NETWORK_RULES),
    (actors.Actor, actors._ACTOR_RULES),
    (actors.ResidualActor, actors._RESIDUAL_RULES),
    (popart.PopArtLayer, popart._RULES),
    (filters.exp_filter, filters._EXP_RULES),
    (filters.leaky_relu_filter, filters._LEAKY_RELU_RULES),
    (amago2.MultiTaskAgent, options._RULES),
    (amago2.Agent, options._RULES),
    (encoders.GemmaTstepEncoder, encoders._RULES),
    (backbone.BackboneOptions, backbone._RULES),
    (experiment.Experiment, experiment._RULES),
]
# checked elsewhere: by whoever reads them, or together with others
BESIDES = {
    "attention_type", "continuous_dist_type", "discrete_dist_type", "mask_illegal_actions", "output_bins", "init_value",
    "amago_version", "value_estimate", "popart_type", "multigammas_type", "vocabulary",
    *backbone._RULES,
}  # fmt: skip


@pytest.mark.parametrize(("made", "rules"), TABLES, ids=lambda entry: getattr(entry, "__name__", ""))
def test_every_parameter_with_a_default_has_a_rule_that_its_default_obeys(
    made: Callable[..., Any], rules: dict[str, Rule]
) -> None:
    parameters = inspect.signature(made).parameters
    optional = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert set(optional) - set(rules) <= BESIDES
    for name, default in optional.items():
        needed = made is experiment.Experiment and default is None and name != "critic_loss_weight"
        assert needed or name not in rules or rules[name].holds(default), name


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: traj_encoder.TformerTrajEncoder(8, 9, n_layers=1_000_000), r"Encoder\.n_layers = 1000000; it"),
        (lambda: traj_encoder.TformerTrajEncoder(8, 9, dropout_ff=5.0), r"dropout_ff = 5\.0; it must be a number"),
        (lambda: traj_encoder.TformerTrajEncoder(8, 9, d_model=10**9), "d_model = 1000000000; it must be"),
        (lambda: traj_encoder.TformerTrajEncoder(8, 9, n_heads=True), "n_heads = True; it must be a whole number"),
        (lambda: popart.PopArtLayer(1, beta=0.0), r"PopArtLayer\.beta = 0\.0; it must be a number of at least 1e-06"),
        (lambda: interface.Multigammas(discrete=[0.5, math.nan]), r"Multigammas\.discrete = \[0\.5, nan\]"),
        (lambda: filters.exp_filter(torch.zeros(1), beta=math.inf), r"exp_filter\.beta = inf"),
        (lambda: filters.exp_filter(torch.zeros(1), clip_adv_low=3, clip_adv_high=2), "not be above clip_adv_high"),
        (lambda: filters.binary_filter(torch.zeros(1), threshold=math.nan), r"binary_filter\.threshold = nan"),
        (lambda: filters.leaky_relu_filter(torch.zeros(1), beta=0.0), r"leaky_relu_filter\.beta = 0\.0"),
        (lambda: critics.NCriticsTwoHot(4, 3, [0.9], True, 2, min_return=1, max_return=1 + 1e-6), "bins .* too close"),
        (lambda: critics.NCriticsTwoHot(4, 3, [0.9], True, 2, max_return=math.inf), "max_return = inf; it must be"),
        (
            lambda: critics.NCriticsTwoHot(4, 3, [0.9], True, 2, min_return=-9, max_return=9, init_value=50),
            r"init_value = 50; it must be a number of at least -9 and at most 9",
        ),
        (lambda: actors.MetamonMaskedActor(4, 3, True, [0.9], d_hidden=0), r"MetamonMaskedActor\.d_hidden = 0"),
        (lambda: experiment.Experiment(print, print, print, 8, learning_rate=1e30), r"learning_rate = 1e\+30; it must"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_where_it_is_made(build: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build()
