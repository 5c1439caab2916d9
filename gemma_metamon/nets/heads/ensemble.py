"""C independent MLPs of one shape, computed together: what both kinds of critics are made of."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.nets.layers import activation_function

IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {"leaky_relu": F.leaky_relu_, "relu": F.relu_}
"""Activations whose gradient needs only what they gave: a hidden layer is stored once, not twice."""


class EnsembleLinear(nn.Module):
    """C independent linear layers. Parameters as in AMAGO: weight (C, d_in, d_out), bias (1, 1, C, d_out)."""

    def __init__(self, num_critics: int, d_in: int, d_out: int) -> None:
        super().__init__()
        weight_bound, bias_bound = math.sqrt(3.0 / d_in), math.sqrt(1.0 / d_in)
        self.weight = nn.Parameter(torch.empty(num_critics, d_in, d_out).uniform_(-weight_bound, weight_bound))
        self.bias = nn.Parameter(torch.empty(1, 1, num_critics, d_out).uniform_(-bias_bound, bias_bound))

    def forward(self, x: Tensor) -> Tensor:
        """(C, N, d_in), or (1, N, d_in) for all C alike, -> (C, N, d_out)."""
        C, d_in, _ = self.weight.shape
        return torch.baddbmm(self.bias[0, 0, :, None], x.expand(C, -1, d_in), self.weight)


class EnsembleLayers(nn.Module):
    """The layers of C MLPs: d_inp -> d_hidden (n_layers times, activated) -> d_output.

    Args:
        num_critics: C.
        d_inp: width of the input.
        d_hidden: width of the hidden layers.
        n_layers: how many hidden layers.
        d_output: width of the output.
        activation: leaky_relu, relu or gelu.
        dropout_p: dropout after each hidden layer.
    """

    def __init__(
        self,
        num_critics: int,
        d_inp: int,
        d_hidden: int,
        n_layers: int,
        d_output: int,
        activation: str,
        dropout_p: float,
    ) -> None:
        super().__init__()
        self.inp_layer = EnsembleLinear(num_critics, d_inp, d_hidden)
        self.core_layers = nn.ModuleList(EnsembleLinear(num_critics, d_hidden, d_hidden) for _ in range(n_layers - 1))
        self.output_layer = EnsembleLinear(num_critics, d_hidden, d_output)
        self.activation = IN_PLACE.get(activation, activation_function(activation))
        self.dropout = nn.Dropout(dropout_p)

    def after_first_layer(self, hidden: Tensor) -> Tensor:
        """What the first layer gave (C, N, d_hidden) -> (C, N, d_output)."""
        hidden = self.dropout(self.activation(hidden))
        for layer in self.core_layers:
            hidden = self.dropout(self.activation(layer(hidden)))
        out: Tensor = self.output_layer(hidden)
        return out


class StateEnsemble(EnsembleLayers):
    """C MLPs of the state alone."""

    def forward(self, state: Tensor) -> Tensor:
        """States (B, T, D) -> (B, T, C, d_output)."""
        B, T, D = state.shape
        out = self.after_first_layer(self.inp_layer(state.reshape(1, B * T, D)))  # (C, B * T, d_output)
        return out.view(-1, B, T, out.shape[-1]).permute(1, 2, 0, 3)


class ActionEnsemble(EnsembleLayers):
    """C MLPs of (state, discount, action), whose first layer is computed in two shares and added.

    The first layer is linear, so a state's share is the same for every discount and every action that is tried in it:
    it is computed once, and the wide state is never repeated.

    Args:
        num_critics: C.
        state_dim: D, width of the state.
        action_dim: A, how many actions.
        d_hidden: H, width of the hidden layers.
        n_layers: how many hidden layers.
        d_output: width of the output.
        activation: leaky_relu, relu or gelu.
        dropout_p: dropout after each hidden layer.
    """

    def __init__(
        self,
        num_critics: int,
        state_dim: int,
        action_dim: int,
        d_hidden: int,
        n_layers: int,
        d_output: int,
        activation: str,
        dropout_p: float,
    ) -> None:
        super().__init__(num_critics, state_dim + 1 + action_dim, d_hidden, n_layers, d_output, activation, dropout_p)
        self.state_dim = state_dim

    def forward(self, state: Tensor, gamma_feature: Tensor, action: Tensor) -> Tensor:
        """States (B, T, D), discounts (G,), actions (K, B, T, G, A) -> (K, B, T, C, G, d_output)."""
        K, B, T, G, _ = action.shape
        share, states = self.state_share(state), torch.arange(B * T, device=state.device).repeat_interleave(G)
        queries = with_discount(gamma_feature, action).reshape(K, 1, B * T * G, -1)
        outputs = torch.stack([self.evaluate(share[:, states], query) for query in queries])
        return outputs.view(K, -1, B, T, G, outputs.shape[-1]).permute(0, 2, 3, 1, 4, 5)

    def state_share(self, state: Tensor) -> Tensor:
        """What the first layer makes of the states (B, T, D) alone, (C, B * T, H)."""
        C, D = len(self.inp_layer.weight), self.state_dim
        states = state.reshape(1, -1, D).expand(C, -1, -1)
        return torch.baddbmm(self.inp_layer.bias[0, 0, :, None], states, self.inp_layer.weight[:, :D])

    def evaluate(self, share: Tensor, query: Tensor) -> Tensor:
        """Evaluate C MLPs on N queries each: state shares (C, N, H), queries (C, N, 1 + A) -> (C, N, d_output).

        A query is a discount and an action, see `with_discount`; (1, N, 1 + A) are the same for all C. What was in
        `share` is overwritten.
        """
        of_query = self.inp_layer.weight[:, self.state_dim :].to(share.dtype)  # (C, 1 + A, H)
        query = query.to(share.dtype).expand(len(share), -1, -1)  # autocast leaves what is done in place alone
        return self.after_first_layer(share.baddbmm_(query, of_query))


def with_discount(gamma_feature: Tensor, action: Tensor) -> Tensor:
    """Discounts (G,), actions (..., G, A) -> (..., G, 1 + A)."""
    return torch.cat((gamma_feature[:, None].expand(*action.shape[:-1], 1), action), dim=-1)
