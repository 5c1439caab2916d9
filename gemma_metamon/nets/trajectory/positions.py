"""Where a timestep stands in its battle, as what the transformer can use: added to its input, or a rotation."""

import math

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError


class FixedPosEmb(nn.Module):
    """Sines (even channels) and cosines (odd channels) of the time index."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.d_model = d_model

    def forward(self, time_idxs: Tensor) -> Tensor:
        """(B, T) -> (B, T, d_model)."""
        channel = torch.arange(0, self.d_model, 2, device=time_idxs.device, dtype=torch.float32)
        angles = time_idxs[..., None].float() * torch.exp(channel * (-math.log(10000.0) / self.d_model))
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., : self.d_model]


class LearnablePosEmb(nn.Module):
    """One learned vector for each time index below `max_time_idx`. Raises ConfigError where that is None."""

    def __init__(self, d_model: int, max_time_idx: int | None = None) -> None:
        super().__init__()
        if max_time_idx is None:
            raise ConfigError(
                "pos_emb 'learnable' needs to know how long a battle can get: set max_time_idx, or use pos_emb 'fixed'"
            )
        self.embeddings = nn.Embedding(max_time_idx, d_model)

    def forward(self, time_idxs: Tensor) -> Tensor:
        """(B, T) -> (B, T, d_model). Raises ConfigError for a battle with more timesteps than positions."""
        last = int(time_idxs.max())
        if last >= self.embeddings.num_embeddings:
            raise ConfigError(
                f"TformerTrajEncoder.max_time_idx = {self.embeddings.num_embeddings}, but a battle has a timestep "
                f"{last}; make it larger, or use pos_emb 'fixed'"
            )
        out: Tensor = self.embeddings(time_idxs)
        return out


class RotaryPosEmb(nn.Module):
    """Rotation of queries and keys by the time index, in two halves, base 10000 (arXiv 2104.09864); no parameters.

    Raises ConfigError for an odd head width.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        if head_dim % 2:
            raise ConfigError(f"pos_emb 'rope' needs an even head width, not d_model / n_heads = {head_dim}")
        self.head_dim = head_dim

    def forward(self, time_idxs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) -> cosines and sines (B, 1, T, head_dim / 2)."""
        channel = torch.arange(0, self.head_dim, 2, device=time_idxs.device, dtype=torch.float32)
        angles = time_idxs[:, None, :, None].float() * 10000.0 ** (-channel / self.head_dim)
        return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys (B, H, T, head_dim) rotated by what RotaryPosEmb gives; the shape stays."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def build_position_embedding(name: str, d_model: int, head_dim: int, max_time_idx: int | None) -> nn.Module:
    """By the name that TformerTrajEncoder's `pos_emb` gives it.

    What it maps the time indices (B, T) to is added to the input, (B, T, d_model), or, where it is a pair, given to
    `rotate` in every layer.
    """
    if name == "fixed":
        return FixedPosEmb(d_model)
    if name == "learnable":
        return LearnablePosEmb(d_model, max_time_idx)
    return RotaryPosEmb(head_dim)
