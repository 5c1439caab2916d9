"""The numbers of a timestep in, one vector out: what Gemma does not read."""

import torch
from torch import Tensor, nn

from gemma_metamon.nets.layers import symlog


class NumbersEncoder(nn.Module):
    """A small MLP over the turn's numbers and the previous reward and action, normalised to unit scale.

    The reward of a won battle is a hundred times that of a hit: symlog brings it to the scale of the one-hot action
    before a linear layer makes `extra_dim` features of both.

    Shapes: numbers (..., N) and rl2s (..., 1 + A) -> (..., D). N numbers, A actions, D output width.

    Args:
        numbers: N.
        rl2_dim: 1 + A.
        extra_dim: features made of the previous reward and action.
        emb_dim: D.
    """

    def __init__(self, numbers: int, rl2_dim: int, *, extra_dim: int = 18, emb_dim: int = 256) -> None:
        super().__init__()
        self.to_extra = nn.Linear(rl2_dim, extra_dim)
        self.hidden = nn.Linear(numbers + extra_dim, emb_dim)
        self.out = nn.Linear(emb_dim, emb_dim)
        self.norm = nn.LayerNorm(emb_dim)

    def forward(self, numbers: Tensor, rl2s: Tensor) -> Tensor:
        """Numbers (..., N), previous reward and action (..., 1 + A) -> (..., D), in the weights' type."""
        dtype = self.out.weight.dtype
        extra = self.to_extra(symlog(rl2s.to(dtype)))  # (..., extra_dim)
        hidden = nn.functional.silu(self.hidden(torch.cat([numbers.to(dtype), extra], dim=-1)))  # (..., D)
        emb: Tensor = self.norm(self.out(hidden))
        return emb
