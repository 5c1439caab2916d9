"""Gemma's layers over one learned vector per word: what is left of the text encoder when words have no spelling.

For comparisons: everything else, from Gemma's layers to the readout, is `GemmaTstepEncoder`'s own, and so are its
parameters in gin. A word is one subword with a row of its own; two words have in common only what training gives them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.subword_lookup import SubwordLookup
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.nets.spaces import HasShape
from gemma_metamon.text.subwords import BOS_ID, PAD_ID, VocabularySubwords


class WordLookup(SubwordLookup):
    """In place of the table word -> subwords: each of V words, and the unknown one, is one subword."""

    def __init__(self, n_words: int) -> None:
        own = np.arange(n_words + 1, dtype=np.int32)[:, None] + max(PAD_ID, BOS_ID) + 1  # (V + 1, 1)
        one = np.ones(n_words + 1, dtype=np.int32)
        table = VocabularySubwords(
            phrasing="", words=(), first_ids=own, inner_ids=own, first_lengths=one, inner_lengths=one
        )
        super().__init__(table, compact=True)


def build_word_encoder(
    obs_space: Mapping[str, HasShape],
    rl2_space: HasShape,
    encoder_type: Callable[..., GemmaTstepEncoder] | None = None,
    **words: Any,
) -> GemmaTstepEncoder:
    """A `GemmaTstepEncoder` that reads a learned vector per word; gin knows this as `WordTstepEncoder`.

    Args:
        obs_space: as for `GemmaTstepEncoder`.
        rl2_space: as for `GemmaTstepEncoder`.
        encoder_type: builds the encoder, with what is bound under its own name. Its `phrasing` changes nothing here.
        words: what whoever builds the encoder tells it of the words: vocabulary, observation_space.

    Raises:
        ConfigError: no encoder_type, or a Gemma whose own weights are not trained: the words could not be learned.
    """
    if encoder_type is None:
        raise ConfigError("WordTstepEncoder.encoder_type must be set; start from gemma_tiny_words.gin")
    encoder = encoder_type(obs_space=obs_space, rl2_space=rl2_space, **words)
    if not encoder.options.trains_base:
        raise ConfigError(
            "WordTstepEncoder learns a vector per word, but Gemma's weights are frozen; "
            "set GemmaTstepEncoder.use_lora = False and freeze_base_model = False"
        )
    n_words = len(encoder.subwords.first_ids) - 2  # without the unknown word and none
    encoder.reader.lookup = WordLookup(n_words)
    encoder.read_with(encoder.reader)
    backbone: Any = encoder.backbone
    whole = backbone.embed_tokens
    rows, width = len(encoder.subwords.used_ids), whole.embedding_dim
    # of the same class, which multiplies by sqrt(hidden_size) in a buffer that is not saved
    learned = type(whole)(rows, width, 0, embed_scale=backbone.config.hidden_size**0.5)
    learned.weight = nn.Parameter(whole.weight.new_empty(rows, width).normal_() * whole.weight.detach().std())
    backbone.embed_tokens = learned
    backbone.config.vocab_size = backbone.vocab_size = rows
    return encoder
