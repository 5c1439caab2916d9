"""Text states of any length in, a fixed number of summary tokens out.

Gemma 3 270M is 640 wide; a timestep wants 21 x 128 = 2688. Only here does one become the other.
No file, no network, no language model: states and the places of the words in, one vector per text out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOT_SCORE_STD = 2.0


class SummaryReadout(nn.Module):
    """Attention pooling with one head per summary token, each with its own scores and its own projection.

    A state's score for a head has two terms: what the state says, and where its word stands. In observations a place
    has one meaning (in the default space the second move's name is always word 16), and actions are numbered by such
    places: without the second term a head would first have to learn to count. It starts random and strong: each head
    begins with a few places of its own.

    States are normalised on the way in, because a pretrained Gemma's final gain makes some channels hundreds of times
    larger than others, and summary tokens on the way out, to the unit scale that a transformer's input should have.

    Shapes: states (N, T, hidden_size) and places (N, T) -> (N, S * D). A subword's place is that of its word in the
    text, from 1; 0 for bos, -1 for padding, which is not read. Every text has at least one real subword.
    N texts, T subwords, S summary tokens, D token width.

    Args:
        hidden_size: width of a state.
        words: W, the words of a text; None scores states without regard to their place.
        summary_tokens: S.
        token_dim: D.
    """

    def __init__(self, hidden_size: int, words: int | None, *, summary_tokens: int = 21, token_dim: int = 128) -> None:
        super().__init__()
        self.emb_dim = summary_tokens * token_dim
        self.state_norm = nn.LayerNorm(hidden_size)
        self.to_scores = nn.Linear(hidden_size, summary_tokens, bias=False)
        self.slot_scores: nn.Parameter | None = None
        if words is not None:
            self.slot_scores = nn.Parameter(torch.randn(words + 1, summary_tokens) * SLOT_SCORE_STD)
        self.to_tokens = nn.Parameter(torch.randn(summary_tokens, hidden_size, token_dim) * hidden_size**-0.5)
        self.token_norm = nn.LayerNorm(token_dim)

    def forward(self, states: Tensor, places: Tensor) -> Tensor:
        """States (N, T, hidden_size) and their places (N, T) -> (N, S * D)."""
        states = self._normalise(states)
        pooled = self._weigh(states, places).transpose(1, 2) @ states  # (N, S, hidden_size)
        tokens = torch.einsum("nsh,shd->nsd", pooled, self.to_tokens)  # (N, S, D)
        summary: Tensor = self.token_norm(tokens).flatten(1)  # (N, S * D)
        return summary

    def attention(self, states: Tensor, places: Tensor) -> Tensor:
        """How much each token takes of each state: (N, T, S), 1 in all over T, 0 on padding. As `forward` has it."""
        return self._weigh(self._normalise(states), places)

    def _normalise(self, states: Tensor) -> Tensor:
        normalised: Tensor = self.state_norm(states.to(self.to_tokens.dtype))
        return normalised

    def _weigh(self, states: Tensor, places: Tensor) -> Tensor:
        scores: Tensor = self.to_scores(states)  # (N, T, S)
        if self.slot_scores is not None:
            scores = scores + F.embedding(places.clamp(min=0), self.slot_scores)
        return scores.masked_fill(places[..., None] < 0, -torch.inf).softmax(dim=1)
