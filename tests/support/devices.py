"""Tests that run on the processor, and again on a GPU where there is one: `pytest -m gpu` runs the latter alone."""

import pytest
import torch

ON_A_GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA")],
)
each_device = pytest.mark.parametrize("device", ["cpu", ON_A_GPU])
