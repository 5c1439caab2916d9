"""The sweep file: what its lines mean, and that nothing else is read, or run."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.sweeps.space import as_arguments, parse_space, read_space, short_names

LINES = """
# learning
MetamonAMAGOExperiment.learning_rate = log(1e-4, 1e-2)
traj_encoders.TformerTrajEncoder.dropout_ff = uniform(0, 0.2)
MultiTaskAgent.fbc_filter_func = choice("@exp_filter", "@binary_filter")
TformerTrajEncoder.norm = choice("layer", None, [1, 2])
MultiTaskAgent.tau = 0.005
--batch-size-per-gpu = log_integer(4, 64)
--formats = choice("gen1ou", "gen9ou")
"""


def test_a_line_is_a_range_choices_or_one_value() -> None:
    rate, dropout, filter_, norm, tau, size, formats = parse_space(LINES, "x")
    assert (rate.kind, rate.low, rate.high, rate.is_log) == ("log", 1e-4, 1e-2, True)
    assert (dropout.kind, dropout.low, dropout.is_log) == ("uniform", 0.0, False)
    assert filter_.choices == ("@exp_filter", "@binary_filter")
    assert norm.choices == ("'layer'", "None", "[1, 2]")
    assert tau.is_fixed
    assert tau.choices == ("0.005",)
    assert (size.name, size.is_flag, size.is_whole, size.ends()) == ("--batch_size_per_gpu", True, True, ("4", "64"))
    assert formats.choices == ("gen1ou", "gen9ou")


def test_values_become_overrides_and_flags_of_train() -> None:
    dimensions = parse_space("A.b = log(1e-4, 1)\nA.c = 'x'\n--seed = integer(0, 3)", "x")
    assert as_arguments(dimensions, {"A.b": "0.01", "--seed": "2"}) == [
        *("--gin_override", "A.b = 0.01", "--gin_override", "A.c = 'x'", "--seed=2"),
    ]


def test_a_name_is_short_where_that_is_enough() -> None:
    dimensions = parse_space("A.b = integer(0, 3)\nB.b = integer(0, 3)\n--seed = integer(0, 3)\nC.d = 1", "x")
    assert short_names(dimensions) == {"A.b": "A.b", "B.b": "B.b", "--seed": "seed"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("A.b", "write Name.parameter = VALUES"),
        ("b = 1", "write Name.parameter = VALUES"),
        ("A.b = log(1, 2, 3)", "takes two numbers"),
        ("A.b = integer(1, 2.5)", "takes two whole numbers"),
        ("A.b = uniform(True, 2)", "takes two numbers"),
        ("A.b = uniform(2, 1)", "the first must be below the second"),
        ("A.b = uniform(1, 1e999)", "the first must be below the second"),
        ("A.b = log(0, 1)", "wants a number above 0"),
        ("A.b = normal(0, 1)", "there is no 'normal'"),
        ("A.b = choice()", "has 0 choices"),
        ("A.b = choice(1, 1)", "one choice twice"),
        ("A.b = choice('')", "leaves nothing to try"),
        ("--a = choice('', 'b')", "is empty or cannot be printed"),
        ("A.b = choice(open('x'), 2)", "cannot be read"),
        ("A.b = __import__('os').system('x')", "cannot be read"),
        ("A.b = log(low=1, high=2)", "cannot be read"),
        ("A.b = 1", "leaves nothing to try"),
        ("A.b = integer(1, 2)\nA.b = integer(1, 2)", "a second time"),
    ],
)
def test_another_line_is_refused_and_named(line: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        parse_space(line, "rates.sweep")


def test_no_file_and_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no sweep file"):
        read_space(tmp_path / "x.sweep")
    (tmp_path / "x.sweep").write_bytes(b"\xff")
    with pytest.raises(DataError, match="no text in UTF-8"):
        read_space(tmp_path / "x.sweep")


@settings(max_examples=100, derandomize=True)
@given(st.text(st.sampled_from("A.b=-(),'\"[]0159eelogchoicuniform \n#@%"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        dimensions = parse_space(f"A.b = integer(1, 2)\n{text}", "x")
    except DataError:
        return
    assert all(dimension.ends() for dimension in dimensions)
