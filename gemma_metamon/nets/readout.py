"""Text states of any length in, a fixed number of summary tokens out.

Gemma 3 270M is 640 wide; a timestep wants 21 x 128 = 2688. Only here does one become the other.
No file, no network, no language model: states and a mask in, one vector per text out.
"""

import torch
from torch import Tensor, nn


class SummaryReadout(nn.Module):
    """Attention pooling with one head per summary token, each with its own scores and its own projection.

    States are normalised on the way in, because a pretrained Gemma's final gain makes some channels hundreds of times
    larger than others, and summary tokens on the way out, to the unit scale that a transformer's input should have.

    Shapes: states (N, T, hidden_size) and subword_mask (N, T), True on real subwords -> (N, S * D).
    N texts, T subwords, S summary tokens, D token width. Every text has at least one real subword.
    """

    def __init__(self, hidden_size: int, *, summary_tokens: int = 21, token_dim: int = 128) -> None:
        super().__init__()
        self.emb_dim = summary_tokens * token_dim
        self.state_norm = nn.LayerNorm(hidden_size)
        self.to_scores = nn.Linear(hidden_size, summary_tokens, bias=False)
        self.to_tokens = nn.Parameter(torch.randn(summary_tokens, hidden_size, token_dim) * hidden_size**-0.5)
        self.token_norm = nn.LayerNorm(token_dim)

    def forward(self, states: Tensor, subword_mask: Tensor) -> Tensor:
        states = self.state_norm(states.to(self.to_tokens.dtype))
        scores = self.to_scores(states).masked_fill(~subword_mask[..., None], -torch.inf)  # (N, T, S)
        pooled = scores.softmax(dim=1).transpose(1, 2) @ states  # (N, S, hidden_size)
        tokens = torch.einsum("nsh,shd->nsd", pooled, self.to_tokens)  # (N, S, D)
        summary: Tensor = self.token_norm(tokens).flatten(1)  # (N, S * D)
        return summary
