"""Turns of random words that share a bench, for encoders that read them as entities."""

from typing import Any

import torch
from support.encoders import SPACES
from torch import Tensor

from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.text.slots import split_turn
from gemma_metamon.text.vocabulary import Vocabulary

WORDS = 87
NUMBERS = 5
ACTIONS = 13
SLOTS = split_turn(OBSERVATION_SPACES["DefaultObservationSpace"])


def spaces(words: int = WORDS) -> dict[str, Any]:
    text = type("Space", (), {"shape": (words,)})
    return {**SPACES, "obs_space": {**SPACES["obs_space"], "text_tokens": text}}


def make_turns(n: int = 6, seed: int = 0) -> Tensor:
    """(n, WORDS): random words, with a bench that turns have in common."""
    draw = torch.Generator().manual_seed(seed)
    words = torch.randint(-1, len(Vocabulary.default()), (n, WORDS), generator=draw).int()
    for slot in SLOTS:
        if slot.name.startswith("bench"):
            words[:, slot.start : slot.stop] = words[0, slot.start : slot.stop].clone()
    return words


def make_batch() -> tuple[dict[str, Tensor], Tensor]:
    draw = torch.Generator().manual_seed(1)
    obs = {"text_tokens": make_turns(8).view(2, 4, WORDS), "numbers": torch.randn(2, 4, NUMBERS, generator=draw)}
    return obs, torch.randn(2, 4, 1 + ACTIONS, generator=draw)
