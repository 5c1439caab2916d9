"""language/models/conversion.py: what llama.cpp and MLX read is the model that it was made of, or nothing is."""

import json
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.chats import chats_of, gemma_tokenizer, small_model
from support.disks import disk_with_room

from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.language.data.chats import Chat
from gemma_metamon.language.models import chat_model as models
from gemma_metamon.language.models import conversion
from gemma_metamon.language.models.chat_model import export_whole

pytest.importorskip("trl", reason="needs the extra: pip install 'gemma-metamon[language]'")
pytestmark = pytest.mark.slow
SEVEN = {
    "num_hidden_layers": 7,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
}


@pytest.fixture(scope="module")
def chats() -> list[Chat]:
    return chats_of()


def with_gemmas_words(tmp_path: Path, chats: list[Chat], **changes: Any) -> models.ChatModel:
    """A small Gemma 3 whose tokenizer is Gemma's own, cut down; it is whole, as one that was downloaded."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    from gemma_metamon.language.tokenizers import trim_tokenizer

    tokenizer, _ = trim_tokenizer(gemma_tokenizer(), [chat.messages for chat in chats])
    config: Any = Gemma3TextConfig
    sizes = models.TINY_CONFIG | SEVEN | {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    gemma = Gemma3ForCausalLM(config(vocab_size=len(tokenizer), **(sizes | changes)))
    gemma.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return models.load(tmp_path / "base")


def test_gguf_reads_every_tensor_and_the_subwords_back(tmp_path: Path, chats: list[Chat]) -> None:
    gguf = pytest.importorskip("gguf", reason="needs the extra: pip install 'gemma-metamon[gguf]'")
    chat = with_gemmas_words(tmp_path, chats)
    said = conversion.export_gguf(chat, tmp_path / "out.gguf")
    assert "llama-quantize" in said[-1]
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    read = {tensor.name: tensor.data for tensor in reader.tensors}
    own = load_file(tmp_path / "base" / "model.safetensors")
    assert len(read) == len(own) == 7 * 13 + 2
    np.testing.assert_array_equal(read["token_embd.weight"].reshape(-1), own["model.embed_tokens.weight"].reshape(-1))
    # what llama.cpp's own converter does of Gemma's norms: it multiplies by weight, and Gemma by weight + 1
    np.testing.assert_array_equal(read["output_norm.weight"], own["model.norm.weight"] + 1)
    np.testing.assert_array_equal(
        read["blk.5.attn_q.weight"].reshape(-1), own["model.layers.5.self_attn.q_proj.weight"].reshape(-1)
    )
    np.testing.assert_array_equal(
        read["blk.0.ffn_norm.weight"], own["model.layers.0.pre_feedforward_layernorm.weight"] + 1
    )
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "gemma3"
    assert fields["gemma3.block_count"] == 7
    assert fields["gemma3.attention.sliding_window"] == 512
    assert fields["gemma3.rope.freq_base"] == 1_000_000
    tokens = fields["tokenizer.ggml.tokens"]
    assert tokens == chat.tokenizer.convert_ids_to_tokens(range(len(tokens)))
    assert tokens[fields["tokenizer.ggml.bos_token_id"]] == "<bos>"
    assert "start_of_turn" in fields["tokenizer.chat_template"]


def test_sentencepiece_with_the_files_scores_parts_texts_as_transformers_does(
    tmp_path: Path, chats: list[Chat]
) -> None:
    """As llama.cpp does it, by joining the pair of the best score: written down here, for short texts."""
    gguf = pytest.importorskip("gguf", reason="needs the extra: pip install 'gemma-metamon[gguf]'")
    chat = with_gemmas_words(tmp_path, chats)
    conversion.export_gguf(chat, tmp_path / "out.gguf")
    fields = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "out.gguf").fields.items()}
    scores = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.scores"], strict=True))

    def parted(text: str) -> list[str]:
        pieces = list(text.replace(" ", "\N{LOWER ONE EIGHTH BLOCK}"))
        while True:
            joined = [(scores[a + b], -i) for i, (a, b) in enumerate(pairwise(pieces)) if a + b in scores]
            if not joined:
                return pieces
            place = -max(joined)[1]
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]

    for each in chats[:8]:
        for line in each.messages[-2]["content"].splitlines()[:12]:
            if line.strip():
                assert parted(line) == chat.tokenizer.tokenize(line, add_special_tokens=False), line


def test_mlx_gives_the_same_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chats: list[Chat]) -> None:
    pytest.importorskip("mlx_lm", reason="needs the extra: pip install 'gemma-metamon[mlx]'")
    chat = small_model(monkeypatch, chats, **SEVEN)
    said = conversion.export_mlx(chat, tmp_path / "out")
    assert "loaded again by mlx-lm" in said[-1]
    export_whole(chat, tmp_path / "whole")
    assert conversion.mlx_difference(tmp_path / "whole", tmp_path / "out") < 1e-3
    whole = json.loads((tmp_path / "out" / "config.json").read_text())
    assert whole["num_hidden_layers"] == 7

    monkeypatch.setattr(conversion, "CLOSE", 0.0)  # no two libraries agree to the last bit
    with pytest.raises(DataError, match=r"logits of it lie .* nothing is written"):
        conversion.export_mlx(chat, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("full", ["out", "scratch"])
@pytest.mark.parametrize("form", ["gguf", "mlx"])
def test_a_disk_without_room_is_one_sentence_and_nothing_is_left(
    form: str,
    full: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chats: list[Chat],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """That of --out, or that of the machine's temporary files."""
    pytest.importorskip({"gguf": "gguf", "mlx": "mlx_lm"}[form], reason=f"needs pip install 'gemma-metamon[{form}]'")
    if form == "gguf":
        with_gemmas_words(tmp_path, chats)
    else:
        small_model(monkeypatch, chats, **SEVEN).save(tmp_path / "base")
    with disk_with_room(tmp_path / "disk", 1 << 14) as disk:
        out = (disk if full == "out" else tmp_path) / "exported"
        if full == "scratch":
            monkeypatch.setattr(tempfile, "tempdir", str(disk))
        capsys.readouterr()
        assert main(["export", "--run_dir", str(tmp_path / "base"), "--to", form, "--out", str(out)]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert "o space left on device" in said[-1]
        assert not any(line.startswith("Traceback") for line in said), said
        assert [path.name for path in disk.iterdir()] == ["filler"]
        assert not out.exists()


@pytest.mark.parametrize("form", ["gguf", "mlx"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "2 layers in another order"),
        ({"num_hidden_layers": 6, "layer_types": ["full_attention"] * 6}, "6 layers in another order"),
        (
            {"num_hidden_layers": 5, "layer_types": ["sliding_attention"] * 5},
            "5 layers in another order; export it with --to merged",
        ),
    ],
)
def test_layers_that_the_program_would_take_for_others_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chats: list[Chat], form: str, changes: dict[str, Any], said: str
) -> None:
    chat = small_model(monkeypatch, chats, **changes)
    export = {"gguf": conversion.export_gguf, "mlx": conversion.export_mlx}[form]
    with pytest.raises(ConfigError, match=said):
        export(chat, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_learned_subwords_are_refused_for_gguf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chats: list[Chat]
) -> None:
    with pytest.raises(ConfigError, match=r"a rule that llama\.cpp does not know"):
        conversion.export_gguf(small_model(monkeypatch, chats, **SEVEN), tmp_path / "out")


def test_a_model_that_sees_is_refused_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run" / "ckpts" / "epoch_1"
    folder.mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    (folder / "seeing_model.json").write_text("{}")
    pytest.importorskip("gguf", reason="needs the extra: pip install 'gemma-metamon[gguf]'")
    status = main(["export", "--run_dir", str(tmp_path / "run"), "--to", "gguf", "--out", str(tmp_path / "out")])
    assert status == 1
    assert "a model that sees" in capsys.readouterr().err
