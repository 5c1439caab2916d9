"""The tokenizers of chat models: Gemma's own cut down to what is needed, or a small one learned from the chats.

A causal head over Gemma's 262,144 subwords costs a tiny model far more than all its layers, and its embedding is most
of Gemma 3 270M. So a model keeps the subwords that its chats, the answers and all display names need. Byte-pair
merging of a text makes only the merges within the subwords that come out: without the merges of other subwords these
texts fall into the same subwords as before, and any other text into more of them, at worst into single bytes.

A model of random weights has learned no subwords that it could be faithful to. Its tokenizer is learned from its chats,
in the form of Gemma's and with its marks, with a word or number as one subword where Gemma needs several: texts are
half as long, and nothing is to be downloaded.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any, Final

from gemma_metamon.errors import ConfigError
from gemma_metamon.text.vocabulary import load_display_names

PAD, EOS, BOS, UNKNOWN = "<pad>", "<eos>", "<bos>", "<unk>"
START_OF_TURN, END_OF_TURN = "<start_of_turn>", "<end_of_turn>"
MARKS: Final = (PAD, EOS, BOS, UNKNOWN, START_OF_TURN, END_OF_TURN)
_BYTES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))
_SPACE: Final = "\N{LOWER ONE EIGHTH BLOCK}"
"""What Gemma reads a space as."""
_WORD: Final = "|".join(
    (
        r"</?[A-Z]+>",
        rf"{_SPACE}?\p{{L}}+(?:[-'{chr(0x2019)}.]\p{{L}}+)*",
        rf"{_SPACE}?\p{{N}}{{1,3}}%?",
        rf"{_SPACE}?[^\s\p{{L}}\p{{N}}{_SPACE}]+",
        rf"\s|{_SPACE}",
    )
)
"""What may become one subword of a learned tokenizer: a mark of the answer, a word, a number or percentage, a sign."""
MOST_SUBWORDS: Final = 8192
"""Of a learned tokenizer. Chats of one format and all display names need about 7,500."""


@cache
def chat_template() -> str:
    """Gemma's turns, for tokenizers that come without a template: those of its base models, and learned ones."""
    return (files("gemma_metamon.language") / "assets" / "gemma_chat.jinja").read_text(encoding="utf-8")


def learn_tokenizer(chats: Iterable[Sequence[dict[str, str]]]) -> Any:
    """A transformers tokenizer in Gemma's form whose subwords are the words of these chats and of all display names."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    names = list(load_display_names().values())
    trainer = trainers.BpeTrainer(
        vocab_size=MOST_SUBWORDS, special_tokens=[*MARKS, *_BYTES], show_progress=False, min_frequency=2
    )
    # twice, so that each counts as frequent; with a space, as they stand in a text
    said = (text for chat in chats for message in chat for text in (message["content"], "user\n", "model\n"))
    tokenizer.train_from_iterator([*said, *(f" {name}" for name in names for _ in range(2))], trainer)
    return _wrapped(tokenizer)


def trim_tokenizer(tokenizer: Any, chats: Iterable[Sequence[dict[str, str]]]) -> tuple[Any, list[int]]:
    """Gemma's tokenizer with the subwords alone that these chats, all display names and the marks need.

    Args:
        tokenizer: transformers' fast tokenizer of a Gemma 3, with a chat template.
        chats: whose texts are to fall into the same subwords as before.

    Returns:
        The smaller tokenizer, and the ids (U,) in the larger one that its ids stand for, ascending.

    Raises:
        ConfigError: a tokenizer that is no byte-pair encoding, or one without the marks of a chat.
    """
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    if whole["model"]["type"] != "BPE":
        raise ConfigError(f"the tokenizer is a {whole['model']['type']}, wanted Gemma's byte-pair encoding")
    vocabulary: dict[str, int] = whole["model"]["vocab"] | {
        each["content"]: each["id"] for each in whole["added_tokens"]
    }
    missing = [mark for mark in MARKS if mark not in vocabulary]
    if missing:
        raise ConfigError(f"the tokenizer has no {missing[0]}, with which Gemma's chats are written")
    names = list(load_display_names().values())
    texts = [tokenizer.apply_chat_template(list(chat), tokenize=False) for chat in chats]
    read = [*texts, *names, *(f" {name}" for name in names)]
    encoded = tokenizer(read, add_special_tokens=False)["input_ids"]
    ids = {index for row in encoded for index in row}
    kept, merges = _with_their_parts(whole["model"], {tokenizer.convert_ids_to_tokens(index) for index in ids})
    kept |= {*MARKS, *_BYTES} & vocabulary.keys()
    kept_ids = sorted({vocabulary[piece] for piece in kept})
    place = {index: row for row, index in enumerate(kept_ids)}
    whole["model"]["vocab"] = {p: place[i] for p, i in whole["model"]["vocab"].items() if p in kept}
    whole["model"]["merges"] = merges
    whole["added_tokens"] = [
        each | {"id": place[each["id"]]} for each in whole["added_tokens"] if each["content"] in kept
    ]
    whole["post_processor"] = None  # whoever encodes a chat has its template write <bos>
    from tokenizers import Tokenizer

    return _wrapped(Tokenizer.from_str(json.dumps(whole)), tokenizer.chat_template), kept_ids


def _with_their_parts(model: dict[str, Any], pieces: set[str]) -> tuple[set[str], list[Any]]:
    """The pieces and all that they are merged from, and the merges between these, in their order."""
    merges = [tuple(each) if isinstance(each, list) else tuple(each.split(" ")) for each in model["merges"]]
    rank = {pair: place for place, pair in enumerate(merges)}
    kept, used = set(pieces), set[int]()
    for piece in pieces:
        parts = list(piece)
        while True:
            kept.update(parts)
            found = [(rank[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in rank]
            if not found:
                break
            first, i = min(found)
            used.add(first)
            parts[i : i + 2] = ["".join(parts[i : i + 2])]
    return kept & model["vocab"].keys() | pieces, [merges[place] for place in sorted(used)]


def _wrapped(tokenizer: Any, template: str | None = None) -> Any:
    from transformers import PreTrainedTokenizerFast

    build: Any = PreTrainedTokenizerFast
    return build(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[START_OF_TURN, END_OF_TURN],
        chat_template=template or chat_template(),
        clean_up_tokenization_spaces=False,
    )


def encode_prompts(tokenizer: Any, chats: Sequence[Sequence[dict[str, str]]]) -> list[list[int]]:
    """The subwords of chats up to where the model answers."""
    texts = [tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True) for chat in chats]
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return encoded


def encode_answers(tokenizer: Any, answers: Sequence[str]) -> list[list[int]]:
    """The subwords of answers behind a prompt, with the mark that ends the model's turn."""
    texts = [answer + END_OF_TURN for answer in answers]
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return encoded
