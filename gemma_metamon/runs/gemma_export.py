"""Gemma back out of a trained agent: its adapter for peft, or a plain transformers model with the adapter merged in.

Neither needs this package to be read. Subwords are numbered as Gemma numbers them, whatever the agent's own embedding
was trimmed to. A folder is written under another name and renamed when whole; nothing is pickled.
"""

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from gemma_metamon.atomic_files import as_os_errors, written_whole
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.backbone import GEMMA_3_270M_CONFIG, build_backbone
from gemma_metamon.nets.reader.four_bit import whole_weight
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.nets.reader.weights import local_folder
from gemma_metamon.nets.reader.word_encoder import WordLookup

TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")


def export_peft(encoder: GemmaTstepEncoder, out: Path) -> list[str]:
    """Write the adapter alone: `PeftModel.from_pretrained(AutoModel.from_pretrained(model_name), out)` reads it.

    Args:
        encoder: of a loaded agent.
        out: a folder that does not exist yet.

    Returns:
        What a user must know of the result, a sentence each; often none.

    Raises:
        ConfigError: an encoder without adapter, or with a base that nothing else holds.
    """
    options, backbone = encoder.options, cast("Any", encoder.backbone)
    if not options.use_lora:
        raise ConfigError(
            "this agent has no adapter (GemmaTstepEncoder.use_lora = False); export the whole model with --to merged"
        )
    if not options.pretrained:
        raise ConfigError(
            "this agent's adapter sits on random weights (GemmaTstepEncoder.pretrained = False), which nobody else "
            "has; export both together with --to merged"
        )
    config = copy.copy(backbone.peft_config["default"])
    config.base_model_name_or_path = options.model_name
    config.inference_mode = True
    base_class = {"base_model_class": type(backbone).__name__, "parent_library": type(backbone).__module__}
    adapter = {
        f"base_model.model.{name.replace('.default.', '.')}": parameter.detach().cpu().contiguous()
        for name, parameter in backbone.named_parameters()
        if ".lora_" in name
    }
    with _written(out) as folder:
        config.save_pretrained(folder, auto_mapping_dict=base_class)  # which AutoPeftModel reads
        save_file(adapter, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    if not options.use_4bit:
        return []
    return [
        "the adapter was trained over a base in 4 bits: over the full-precision one outputs differ from training's by "
        "what the rounding had changed; for training's, load the base in bfloat16 with BitsAndBytesConfig("
        "load_in_4bit=True, bnb_4bit_quant_type='nf4', bnb_4bit_use_double_quant=True, "
        "bnb_4bit_compute_dtype=torch.bfloat16)"
    ]


def export_merged(encoder: GemmaTstepEncoder, out: Path) -> list[str]:
    """Write a plain float32 transformers folder, whole vocabulary, adapter merged in: `AutoModel.from_pretrained(out)`.

    Takes memory for the whole model in float32 (1.1 GB for Gemma 3 270M) beside the agent.

    Args:
        encoder: of a loaded agent.
        out: a folder that does not exist yet.

    Returns:
        What a user must know of the result, a sentence each; often none.

    Raises:
        ConfigError, MissingFileError: the pretrained base cannot be loaded any more; or a model that reads no subwords.
    """
    if isinstance(encoder.subwords, WordLookup):
        raise ConfigError(
            "this agent learned a vector per word (WordTstepEncoder), and a plain Gemma reads subwords; "
            "export an agent of GemmaTstepEncoder"
        )
    model = _whole_base(encoder)
    with torch.no_grad():
        for name, layer in encoder.backbone.named_modules():
            if hasattr(layer, "lora_A"):
                model.get_submodule(name).weight += _adapter_weight(layer)
    with _written(out) as folder:
        model.save_pretrained(folder)
        if encoder.options.pretrained:
            _copy_tokenizer(encoder.options.model_name, folder)
    return _caveats(encoder)


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A folder to write, there whole or not at all. Raises OSError where safetensors cannot write there, too."""
    with written_whole(out) as folder, as_os_errors(out):
        folder.mkdir()
        yield folder


def _whole_base(encoder: GemmaTstepEncoder) -> Any:
    """The base in float32 on the CPU, without adapters, with an embedding row for each of Gemma's subwords."""
    options, lookup = encoder.options, encoder.subwords
    plain = replace(options, dtype="float32", use_lora=False, use_4bit=False, init_adapter=None)
    if not options.pretrained:
        fields = GEMMA_3_270M_CONFIG if options.backbone_config is None else options.backbone_config
        vocab_size = len(cast("Any", encoder.backbone).embed_tokens.weight)
        if lookup.compact:  # its own size is that of the words alone
            vocab_size = max(GEMMA_3_270M_CONFIG["vocab_size"], fields.get("vocab_size", 0))
        plain = replace(plain, backbone_config={**fields, "vocab_size": vocab_size})
    model: Any = build_backbone(plain, lookup.used_ids.tolist(), trim=False)
    if options.pretrained and not options.trains_base:
        return model
    own = {
        name.replace(".base_layer.", "."): whole_weight(parameter)
        for name, parameter in encoder.backbone.named_parameters()
        if ".lora_" not in name
    }
    embedding = model.embed_tokens.weight.detach()  # (vocab_size, hidden_size)
    if not options.pretrained:
        embedding.zero_()
    rows = torch.from_numpy(lookup.used_ids).long() if lookup.compact else slice(None)
    embedding[rows] = own["embed_tokens.weight"]
    model.load_state_dict({**own, "embed_tokens.weight": embedding})
    return model


def _adapter_weight(layer: Any) -> Tensor:
    """What an adapter adds to its layer's weight (out_features, in_features)."""
    down, up = (part["default"].weight.float().cpu() for part in (layer.lora_A, layer.lora_B))
    weight: Tensor = layer.scaling["default"] * (up @ down)
    return weight


def _caveats(encoder: GemmaTstepEncoder) -> list[str]:
    options, said = encoder.options, []
    if options.pretrained and not (options.use_lora or options.trains_base):
        said.append("nothing of Gemma was trained (freeze_base_model = True): these are the weights of its base")
    if options.pretrained and options.use_4bit:
        said.append(
            "the agent was trained over a base in 4 bits, and this is the full-precision one, with the adapter merged "
            "in if there is one: outputs differ from training's by what the rounding to 4 bits had changed"
        )
    elif options.torch_dtype == torch.bfloat16:
        said.append("the agent reads in bfloat16: this model, in float32, differs from it by bfloat16's rounding")
    if not options.pretrained and options.use_4bit:
        said.append("the random base only exists in 4 bits: its weights are written in float32 as they were rounded")
    if not options.pretrained and encoder.subwords.compact:
        said.append(
            f"only the {len(encoder.subwords.used_ids)} subwords that the agent's words need have embeddings: the base "
            "was random, and the other rows are zeros"
        )
    return said


def _copy_tokenizer(model_name: str, folder: Path) -> None:
    """Whatever of the base's tokenizer is on this machine; the weights are whole without."""
    from huggingface_hub import try_to_load_from_cache

    base = local_folder(model_name)
    for name in TOKENIZER_FILES:
        source = try_to_load_from_cache(model_name, name) if base is None else base / name
        if isinstance(source, str | Path) and Path(source).is_file():
            shutil.copyfile(source, folder / name)
