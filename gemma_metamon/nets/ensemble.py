"""C independent MLPs of one shape, computed together: what both kinds of critics are made of."""

import math

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.layers import activation_function


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
    """The layers of C MLPs: d_inp -> d_hidden (n_layers times, activated) -> d_output."""

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
        if n_layers < 1:
            raise ConfigError(f"n_layers ({n_layers}) must be at least 1")
        self.inp_layer = EnsembleLinear(num_critics, d_inp, d_hidden)
        self.core_layers = nn.ModuleList(EnsembleLinear(num_critics, d_hidden, d_hidden) for _ in range(n_layers - 1))
        self.output_layer = EnsembleLinear(num_critics, d_hidden, d_output)
        self.activation = activation_function(activation)
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
    """C MLPs of (state, discount, action), whose first layer is computed in three shares and added.

    The first layer is linear, so a state's share is the same for every discount and every action that is tried in it:
    it is computed once, and the wide state is never repeated.
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
        K, B, T, G, A = action.shape
        weight, bias = self.inp_layer.weight, self.inp_layer.bias[0, 0]  # (C, D + 1 + A, H), (C, H)
        C, _, H = weight.shape
        of_state, of_gamma, of_action = torch.split(weight, [self.state_dim, 1, A], dim=1)
        state_share = state.reshape(1, B * T, self.state_dim) @ of_state  # (C, B * T, H)
        gamma_share = gamma_feature[:, None] * of_gamma + bias[:, None]  # (C, G, H)
        action_share = action.reshape(1, -1, A) @ of_action  # (C, K * B * T * G, H)
        hidden = (
            action_share.view(C, K, B * T, G, H) + state_share[:, None, :, None] + gamma_share[:, None, None]
        ).view(C, -1, H)
        return self.after_first_layer(hidden).view(C, K, B, T, G, -1).permute(1, 2, 3, 0, 4, 5)
