"""The backbone: weights from a folder or random, trimmed or whole, what of it trains, and how missing ones are told."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.encoders import SPACES, build, make_batch
from support.small_agent import BACKBONE

from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.nets.reader.weights import GEMMA_3_270M, check_weights, load_pretrained

LAYERS_270M, EMBEDDING_270M, LORA_R16_270M = 100_326_016, 167_772_160, 3_796_992


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random Gemma 3 with the whole vocabulary, saved as transformers saves it."""
    from transformers import Gemma3TextConfig, Gemma3TextModel

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("gemma")
    Gemma3TextModel(Gemma3TextConfig(**{**BACKBONE, "hidden_size": 16, "vocab_size": 262_144})).save_pretrained(folder)
    return str(folder)


def load(folder: str, **changes: Any) -> GemmaTstepEncoder:
    return build(pretrained=True, model_name=folder, backbone_config=None, **changes).eval()


def test_trimmed_and_whole_embedding_give_the_same_output(weights_folder: str) -> None:
    obs, rl2s = make_batch()
    trimmed, whole = load(weights_folder), load(weights_folder, trim_vocabulary=False)
    assert trimmed.backbone.embed_tokens.num_embeddings < 6_000
    assert whole.backbone.embed_tokens.num_embeddings == 262_144
    trimmed.load_state_dict({k: v for k, v in whole.state_dict().items() if "embed_tokens" not in k}, strict=False)
    torch.testing.assert_close(trimmed(obs, rl2s), whole(obs, rl2s), rtol=0, atol=1e-6)


def test_a_local_folder_gives_the_states_that_transformers_gives(weights_folder: str) -> None:
    from transformers import AutoModel

    encoder = load(weights_folder, trim_vocabulary=False)
    words = make_batch()[0]["text_tokens"][0]
    texts = encoder.subwords(words)
    mask = (texts.places >= 0).long()
    states = AutoModel.from_pretrained(weights_folder)(input_ids=texts.subwords, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(encoder.encode_texts(words), encoder.readout(states, texts.places))


def test_weights_that_are_published_with_their_head_are_found(tmp_path: Path) -> None:
    """As google/gemma-3-270m is: transformers 4.57 finds nothing of a backbone in a file with a head."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    whole = Gemma3ForCausalLM(Gemma3TextConfig(**{**BACKBONE, "vocab_size": 262_144}))
    whole.save_pretrained(tmp_path)
    backbone = load_pretrained(str(tmp_path), torch.float32)
    for name, weight in whole.model.named_parameters():
        torch.testing.assert_close(backbone.get_parameter(name), weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "trains"),
    [
        ({}, ("lora_", "readout.", "numbers.")),
        ({"use_lora": True, "freeze_base_model": True}, ("lora_", "readout.", "numbers.")),
        ({"use_lora": False, "freeze_base_model": True}, ("readout.", "numbers.")),
        ({"use_lora": False}, ("backbone.", "readout.", "numbers.")),
    ],
)
def test_what_trains_gets_a_gradient_and_nothing_else(options: dict[str, Any], trains: tuple[str, ...]) -> None:
    encoder = build(encoder_chunk_tokens=50, **options)
    encoder(*make_batch()).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        expected = any(part in name for part in trains)
        assert parameter.requires_grad is expected, name
        assert (parameter.grad is not None) is expected, name


def test_all_seven_projections_have_adapters() -> None:
    adapted = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name in build().state_dict() if ".lora_A" in name}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_adapters_and_readout_stay_float32_over_a_bfloat16_base() -> None:
    encoder = build(dtype="bfloat16")
    dtypes = {name: parameter.dtype for name, parameter in encoder.named_parameters()}
    for name, dtype in dtypes.items():
        is_base = name.startswith("backbone.") and "lora_" not in name
        assert dtype == (torch.bfloat16 if is_base else torch.float32), name
    out = encoder(*make_batch())
    assert out.dtype == torch.float32
    out.sum().backward()


def test_bfloat16_reads_like_float32() -> None:
    whole, half = build().eval(), build(dtype="bfloat16").eval()
    half.load_state_dict(whole.state_dict())
    torch.testing.assert_close(half(*make_batch()), whole(*make_batch()), rtol=0, atol=0.3)
    assert (half(*make_batch()) - whole(*make_batch())).abs().mean() < 0.03


@pytest.mark.parametrize("options", [{}, {"pretrained": False}])
def test_parameters_of_the_full_size_are_counted_without_weights(options: dict[str, Any]) -> None:
    with torch.device("meta"):
        encoder = GemmaTstepEncoder(**SPACES, trim_vocabulary=False, **options)
    counts = encoder.parameter_counts()
    assert counts["embedding"] == {"total": EMBEDDING_270M, "trainable": 0}
    assert counts["layers"] == {"total": LAYERS_270M, "trainable": 0}
    assert counts["lora"] == {"total": LORA_R16_270M, "trainable": LORA_R16_270M}
    assert counts["readout"]["trainable"] == counts["readout"]["total"] > 0
    assert sum(part["total"] for part in counts.values()) == sum(p.numel() for p in encoder.parameters())


def test_a_state_leaves_out_the_pretrained_base_and_loads_strictly(weights_folder: str) -> None:
    encoder = load(weights_folder)
    whole = load(weights_folder, save_base_weights=True).state_dict()
    saved = encoder.state_dict()
    left_out = whole.keys() - saved.keys()
    assert "backbone.embed_tokens.weight" in left_out
    assert saved.keys() < whole.keys()
    assert not any("lora_" in key or key.startswith(("readout", "numbers")) for key in left_out)
    with torch.no_grad():
        for value in saved.values():
            value.add_(0.01)
    again = load(weights_folder)
    again.load_state_dict(saved)
    torch.testing.assert_close(again(*make_batch()), encoder(*make_batch()), rtol=0, atol=0)


def test_a_state_with_the_base_replaces_it_and_a_damaged_one_is_refused(weights_folder: str) -> None:
    whole = load(weights_folder, save_base_weights=True).state_dict()
    changed = {key: torch.zeros_like(value) for key, value in whole.items()}
    encoder = load(weights_folder)
    encoder.load_state_dict(changed)
    assert not any(parameter.any() for parameter in encoder.parameters())
    del changed["readout.to_scores.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*readout\.to_scores"):
        encoder.load_state_dict(changed)
    with pytest.raises(RuntimeError, match="backbone"):
        load(weights_folder, save_base_weights=True).load_state_dict(encoder.state_dict())


def test_the_base_is_left_out_inside_an_agent_too(weights_folder: str) -> None:
    agent = torch.nn.ModuleDict({"tstep_encoder": load(weights_folder), "actor": torch.nn.Linear(2, 2)})
    saved = agent.state_dict()
    assert not any("embed_tokens" in key for key in saved)
    agent.load_state_dict(saved)


def test_random_or_trained_bases_are_part_of_a_state(weights_folder: str) -> None:
    assert "backbone.embed_tokens.weight" in build().state_dict()
    assert "backbone.embed_tokens.weight" in load(weights_folder, use_lora=False).state_dict()


def test_the_subword_table_is_not_in_the_state_dict() -> None:
    assert not any(key.startswith("subwords") for key in build().state_dict())


def test_folders_that_cannot_be_read_are_told(tmp_path: Path, weights_folder: str) -> None:
    with pytest.raises(MissingFileError, match="no folder '/no/such/folder'; accept Gemma's licence"):
        check_weights("/no/such/folder")
    with pytest.raises(MissingFileError, match=r"holds no \*.safetensors"):
        check_weights(str(tmp_path))
    check_weights(weights_folder)


def test_a_damaged_or_foreign_folder_is_refused(tmp_path: Path, weights_folder: str) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import GPT2Config

    tensors = load_file(Path(weights_folder) / "model.safetensors")
    tensors.pop("layers.1.mlp.up_proj.weight")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((Path(weights_folder) / "config.json").read_text())
    with pytest.raises(ConfigError, match=r"lack 1 of the model's tensors, layers.1.mlp.up_proj.weight"):
        load(str(tmp_path))
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a gpt2 model, wanted a Gemma 3 text model"):
        check_weights(str(tmp_path))


@pytest.mark.parametrize(
    ("harm", "error", "complaint"),
    [
        ("cut off", DataError, "cannot be read .*header.*; get its files once more, whole"),
        ("a pointer", DataError, "cannot be read .*; .* needs git lfs"),
        ("another shape", ConfigError, r"lack \d+ of the model's tensors, .* \(in the shape of its config\) first"),
        ("no number", DataError, r"cannot be read .*num_hidden_layers.*; get its files once more"),
        ("no JSON", DataError, "cannot be read .*not a valid JSON file"),
    ],
)
def test_harmed_files_of_a_model_are_told_and_what_to_do(
    tmp_path: Path, weights_folder: str, harm: str, error: type[Exception], complaint: str
) -> None:
    tensors = (Path(weights_folder) / "model.safetensors").read_bytes()
    config = json.loads((Path(weights_folder) / "config.json").read_text())
    if harm == "cut off":
        tensors = tensors[: len(tensors) // 2]
    elif harm == "a pointer":
        tensors = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 536223056\n"
    elif harm == "another shape":
        config["intermediate_size"] *= 2
    elif harm == "no number":
        config["num_hidden_layers"] = "two"
    (tmp_path / "model.safetensors").write_bytes(tensors)
    (tmp_path / "config.json").write_text("{" if harm == "no JSON" else json.dumps(config))
    with pytest.raises(error, match=complaint):
        load_pretrained(str(tmp_path), torch.float32)


def test_the_folder_of_a_user_who_is_not_known_is_not_there() -> None:
    with pytest.raises(MissingFileError, match="no folder '~nobody_of_this_name/gemma'"):
        check_weights("~nobody_of_this_name/gemma")


def test_a_model_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    from transformers import Gemma3TextConfig, Gemma3TextModel

    Gemma3TextModel(Gemma3TextConfig(**{**BACKBONE, "vocab_size": 300})).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="embeddings for 300 subwords"):
        load(str(tmp_path))


def test_weights_out_of_reach_are_told_at_once_and_how_to_get_them() -> None:
    """In a fresh process, because the hub reads its offline switch once."""
    code = f"from gemma_metamon.nets.reader.weights import check_weights; check_weights({GEMMA_3_270M!r})"
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": "/no/such/cache", "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    message = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    for told in ("MissingFileError", GEMMA_3_270M, "licence", "hf auth login", "model_name = '/path'", "gemma_tiny_"):
        assert told in message


def test_random_weights_need_no_weights() -> None:
    check_weights("/no/such/folder", pretrained=False)


def test_dtype_auto_trains_a_base_in_float32_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from gemma_metamon.nets.reader.backbone import BackboneOptions

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert BackboneOptions().torch_dtype == torch.bfloat16
    assert BackboneOptions(use_lora=False).torch_dtype == torch.float32
    assert BackboneOptions(use_lora=False, dtype="bfloat16").torch_dtype == torch.bfloat16
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert BackboneOptions().torch_dtype == torch.float32


def test_the_installed_transformers_is_one_that_is_supported() -> None:
    major, minor = map(int, importlib.metadata.version("transformers").split(".")[:2])
    assert (4, 57) <= (major, minor) < (6, 0)
