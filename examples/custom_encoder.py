"""An encoder in place of Gemma, under a name that gin and every command of `gemma-metamon` then know.

This file is the command: `python examples/custom_encoder.py train --run_name bag --save_dir runs
--model_gin_config gemma_tiny_multitaskagent.gin --train_gin_config quick.gin
--gin_override 'MetamonAMAGOExperiment.tstep_encoder_type = @BagOfWordsEncoder'`.
"""

import sys
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gemma_metamon.commands import main
from gemma_metamon.configs import names
from gemma_metamon.nets.batch import padded_timesteps
from gemma_metamon.nets.spaces import HasShape
from gemma_metamon.nets.timestep import TimestepEncoder


class BagOfWordsEncoder(TimestepEncoder):
    """The mean of a learned vector per word, beside the numbers.

    What its weights mean something for stands in the first line: a run with other values is refused.
    """

    phrasing, granularity, subword_hash = "none", "turn", "bag of words"

    def __init__(
        self,
        obs_space: Mapping[str, HasShape],
        rl2_space: HasShape,
        width: int = 128,
        vocabulary: Sequence[str] = (),
        observation_space: str | None = None,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(len(vocabulary) + 1, width)  # row 0 is the unknown word, whose id is -1
        n_numbers = obs_space["numbers"].shape[0] + rl2_space.shape[0]
        self.mix = nn.Sequential(nn.Linear(width + n_numbers, width), nn.GELU(), nn.Linear(width, width))
        self.emb_dim = width

    def forward(self, obs: Mapping[str, Tensor], rl2s: Tensor) -> Tensor:
        """obs["text_tokens"] (B, L, W), obs["numbers"] (B, L, N), rl2s (B, L, 1 + A) -> (B, L, width)."""
        padded = padded_timesteps(rl2s)  # (B, L): whatever stands there is no word
        ids = obs["text_tokens"].masked_fill(padded[..., None], -1) + 1
        words = self.words(ids).mean(dim=2)
        mixed: Tensor = self.mix(torch.cat([words, obs["numbers"], rl2s], dim=-1))
        return mixed.masked_fill(padded[..., None], 0.0)

    def describe(self) -> str:
        """What is said of it where an agent is loaded."""
        return f"a bag of {self.words.num_embeddings} words"


names.register("BagOfWordsEncoder", "custom_encoder", BagOfWordsEncoder)

if __name__ == "__main__":
    sys.exit(main())
