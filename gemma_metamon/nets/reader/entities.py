"""A turn as entities: which texts there are to read, and one vector per slot of what was read.

    words (N, W) -> entities (N, E, K) -> distinct ones, read once -> (N, E, D) + slots -> fusion (N, E, D)

An entity's text is the same in whatever slot and turn it stands, so that it is read once in a batch; where it stands
is added afterwards. Knows no Gemma: texts out, vectors in.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.distinct_rows import distinct_rows
from gemma_metamon.nets.reader.readout import SummaryReadout
from gemma_metamon.nets.reader.subword_lookup import NO_WORD
from gemma_metamon.text.slots import Slot

SLOT_STD = 1.0
"""Of a slot's embedding; as strong as an entity's vector, which has unit scale."""


class EntityReader(nn.Module):
    """Splits turns into entities, and lets those of a turn see each other once they are vectors.

    `split` gives the texts, `pool` makes a vector of the states that Gemma makes of one, `forward` fuses a turn.

    Shapes: words (N, W); entities (M, K); vectors (N, E, D) -> (N, E, D).
    N turns, W words of a turn, E slots, K words of the longest entity, M distinct entities, D width.

    Args:
        slots: what words of a turn belong together.
        hidden_size: width of Gemma's states.
        width: D.
        n_layers: of the transformer that fuses a turn; 0 leaves each entity by itself.
        n_heads: of its attention, and of the pooling of an entity's states.

    Raises:
        ConfigError: a width that is no multiple of n_heads.
    """

    words_of: Tensor
    places: Tensor

    def __init__(self, slots: Sequence[Slot], hidden_size: int, *, width: int, n_layers: int, n_heads: int) -> None:
        super().__init__()
        check_fusion(width, n_heads)
        longest, n_words = max(slot.stop - slot.start for slot in slots), slots[-1].stop
        # (E, K), the words of each slot; behind them, the one after the turn's last, which `split` adds
        words_of = [[*range(slot.start, slot.stop), *[n_words] * longest][:longest] for slot in slots]
        self.register_buffer("words_of", torch.tensor(words_of), persistent=False)
        self.register_buffer("places", torch.arange(1, len(slots) + 1), persistent=False)  # (E,), for the readout
        self.pool = SummaryReadout(hidden_size, longest, summary_tokens=n_heads, token_dim=width // n_heads)
        self.slots = nn.Parameter(torch.randn(len(slots), width) * SLOT_STD)
        layers = [
            nn.TransformerEncoderLayer(
                width, n_heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(n_layers)
        ]
        self.fusion = nn.Sequential(*layers)
        for layer in layers:  # at first each entity stands for itself: random mixing would blur them
            nn.init.zeros_(layer.self_attn.out_proj.weight)
            nn.init.zeros_(layer.linear2.weight)
            nn.init.zeros_(layer.linear2.bias)

    def split(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Turns (N, W) -> their distinct entities (M, K), NO_WORD behind short ones, and which stands where (N, E)."""
        entities = F.pad(words, (0, 1), value=NO_WORD)[:, self.words_of]  # (N, E, K)
        distinct, entity_of = distinct_rows(entities.flatten(0, 1))
        return distinct, entity_of.view(entities.shape[:2])

    def forward(self, vectors: Tensor) -> Tensor:
        """The entities' vectors of N turns (N, E, D) -> the same, each having seen the others, (N, E, D)."""
        fused: Tensor = self.fusion(vectors + self.slots)  # (N, E, D)
        return fused


def check_fusion(width: int, n_heads: int) -> None:
    """Raise ConfigError for a width that is no multiple of n_heads."""
    if width % n_heads:
        raise ConfigError(
            f"fusion_width ({width}) must be a multiple of fusion_heads ({n_heads}); "
            f"the next one is {(width // n_heads + 1) * n_heads}"
        )
