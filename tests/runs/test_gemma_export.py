"""Gemma out of an agent, read back by peft and transformers alone: the same states on texts of the packaged words.

Small random Gemmas stand in for the real weights; the vocabulary has its real size and the adapters are not zero.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModel, PeftModel
from support.encoders import build
from support.small_agent import BACKBONE
from torch import Tensor, nn
from transformers import AutoModel, Gemma3ForCausalLM, Gemma3TextConfig

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.four_bit import whole_weight
from gemma_metamon.nets.reader.packing import pack, read_packed
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.nets.reader.weights import WITHOUT_HEAD
from gemma_metamon.runs.gemma_export import export_merged, export_peft
from gemma_metamon.text.subwords import SubwordTable

GEMMA_WORDS = 262_144
NEEDS_4BIT = "needs the extra: pip install 'gemma-metamon[4bit]'"
RANDOM = {"pretrained": False, "backbone_config": BACKBONE}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small Gemma 3 as a downloaded one lies in a folder: bfloat16, a head, the whole vocabulary, a tokenizer."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("gemma")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32, "vocab_size": GEMMA_WORDS}
    model = Gemma3ForCausalLM(Gemma3TextConfig(**{**BACKBONE, **sizes}))
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return str(folder)


def load_base(base: str, **options: Any) -> Any:
    return AutoModel.from_pretrained(base, **{"dtype": torch.float32, "key_mapping": WITHOUT_HEAD, **options})


def build_trained(base: str | None = None, **changes: Any) -> GemmaTstepEncoder:
    """An encoder as training leaves one: adapters that are not zero, or a base that has moved."""
    source = RANDOM if base is None else {"pretrained": True, "model_name": base, "backbone_config": None}
    encoder = build(**{"dtype": "float32", **source, **changes}).eval()
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in encoder.backbone.named_parameters():
            if parameter.requires_grad and ".lora_A." not in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    return encoder


def draw_words() -> Tensor:
    """12 texts of 12 words that the packaged vocabulary has, and one that it has not."""
    words = torch.randint(len(SubwordTable.load("natural").words), (12, 12), generator=torch.Generator().manual_seed(5))
    words[3, 4] = -1
    return words


def own_states(encoder: GemmaTstepEncoder) -> Tensor:
    """(subwords, hidden_size) of the real subwords of `draw_words`, as the agent reads them."""
    texts = encoder.subwords(draw_words())
    with torch.no_grad():
        states, slots = read_packed(encoder.backbone, pack(texts))
    return states[slots >= 0].float()


def plain_states(model: nn.Module) -> Tensor:
    """The same of a transformers model that knows Gemma's own numbers only."""
    table = SubwordTable.load("natural")
    lines = [
        table.encode_line([table.words[index] if index >= 0 else "no such word" for index in row])
        for row in draw_words().tolist()
    ]
    with torch.no_grad():
        return torch.cat([model.eval()(input_ids=torch.tensor([line])).last_hidden_state[0] for line in lines]).float()


@pytest.mark.parametrize("trim_vocabulary", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"use_lora": False}, {"use_lora": False, "freeze_base_model": True}, {"lora_r": 4, "lora_alpha": 5}]
)
def test_the_merged_folder_reads_as_the_agent_does(
    tmp_path: Path, base: str, options: dict[str, Any], trim_vocabulary: bool
) -> None:
    encoder = build_trained(base, trim_vocabulary=trim_vocabulary, **options)
    expected = own_states(encoder)
    caveats = export_merged(encoder, tmp_path / "out")
    merged = AutoModel.from_pretrained(tmp_path / "out")
    assert merged.dtype == torch.float32
    assert merged.embed_tokens.num_embeddings == merged.config.vocab_size == GEMMA_WORDS
    torch.testing.assert_close(plain_states(merged), expected, rtol=0, atol=1e-4)
    untouched = plain_states(load_base(base))
    if "freeze_base_model" in options:
        torch.testing.assert_close(untouched, expected, rtol=0, atol=1e-4)
        assert "nothing of Gemma was trained" in caveats[0]
    else:
        assert (untouched - expected).abs().max() > 0.1
        assert caveats == []
    torch.testing.assert_close(own_states(encoder), expected, rtol=0, atol=0)  # the agent itself is left as it was


def test_rows_that_no_word_needs_keep_the_values_of_the_base(tmp_path: Path, base: str) -> None:
    encoder = build_trained(base, use_lora=False)
    export_merged(encoder, tmp_path / "out")
    embedding = AutoModel.from_pretrained(tmp_path / "out").embed_tokens.weight
    before = load_base(base).embed_tokens.weight
    changed = (embedding != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == SubwordTable.load("natural").packaged.used_ids.tolist()


@pytest.mark.parametrize("options", [{}, {"use_lora": False}, {"use_lora": False, "freeze_base_model": True}])
def test_random_weights_come_out_whole(tmp_path: Path, options: dict[str, Any]) -> None:
    encoder = build_trained(**options)
    used = SubwordTable.load("natural").packaged.used_ids
    (caveat,) = export_merged(encoder, tmp_path / "out")
    assert f"only the {len(used)} subwords" in caveat
    merged = AutoModel.from_pretrained(tmp_path / "out")
    assert merged.config.vocab_size == GEMMA_WORDS
    torch.testing.assert_close(plain_states(merged), own_states(encoder), rtol=0, atol=1e-4)
    unknown = torch.ones(GEMMA_WORDS, dtype=torch.bool)
    unknown[torch.from_numpy(used).long()] = False
    assert (merged.embed_tokens.weight[unknown] == 0).all()


def test_random_weights_of_another_vocabulary_size_keep_it(tmp_path: Path) -> None:
    encoder = build_trained(trim_vocabulary=False, backbone_config={**BACKBONE, "vocab_size": 240_000})
    assert export_merged(encoder, tmp_path / "out") == []
    merged = AutoModel.from_pretrained(tmp_path / "out")
    assert merged.config.vocab_size == 240_000
    torch.testing.assert_close(plain_states(merged), own_states(encoder), rtol=0, atol=1e-4)


def test_bfloat16_weights_are_merged_in_float32(tmp_path: Path, base: str) -> None:
    """Merging into bfloat16 would lose most of a small adapter; what is left is the rounding of the arithmetic."""
    encoder, exact = build_trained(base, dtype="bfloat16"), build_trained(base)
    exact.load_state_dict(encoder.state_dict())
    (caveat,) = export_merged(encoder, tmp_path / "out")
    assert "differs from it by bfloat16's rounding" in caveat
    states = plain_states(AutoModel.from_pretrained(tmp_path / "out"))
    torch.testing.assert_close(states, own_states(exact), rtol=0, atol=1e-4)
    assert (states - own_states(encoder)).abs().mean() < 0.02 * states.abs().mean()


# peft asks transformers 5 for a property by its old name
PEFT_IS_BEHIND = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"


@pytest.mark.filterwarnings(PEFT_IS_BEHIND)
@pytest.mark.parametrize("trim_vocabulary", [True, False])
def test_peft_reads_the_adapter_over_the_base(tmp_path: Path, base: str, trim_vocabulary: bool) -> None:
    encoder = build_trained(base, trim_vocabulary=trim_vocabulary, lora_r=4, lora_alpha=6)
    assert export_peft(encoder, tmp_path / "out") == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"], config["lora_alpha"]) == (base, 4, 6)
    over_base = PeftModel.from_pretrained(load_base(base), tmp_path / "out")
    torch.testing.assert_close(plain_states(over_base), own_states(encoder), rtol=0, atol=1e-4)
    by_name = AutoPeftModel.from_pretrained(tmp_path / "out", dtype=torch.float32, key_mapping=WITHOUT_HEAD)
    torch.testing.assert_close(plain_states(by_name), own_states(encoder), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"use_lora": False}, r"no adapter \(GemmaTstepEncoder.use_lora = False\).*--to merged"),
        ({}, r"random weights \(GemmaTstepEncoder.pretrained = False\).*--to merged"),
    ],
)
def test_an_adapter_that_nobody_could_use_is_refused(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        export_peft(build_trained(**options), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_of_the_base_comes_along(tmp_path: Path, base: str) -> None:
    export_merged(build_trained(base), tmp_path / "new" / "out")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]  # nothing half-written is left
    written = {path.name for path in (tmp_path / "new" / "out").iterdir()}
    assert written == {"config.json", "model.safetensors", "tokenizer.json"}


def mean_distance(states: Tensor, others: Tensor) -> float:
    """Mean difference in units of the states' mean size."""
    return ((states - others).abs().mean() / others.abs().mean()).item()


def test_a_4_bit_agents_adapter_is_merged_into_the_whole_base(tmp_path: Path, base: str) -> None:
    pytest.importorskip("bitsandbytes", reason=NEEDS_4BIT)
    encoder, whole = build_trained(base, dtype="auto", use_4bit=True), build_trained(base)
    adapters = {name: value for name, value in encoder.backbone.state_dict().items() if ".lora_" in name}
    whole.backbone.load_state_dict(adapters, strict=False)
    caveats = export_merged(encoder, tmp_path / "out")
    assert "outputs differ from training's by what the rounding to 4 bits had changed" in caveats[0]
    merged = AutoModel.from_pretrained(tmp_path / "out")
    states, trained = plain_states(merged), own_states(encoder)
    torch.testing.assert_close(states, own_states(whole), rtol=0, atol=1e-4)
    # The difference is of the size that rounding alone makes, and it is nothing else: round the base, and it is gone.
    rounded = build_trained(base, dtype="auto", use_4bit=True, use_lora=False, freeze_base_model=True)
    unrounded = load_base(base)
    of_rounding = mean_distance(own_states(rounded), plain_states(unrounded))
    assert 0.5 * of_rounding < mean_distance(trained, states) < 2 * of_rounding
    with torch.no_grad():
        for name, layer in rounded.backbone.named_modules():
            if isinstance(layer, nn.Linear):
                merged.get_submodule(name).weight += whole_weight(layer.weight) - unrounded.get_submodule(name).weight
    assert mean_distance(trained, plain_states(merged)) < 0.02  # bfloat16's eight bits


def test_random_4_bit_weights_come_out_as_they_were_rounded(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason=NEEDS_4BIT)
    encoder = build_trained(dtype="auto", use_4bit=True)
    caveats = export_merged(encoder, tmp_path / "out")
    assert any("only exists in 4 bits" in caveat for caveat in caveats)
    states = plain_states(AutoModel.from_pretrained(tmp_path / "out"))
    assert mean_distance(own_states(encoder), states) < 0.02  # bfloat16's eight bits


@pytest.mark.filterwarnings(PEFT_IS_BEHIND)
def test_a_4_bit_agents_adapter_over_a_4_bit_base_reads_as_trained(tmp_path: Path, base: str) -> None:
    pytest.importorskip("bitsandbytes", reason=NEEDS_4BIT)
    from transformers import BitsAndBytesConfig

    encoder = build_trained(base, dtype="auto", use_4bit=True)
    (caveat,) = export_peft(encoder, tmp_path / "out")
    assert "BitsAndBytesConfig(load_in_4bit=True" in caveat
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = load_base(base, quantization_config=nf4, dtype=torch.bfloat16, device_map="cpu")
    states = plain_states(PeftModel.from_pretrained(model, tmp_path / "out"))
    assert mean_distance(states, own_states(encoder)) < 0.02
