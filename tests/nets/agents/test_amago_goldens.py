"""Our numbers are AMAGO's: every array of every golden, within the tolerances of golden_check."""

import shutil
from pathlib import Path

import golden_table
import numpy as np
import pytest
import torch
from support.amago_goldens import ROOT, relative_error
from support.golden_check import COMPARERS, beyond, compare, golden_paths, kind_of


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """As the goldens were made; on a busy machine it is also the fastest way through such small networks."""
    torch.set_num_threads(1)


@pytest.mark.parametrize("path", golden_paths(ROOT))
def test_our_numbers_are_amagos(path: str) -> None:
    errors = compare(path, ROOT)
    assert errors
    assert not beyond(path, errors)


def test_every_kind_of_golden_is_here() -> None:
    paths = golden_paths(ROOT)
    assert {kind_of(path) for path in paths} == {*COMPARERS, "state_dict_keys"}
    assert {path.partition("/")[0] for path in paths} == {"amago-3.1.1", "amago-3.3.0"}


def test_an_error_is_relative_to_one_plus_the_value() -> None:
    golden = torch.tensor([0.0, 9.0, -torch.inf])
    assert relative_error(torch.tensor([0.5, 10.0, -torch.inf]), golden) == 0.5
    assert relative_error(torch.tensor([0.5, 10.0, 0.0]), golden, torch.tensor([False, True, False])) == 0.1
    assert beyond("amago-3.1.1/misc/misc_seed0", {"outputs/symlog": float("nan")})


def test_the_table_marks_a_number_that_is_not_amagos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = "amago-3.1.1/filters/filters_seed0.npz"
    (tmp_path / file).parent.mkdir(parents=True)
    shutil.copy(ROOT / file, tmp_path / file)
    assert golden_table.main(["--goldens", str(tmp_path)]) == 0
    assert "| amago-3.1.1 filters | outputs/exp_filter_default | 1 | 0.0e+00 | 2e-05 |" in capsys.readouterr().out
    arrays = dict(np.load(ROOT / file))
    arrays["outputs/exp_filter_default"][7] += 0.01
    np.savez(tmp_path / file, **arrays)
    assert golden_table.main(["--goldens", str(tmp_path)]) == 1
    assert "BEYOND | 2e-05" in capsys.readouterr().out
    assert golden_table.main(["--goldens", str(tmp_path / "nothing")]) == 1
