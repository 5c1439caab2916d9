"""Small pieces that the heads and the transformer share: activations, normalisation, an MLP, symlog, the masked mean.

Parameter names are AMAGO's, so that weights travel between the two without renaming.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.nets.checks import one_of

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"leaky_relu": F.leaky_relu, "relu": F.relu, "gelu": F.gelu}
ACTIVATION = one_of(*ACTIVATIONS)
NORMALIZATION = one_of("layer", "rmsnorm", "unitball", "unitball-detach", "none")


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of a name that ACTIVATION allows."""
    return ACTIVATIONS[name]


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|): the identity near 0, a logarithm far from it (arXiv 2301.04104)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of symlog."""
    return x.sign() * x.abs().expm1()


def masked_mean(x: Tensor, counted: Tensor) -> Tensor:
    """Mean of x over the entries where `counted` (broadcastable to x) is True; 0 where none is."""
    weights = counted.expand_as(x)
    return torch.where(weights, x, 0.0).sum() / (weights.sum() + 1e-5)


class RMSNorm(nn.Module):
    """x / rms(x) over the last axis, with a gain; the key is `scale`."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width), which stays."""
        out: Tensor = self.scale * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return out


class UnitBall(nn.Module):
    """x / |x| over the last axis; with `detach` the length is a constant for the gradient."""

    def __init__(self, *, detach: bool) -> None:
        super().__init__()
        self.detach = detach

    def forward(self, x: Tensor) -> Tensor:
        """(..., D), which stays."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-5
        out: Tensor = x / (length.detach() if self.detach else length)
        return out


class Normalization(nn.Module):
    """A normalisation by a name that NORMALIZATION allows, over the last axis."""

    def __init__(self, method: str, width: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()
        if method == "layer":
            self.norm = nn.LayerNorm(width)
        elif method == "rmsnorm":
            self.norm = RMSNorm(width)
        elif method.startswith("unitball"):
            self.norm = UnitBall(detach=method == "unitball-detach")

    def forward(self, x: Tensor) -> Tensor:
        """(..., width), which stays."""
        out: Tensor = self.norm(x)
        return out


class MLP(nn.Module):
    """d_inp -> d_hidden (n_layers times, activated) -> d_output; any leading axes.

    Args:
        d_inp: width of the input.
        d_hidden: width of the hidden layers.
        n_layers: how many hidden layers, at least 1.
        d_output: width of the output.
        activation: leaky_relu, relu or gelu.
        dropout_p: dropout after each hidden layer.
    """

    def __init__(
        self, d_inp: int, d_hidden: int, n_layers: int, d_output: int, activation: str, dropout_p: float
    ) -> None:
        super().__init__()
        self.in_layer = nn.Linear(d_inp, d_hidden)
        self.layers = nn.ModuleList(nn.Linear(d_hidden, d_hidden) for _ in range(n_layers - 1))
        self.out_layer = nn.Linear(d_hidden, d_output)
        self.dropout = nn.Dropout(dropout_p)
        self.activation = activation_function(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_inp) -> (..., d_output)."""
        for layer in (self.in_layer, *self.layers):
            x = self.dropout(self.activation(layer(x)))
        out: Tensor = self.out_layer(x)
        return out
