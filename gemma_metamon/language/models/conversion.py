"""A chat model for programs that are not Python's: llama.cpp's GGUF, and Apple's MLX.

Both begin with the plain folder of `models.export_whole`. Each of the two programs has parts of Gemma 3's architecture
built in, so a model that departs from these would be read as another one: it is refused.
"""

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import safe_open

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.language.models.chat_model import ChatModel, export_whole
from gemma_metamon.language.tokenizers import BOS, END_OF_TURN, EOS, PAD, UNKNOWN

PATTERN: Final = 6
"""One layer of so many sees the whole text: built into llama.cpp and into mlx-lm."""
CLOSE: Final = 1e-3
"""So far may MLX's logits lie from torch's, as a share of the largest."""
_LOCAL_THETA: Final = 10_000.0
_NORM_SHIFT: Final = 1.0


def export_gguf(chat: ChatModel, out: Path) -> list[str]:
    """Writes one file in float32 for llama.cpp and what is made of it; every tensor is read back and compared.

    Args:
        chat: a loaded model.
        out: a file that does not exist yet.

    Returns:
        What a user must know of the result, a sentence each.

    Raises:
        ConfigError: a model that llama.cpp would read as another one; says why.
        DataError: a file that does not hold what was written.
    """
    _require_architecture(chat, "llama.cpp")
    _require_gemmas_words(chat)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "whole")
        said = export_whole(chat, folder)
        with written_whole(out) as staged:
            _write_gguf(folder, staged)
            _require_equal(folder, staged)
    return [*said, "float32: llama.cpp's llama-quantize makes it smaller"]


def export_mlx(chat: ChatModel, out: Path) -> list[str]:
    """Writes a folder in float32 for mlx-lm, which is loaded again there and gives the same logits.

    Args:
        chat: a loaded model.
        out: a folder that does not exist yet.

    Returns:
        What a user must know of the result, a sentence each.

    Raises:
        ConfigError: a model that mlx-lm would read as another one; says why.
        DataError: logits that differ; then nothing is written.
    """
    _require_architecture(chat, "mlx-lm")
    from mlx_lm.convert import convert

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "whole")
        said = export_whole(chat, folder)
        made = Path(scratch, "mlx")
        with contextlib.redirect_stdout(sys.stderr):  # it tells what it does where results go
            convert(str(folder), mlx_path=str(made), dtype="float32")
        difference = mlx_difference(folder, made)
        if not difference <= CLOSE:
            raise DataError(
                f"mlx-lm's logits of it lie {difference:.2g} of the largest from torch's, more than {CLOSE:g}; nothing "
                "is written; use --to merged"
            )
        with written_whole(out) as staged:
            staged.mkdir()
            for path in made.iterdir():  # copytree does not tell that a disk is full
                shutil.copyfile(path, staged / path.name)
    return [*said, f"loaded again by mlx-lm: its logits lie at most {difference:.1g} of the largest from torch's"]


def mlx_difference(folder: Path, made: Path) -> float:
    """How far the logits of a plain folder and its MLX form lie apart over 64 subwords, as a share of the largest."""
    import mlx.core as mx
    from mlx_lm.utils import load_model
    from transformers import AutoModelForCausalLM

    ours: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    ours.eval()
    ids = torch.randint(ours.config.vocab_size, (1, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = ours(input_ids=ids).logits.numpy()
    theirs, _ = load_model(made)
    found = np.array(theirs(mx.array(ids.numpy())).astype(mx.float32))
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _require_architecture(chat: ChatModel, program: str) -> None:
    """Raises ConfigError for a model of which this program would assume something else than it is."""
    config = chat.gemma.config
    layers = list(config.layer_types)
    usual = ["sliding_attention" if (i + 1) % PATTERN else "full_attention" for i in range(len(layers))]
    if len(layers) < PATTERN or layers != usual:
        raise ConfigError(
            f"{program} takes every sixth layer of a Gemma 3 for one that sees the whole text, and this model has "
            f"{len(layers)} layers in another order; export it with --to merged"
        )
    rope = config.rope_parameters
    if rope["sliding_attention"]["rope_theta"] != _LOCAL_THETA or any(
        part["rope_type"] not in ("default", "linear") for part in rope.values()
    ):
        raise ConfigError(f"{program} does not turn positions as this model does; export it with --to merged")
    if config.query_pre_attn_scalar != config.head_dim and program == "llama.cpp":
        raise ConfigError(
            f"llama.cpp scales attention by head_dim ({config.head_dim}), and this model by "
            f"{config.query_pre_attn_scalar}; export it with --to merged"
        )


def _require_gemmas_words(chat: ChatModel) -> None:
    """Raises ConfigError for a tokenizer that parts a text by a rule which a GGUF file cannot hold."""
    parts = json.loads(chat.tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]
    if parts is not None and parts.get("pattern") != {"String": " "}:
        raise ConfigError(
            "its subwords were learned from its chats, by a rule that llama.cpp does not know, so the same text would "
            "be other subwords there; export a model that was trained over a pretrained Gemma, or this one --to merged"
        )


def _write_gguf(folder: Path, path: Path) -> None:
    import gguf

    with contextlib.closing(gguf.GGUFWriter(path, "gemma3")) as writer:
        _fill(writer, folder)


def _fill(writer: Any, folder: Path) -> None:
    import gguf

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer.add_name(folder.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_sliding_window(config["sliding_window"])
    rope = config["rope_parameters"]["full_attention"]
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_words(writer, folder, config["vocab_size"])
    for name, values in _tensors(folder):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()


def _add_words(writer: Any, folder: Path, vocab_size: int) -> None:
    """The subwords as sentencepiece has them: a score each, by which pairs are joined in the order of the merges."""
    import gguf
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(whole["model"]["merges"]):
        ranks.setdefault("".join(pair), rank)
    special = {token["content"]: token["special"] for token in whole["added_tokens"]}
    words = {index: word for word, index in tokenizer.get_vocab().items()}
    tokens, scores, kinds = list[bytes](), list[float](), list[int]()
    kind = gguf.TokenType
    for index in range(vocab_size):
        word = words.get(index, f"[PAD{index}]")
        tokens.append(word.encode())
        scores.append(-float(ranks.get(word, len(ranks) + index)))
        if index not in words:
            kinds.append(kind.UNUSED)
        elif word == UNKNOWN:
            kinds.append(kind.UNKNOWN)
        elif word in special:
            kinds.append(kind.CONTROL if special[word] else kind.USER_DEFINED)
        else:
            is_byte = len(word) == 6 and word.startswith("<0x") and word.endswith(">")
            kinds.append(kind.BYTE if is_byte else kind.NORMAL)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    for add, word in (
        (writer.add_bos_token_id, BOS),
        (writer.add_eos_token_id, EOS),
        (writer.add_eot_token_id, END_OF_TURN),
        (writer.add_pad_token_id, PAD),
        (writer.add_unk_token_id, UNKNOWN),
    ):
        add(tokenizer.convert_tokens_to_ids(word))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(tokenizer.chat_template)


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    """All weights in float32 under GGUF's names; a norm multiplies by its weight there, and by 1 more here."""
    import gguf

    layers = json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, layers)
    files = sorted(folder.glob("*.safetensors"))
    for path in files:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 no mapping
                theirs = names.get_name(name, try_suffixes=(".weight",))
                if theirs is None:
                    raise ConfigError(f"GGUF has no name for {name} of a Gemma 3; export it with --to merged")
                values = file.get_tensor(name).float()
                yield theirs, (values + _NORM_SHIFT if name.endswith("norm.weight") else values).numpy()


def _require_equal(folder: Path, path: Path) -> None:
    """Raises DataError where a tensor that gguf reads is not the one that was meant, or where one is missing."""
    import gguf

    read = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    wanted = 0
    for name, values in _tensors(folder):
        wanted += 1
        found = read.get(name)
        if found is None or not np.array_equal(found.data.reshape(values.shape), values):
            raise DataError(f"{name} of the GGUF file is not what was written; run the command again")
    if wanted != len(read):
        raise DataError(f"the GGUF file holds {len(read)} tensors in place of {wanted}; run the command again")
