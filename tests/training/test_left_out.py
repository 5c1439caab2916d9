"""The record of updates that were left out: what their batches held, and how many they were."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.training.left_out import count_left_out, record_left_out

NAN = float("nan")


@pytest.mark.parametrize(("bad", "named"), [([2], [2]), ([0, 3], [0, 3]), ([], [0, 1, 2, 3])])
def test_of_an_update_the_batches_without_a_finite_loss_are_named_else_all(
    bad: list[int], named: list[int], tmp_path: Path
) -> None:
    losses = [float("inf") if number in bad else 1.0 for number in range(4)]
    record_left_out(tmp_path / "record.jsonl", 7, losses, NAN, lambda batch: {"batch": batch})
    (text,) = (tmp_path / "record.jsonl").read_text().splitlines()
    line = json.loads(text)
    assert [batch["batch"] for batch in line["batches"]] == named
    assert {batch["loss"] for batch in line["batches"]} == ({"inf"} if bad else {"1.0"})
    assert (line["update"], line["grad_norm"]) == (7, "nan")


@settings(max_examples=30)
@given(st.lists(st.booleans(), max_size=12))
def test_those_that_were_left_out_are_counted_and_the_last_of_them_in_a_row(
    tmp_path_factory: pytest.TempPathFactory, left_out: list[bool]
) -> None:
    record = tmp_path_factory.mktemp("run") / "record.jsonl"
    for update, is_left_out in enumerate([*left_out, True], start=1):  # one from after what was saved
        if is_left_out:
            record_left_out(record, update, [NAN], NAN, lambda batch: {})
    in_a_row = 0
    for is_left_out in left_out:
        in_a_row = in_a_row + 1 if is_left_out else 0
    assert count_left_out(record, len(left_out)) == (sum(left_out), in_a_row)
    assert count_left_out(record.with_name("none"), 3) == (0, 0)
