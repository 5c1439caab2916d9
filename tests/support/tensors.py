"""Tensors held to one another bit by bit."""

import torch
from torch import Tensor


def assert_same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        assert (tensor.dtype, tensor.shape) == (theirs[key].dtype, theirs[key].shape), key
        a, b = (one.flatten().contiguous().view(torch.uint8) for one in (tensor, theirs[key]))
        assert torch.equal(a, b), key
