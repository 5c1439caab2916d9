"""Where Gemma's pretrained weights come from: a local folder, the hub's cache, or the hub. All through transformers."""

from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from gemma_metamon.errors import ConfigError, MissingFileError

GEMMA_3_270M: Final = "google/gemma-3-270m"
CONFIG_WITHOUT_WEIGHTS: Final = "gemma_tiny_multitaskagent.gin"
PROBE_TIMEOUT_S: Final = 10
# Gemma is published with its head, the backbone under "model."; transformers 4.57 would find none of it there.
WITHOUT_HEAD: Final = {r"^model\.": ""}
# as older and newer versions of transformers write it
TEXT_OF_A_SEEING_MODEL: Final = {r"^(model\.language_model|language_model\.model)\.": "model."}


def check_weights(model_name: str = GEMMA_3_270M, pretrained: bool = True) -> None:
    """Raise at once if Gemma's weights cannot be had, before data is read or a run folder is made.

    Reads at most the model's config (a few hundred bytes), from the cache where it is there; the weights themselves are
    only loaded with the encoder. Without a network the answer comes within seconds.

    Raises:
        MissingFileError: no such folder, a folder without weights, no network, or a licence that was not accepted.
        ConfigError: a model that is no Gemma 3 text model, or one with bidirectional attention.
    """
    if pretrained:
        load_config(model_name)


def load_config(model_name: str) -> Any:
    """The `Gemma3TextConfig` of a hub name or a local folder; raises as `check_weights` does."""
    from transformers import AutoConfig

    folder = local_folder(model_name)
    if folder is not None and not any(folder.glob("*.safetensors")):
        raise MissingFileError(f"{folder} holds no *.safetensors; give the folder of a downloaded Gemma 3")
    if folder is None:
        _probe_hub(model_name)
    try:
        # a stranger's repository may bring code of its own; it is never run
        config = AutoConfig.from_pretrained(folder or model_name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unreachable(model_name, error) from error
    if config.model_type != "gemma3_text":
        raise ConfigError(
            f"model_name {model_name!r} is a {config.model_type} model, wanted a Gemma 3 text model (gemma3_text); "
            f"use {GEMMA_3_270M!r} or a folder of it"
        )
    check_config(config, f"model_name {model_name!r}")
    return config


def load_pretrained(model_name: str, dtype: torch.dtype) -> nn.Module:
    """The `Gemma3TextModel` of a hub name or a local folder, without a head; raises as `check_weights` does."""
    from transformers import AutoModel

    config = load_config(model_name)
    try:
        model, report = AutoModel.from_pretrained(
            local_folder(model_name) or model_name,
            config=config,
            dtype=dtype,
            key_mapping=WITHOUT_HEAD,
            use_safetensors=True,  # the other form is a pickle
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise _unreachable(model_name, error) from error
    _require_all(report, model_name)
    backbone: nn.Module = model
    return backbone


def load_with_head(model_name: str, dtype: torch.dtype) -> Any:
    """The `Gemma3ForCausalLM` of a hub name or a local folder; of a model that sees, what it has for text.

    Raises as `check_weights` does.
    """
    from transformers import AutoConfig, Gemma3ForCausalLM

    causal: Any = Gemma3ForCausalLM
    folder = local_folder(model_name)
    if folder is None:
        _probe_hub(model_name)
    try:
        config: Any = AutoConfig.from_pretrained(folder or model_name, trust_remote_code=False)
        sees = config.model_type == "gemma3"
        config = config.text_config if sees else config
        if config.model_type != "gemma3_text":
            raise ConfigError(f"{model_name!r} is a {config.model_type} model; name a Gemma 3, as {GEMMA_3_270M}-it")
        model, report = causal.from_pretrained(
            folder or model_name,
            config=config,
            dtype=dtype,
            key_mapping=TEXT_OF_A_SEEING_MODEL if sees else None,
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise _unreachable(model_name, error) from error
    _require_all(report, model_name)
    return model


def load_tokenizer(model_name: str) -> Any:
    """The tokenizer of a hub name or a local folder. Raises MissingFileError where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(local_folder(model_name) or model_name, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise MissingFileError(f"{model_name!r} holds no tokenizer that can be read ({_first_line(error)})") from error


def _require_all(report: dict[str, Any], model_name: str) -> None:
    """Transformers fills what a file lacks with random numbers and only says so."""
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise ConfigError(
            f"the weights of {model_name!r} lack {len(wrong)} of the model's tensors, {wrong[0]} first; get them again"
        )


def check_config(config: Any, source: str) -> None:
    """Refuse an architecture that cannot read texts as they are packed here."""
    if getattr(config, "use_bidirectional_attention", False):
        raise ConfigError(
            f"{source} has bidirectional attention, under which padding changes a text; use a causal model, "
            f"as {GEMMA_3_270M!r} is"
        )


def local_folder(model_name: str) -> Path | None:
    """The folder that a model name means, or None for a hub name. Raises MissingFileError where it is not there."""
    folder = Path(model_name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model_name.startswith((".", "~")):
        raise MissingFileError(f"no folder {model_name!r}; {_how_to_get_weights(GEMMA_3_270M)}")
    return None


def _probe_hub(model_name: str) -> None:
    """One short request, unless the cache answers; transformers would retry for half a minute without a network."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(model_name, "config.json"), str):
            return
        HfApi().model_info(model_name, timeout=PROBE_TIMEOUT_S)
    except Exception as error:  # its class depends on which HTTP library this version of the hub uses
        raise _unreachable(model_name, error) from error


def _unreachable(model_name: str, error: Exception) -> MissingFileError:
    return MissingFileError(
        f"the weights of {model_name!r} cannot be reached ({_first_line(error)}); {_how_to_get_weights(model_name)}"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _how_to_get_weights(model_name: str) -> str:
    return (
        f"accept Gemma's licence at https://huggingface.co/{model_name} and run `hf auth login`, or give the folder "
        f"of a downloaded copy (GemmaTstepEncoder.model_name = '/path'), or use {CONFIG_WITHOUT_WEIGHTS}, "
        "which needs none"
    )
