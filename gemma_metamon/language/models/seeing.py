"""How the layers of a Gemma 3 that sees take pictures: as soft tokens between the subwords."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def embed(gemma: Any, ids: Tensor, pixels: Tensor) -> Tensor:
    """What the language layers are given, (B, T, D).

    Args:
        gemma: a Gemma3ForConditionalGeneration.
        ids: subwords (B, T), with soft tokens in the places of what is seen.
        pixels: (pictures of all rows, 3, height, width), in the order of their places.
    """
    words: Tensor = gemma.get_input_embeddings()(ids)
    seen = gemma.get_image_features(pixels.to(ids.device), return_dict=True).pooler_output
    return words.masked_scatter((ids == gemma.config.image_token_id)[..., None], seen.to(words.dtype))


def picture_blocks(ids: Tensor, image_token: int) -> Tensor:
    """(B, T, T), True where two places are of one picture: these see each other, whichever comes first."""
    soft = ids == image_token
    begins = soft & ~F.pad(soft, (1, -1))
    number = begins.cumsum(1) * soft
    return soft[:, :, None] & (number[:, :, None] == number[:, None, :])
