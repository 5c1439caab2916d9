"""A Gemma 3 that sees, of random weights: its architecture and its processor, small enough for minutes on a CPU.

Nothing is downloaded. Both are transformers' own classes, so that what trains and plays with them does so with
google/gemma-3-4b-it as well.
"""

from collections.abc import Iterable
from importlib.resources import files
from typing import Any, Final

import torch

from gemma_metamon.errors import ConfigError
from gemma_metamon.language.models.chat_model import TINY_CONFIG
from gemma_metamon.language.tokenizers import END_OF_TURN, EOS, START_OF_TURN, learn_tokenizer

START_OF_IMAGE, END_OF_IMAGE, IMAGE = "<start_of_image>", "<end_of_image>", "<image_soft_token>"
PATCH: Final = 28
"""Pixels on a side of what becomes one token: Gemma 3 pools 4 x 4 patches of 14; here a patch of 28 is read at once."""
PAPER: Final = 250 / 255
"""What is subtracted from a colour: that of the light ground, so that nothing but what is drawn enters the tower."""
SPREAD: Final = 0.35
"""Of colours around it, roughly."""
TINY_TOWER: Final[dict[str, Any]] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "patch_size": PATCH,
}


CONTRAST: Final = PATCH**2 * 3 * 0.5 / TINY_TOWER["hidden_size"]
"""What a colour is divided by, for the weights that read it to be as many times larger: Adam moves each weight of a
layer by the same, so that a layer of so many inputs (2,352) would answer each update by more than it says at all, and
what is seen would be noise while the language layers learn to do without."""


def picture_tokens(size: int) -> int:
    """Tokens that the tiny model spends on a picture (16 for 112 pixels, 64 for 224).

    Raises:
        ConfigError: a size that its patches do not divide.
    """
    side, left = divmod(size, PATCH)
    if left or not side:
        raise ConfigError(
            f"pictures of {size} pixels are not made of the tiny model's patches; export them with a --size that is a "
            f"multiple of {PATCH}, like 224"
        )
    return side * side


def build_processor(texts: Iterable[str], size: int) -> Any:
    """A processor for square pictures of `size` pixels, whose words are those of the texts and all display names.

    Raises ConfigError as `picture_tokens` does.
    """
    from transformers import Gemma3Processor, PreTrainedTokenizerFast
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    n_tokens = picture_tokens(size)
    learned = learn_tokenizer([{"role": "user", "content": text}] for text in texts)
    build: Any = PreTrainedTokenizerFast
    tokenizer = build(
        tokenizer_object=learned.backend_tokenizer,
        **{f"{name}_token": getattr(learned, f"{name}_token") for name in ("bos", "eos", "pad", "unk")},
        additional_special_tokens=[START_OF_TURN, END_OF_TURN],
        extra_special_tokens={"boi_token": START_OF_IMAGE, "eoi_token": END_OF_IMAGE, "image_token": IMAGE},
        clean_up_tokenization_spaces=False,
    )
    template = (files("gemma_metamon.vision") / "assets" / "gemma_chat.jinja").read_text(encoding="utf-8")
    pictures: Any = Gemma3ImageProcessorPil(
        size={"height": size, "width": size}, do_pan_and_scan=False, image_mean=[PAPER] * 3, image_std=[CONTRAST] * 3
    )
    made: Any = Gemma3Processor
    return made(pictures, tokenizer, chat_template=template, image_seq_length=n_tokens)


def build_model(processor: Any, seed: int = 0) -> Any:
    """A Gemma3ForConditionalGeneration of random weights for a processor of `build_processor`."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

    tokenizer = processor.tokenizer
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    text_config: Any = Gemma3TextConfig
    tower: Any = SiglipVisionConfig
    whole: Any = Gemma3Config
    config = whole(
        text_config=text_config(vocab_size=len(tokenizer), **TINY_CONFIG, **ids),
        vision_config=tower(image_size=processor.image_processor.size["height"], **TINY_TOWER),
        mm_tokens_per_image=processor.image_seq_length,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        eos_token_id=[tokenizer.convert_tokens_to_ids(EOS), end],
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = Gemma3ForConditionalGeneration(config)
        projection = model.model.multi_modal_projector.mm_input_projection_weight  # transformers begins with zeros:
        torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)  # nothing seen would reach an answer
        patches = model.model.vision_tower.get_input_embeddings()  # of pictures: the layer that reads patches
        patches.weight.data *= CONTRAST / SPREAD
        places = model.model.vision_tower.embeddings.position_embedding.weight  # else lost beside what is drawn there
        torch.nn.init.normal_(places, std=0.5)
    return model
