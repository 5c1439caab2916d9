"""The different rows of a table are those that torch finds, in its order."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gemma_metamon.nets.reader.distinct_rows import distinct_rows

TABLES = arrays.arrays(np.int64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.integers(-2, 2))


@given(TABLES)
def test_they_are_torchs_own(rows: np.ndarray) -> None:
    table = torch.from_numpy(rows)
    distinct, index = distinct_rows(table)
    expected, expected_index = torch.unique(table, dim=0, return_inverse=True)
    assert torch.equal(distinct, expected)
    assert torch.equal(index, expected_index)


def test_a_table_of_no_rows_has_no_different_ones() -> None:
    distinct, index = distinct_rows(torch.zeros(0, 3, dtype=torch.int64))
    assert distinct.shape == (0, 3)
    assert len(index) == 0
