"""An encoder that begins with a trained adapter reads as the model that trained it; what does not fit is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.encoders import build
from support.small_agent import BACKBONE
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

from gemma_metamon.errors import CheckpointMismatchError, ConfigError, DataError, MissingFileError
from gemma_metamon.nets.reader.adapters import lora_parameters
from gemma_metamon.nets.reader.backbone import LORA_TARGETS
from gemma_metamon.nets.reader.packing import pack, read_packed
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.nets.reader.weights import ADAPTER, ADAPTER_CONFIG

GEMMA_WORDS = 262_144


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Gemma 3 as a downloaded one lies in a folder: a head, and the whole vocabulary."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("models") / "gemma"
    Gemma3ForCausalLM(Gemma3TextConfig(**{**BACKBONE, "vocab_size": GEMMA_WORDS})).save_pretrained(folder)
    return folder


def adapted(base: Path, **changes: Any) -> Any:
    """A causal model with adapters that are not zero, as training leaves them."""
    from peft import LoraConfig, get_peft_model

    form = {"r": 16, "lora_alpha": 32, "target_modules": list(LORA_TARGETS), "task_type": "CAUSAL_LM"} | changes
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**form))
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model.eval()


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "trained"
    adapted(base).save_pretrained(folder, save_embedding_layers=False)
    return folder


def begin(base: Path, adapter: Path, **changes: Any) -> GemmaTstepEncoder:
    options = {"pretrained": True, "model_name": str(base), "backbone_config": None, "dtype": "float32"}
    return build(**{**options, "init_adapter": str(adapter), **changes}).eval()


def texts() -> Tensor:
    return torch.randint(0, 500, (6, 12), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("trim_vocabulary", [True, False])
def test_every_tensor_and_every_state_is_that_of_the_model_that_trained_it(
    base: Path, adapter: Path, trim_vocabulary: bool
) -> None:
    encoder, causal = begin(base, adapter, trim_vocabulary=trim_vocabulary), adapted(base)
    theirs, own = lora_parameters(causal), lora_parameters(encoder.backbone)
    assert theirs.keys() == own.keys()
    assert len(own) == 2 * len(LORA_TARGETS) * BACKBONE["num_hidden_layers"]
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0)
        assert tensor.requires_grad
    read = encoder.subwords(texts())
    used = torch.from_numpy(encoder.subwords.used_ids).long()
    with torch.no_grad():
        states, slots = read_packed(encoder.backbone, pack(read))
        whole = [
            causal.get_base_model().model(
                input_ids=(used[row[:n]] if encoder.subwords.compact else row[:n].long())[None]
            )
            for row, n in zip(read.subwords.long(), read.lengths, strict=True)
        ]
    expected = torch.cat([each.last_hidden_state[0] for each in whole])
    torch.testing.assert_close(states[slots >= 0], expected, rtol=0, atol=1e-4)
    with torch.no_grad():
        for tensor in own.values():
            tensor.zero_()
        plain, _ = read_packed(encoder.backbone, pack(read))
    assert (plain[slots >= 0] - expected).abs().max() > 0.1


def test_a_run_of_sft_stands_for_its_last_epoch(base: Path, adapter: Path, tmp_path: Path) -> None:
    adapted(base, r=4).save_pretrained(tmp_path / "run/ckpts/epoch_9", save_embedding_layers=False)
    shutil.copytree(adapter, tmp_path / "run/ckpts/epoch_10")
    last, named = begin(base, tmp_path / "run"), begin(base, adapter)
    for name, tensor in lora_parameters(last.backbone).items():
        torch.testing.assert_close(tensor, lora_parameters(named.backbone)[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lora_r": 8}, r"has lora_r 16, not 8; set GemmaTstepEncoder\.lora_r = 16"),
        ({"lora_alpha": 16}, r"has lora_alpha 32, not 16; set GemmaTstepEncoder\.lora_alpha = 32"),
        (
            {"model_name": "google/gemma-3-270m"},
            r"has base .*gemma.*, not .*270m.*; set .*\.model_name =",
        ),
        ({"use_lora": False}, r"use_lora is False; set GemmaTstepEncoder\.use_lora = True"),
        (
            {"pretrained": False, "backbone_config": BACKBONE},
            r"random weights have an embedding of the packaged words, which no chat model shares; set "
            r"GemmaTstepEncoder\.pretrained = True",
        ),
    ],
)
def test_another_base_or_form_is_refused_before_weights_are_loaded(
    base: Path, adapter: Path, changes: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemma_metamon.nets.reader.backbone.load_pretrained", None)
    with pytest.raises(ConfigError, match=sentence):
        begin(base, adapter, **changes)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("target_modules", ["q_proj"], "has target_modules q_proj, not down_proj, gate_proj, .*; train one with"),
        ("use_rslora", True, "has use_rslora True, not False"),
        ("rank_pattern", {"q_proj": 4}, "has rank_pattern .*, not "),
        ("base_model_name_or_path", "", "lacks base_model_name_or_path"),
        ("r", "16", "lacks base_model_name_or_path, r or"),
    ],
)
def test_another_kind_of_adapter_is_refused(
    base: Path, adapter: Path, tmp_path: Path, field: str, value: object, sentence: str
) -> None:
    other = shutil.copytree(adapter, tmp_path / "other")
    config = json.loads((other / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    (other / ADAPTER_CONFIG).write_text(json.dumps(config | {field: value}), encoding="utf-8")
    with torch.device("meta"), pytest.raises((ConfigError, DataError), match=sentence):
        begin(base, other)


def test_shapes_of_another_architecture_are_refused_on_the_meta_device(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = Gemma3TextConfig(**{**BACKBONE, "vocab_size": 64, "intermediate_size": 64})
    Gemma3ForCausalLM(wide).save_pretrained(tmp_path / "wide")
    model = adapted(tmp_path / "wide")
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    with torch.device("meta"), pytest.raises(CheckpointMismatchError, match=r"mlp\.\w+\.lora_\w is \[.*\], not \["):
        begin(base, tmp_path / "adapter")


def test_what_is_no_adapter_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no folder .*nowhere"):
        begin(base, tmp_path / "nowhere")
    (tmp_path / "tiny/ckpts/epoch_1").mkdir(parents=True)
    with pytest.raises(MissingFileError, match=r"holds no adapter_config\.json"):
        begin(base, tmp_path / "tiny")
    (tmp_path / "tiny/ckpts/epoch_1/chat_model.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MissingFileError, match="all weights of that model were trained, so that it shares no base"):
        begin(base, tmp_path / "tiny")
    broken = shutil.copytree(adapter, tmp_path / "broken")
    (broken / ADAPTER).write_bytes((broken / ADAPTER).read_bytes()[:-10])
    with pytest.raises(DataError, match="is damaged"):
        begin(base, broken)
