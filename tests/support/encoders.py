"""Small encoders with random weights, and batches for them to read."""

from types import SimpleNamespace
from typing import Any

import torch
from support.small_agent import BACKBONE
from torch import Tensor

from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.text.vocabulary import Vocabulary

WORDS = 12
NUMBERS = 5
ACTIONS = 13
SPACES = {
    "obs_space": {"text_tokens": SimpleNamespace(shape=(WORDS,)), "numbers": SimpleNamespace(shape=(NUMBERS,))},
    "rl2_space": SimpleNamespace(shape=(1 + ACTIONS,)),
}


def build(**changes: Any) -> GemmaTstepEncoder:
    torch.manual_seed(0)
    options = {"pretrained": False, "backbone_config": BACKBONE, "text_emb_dim": 24, "summary_tokens": 3}
    return GemmaTstepEncoder(**SPACES, **{**options, "text_cache_mb": 0, **changes})


def make_batch(battles: int = 2, timesteps: int = 4, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    draw = torch.Generator().manual_seed(seed)
    words = torch.randint(-1, len(Vocabulary.default()), (battles, timesteps, WORDS), generator=draw).int()
    obs = {"text_tokens": words, "numbers": torch.randn(battles, timesteps, NUMBERS, generator=draw)}
    return obs, torch.randn(battles, timesteps, 1 + ACTIONS, generator=draw)
