"""Where Gemma's pretrained weights come from: a local folder, the hub's cache, or the hub. All through transformers.

And adapters over them, from a local folder.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.nets.reader.adapters import Adapter, AdapterForm, adapter_name
from gemma_metamon.strict_json import on_one_line, read_json_object, shown, shown_path

GEMMA_3_270M: Final = "google/gemma-3-270m"
CONFIG_WITHOUT_WEIGHTS: Final = "gemma_tiny_multitaskagent.gin"
PROBE_TIMEOUT_S: Final = 10
# Gemma is published with its head, the backbone under "model."; transformers 4.57 would find none of it there.
WITHOUT_HEAD: Final = {r"^model\.": ""}
# as older and newer versions of transformers write it
TEXT_OF_A_SEEING_MODEL: Final = {r"^(model\.language_model|language_model\.model)\.": "model."}

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_EPOCH: Final = re.compile(r"epoch_([0-9]{1,9})")
_PLAIN: Final[dict[str, Any]] = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "use_rslora": False,
    "lora_bias": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "init_lora_weights": True,
}
"""peft's settings of an adapter that adds lora_alpha / r * B @ A to its layers' weights and changes nothing else."""


def check_weights(model_name: str = GEMMA_3_270M, pretrained: bool = True) -> None:
    """Raise at once if Gemma's weights cannot be had, before data is read or a run folder is made.

    Reads at most the model's config (a few hundred bytes), from the cache where it is there; the weights themselves are
    only loaded with the encoder. Without a network the answer comes within seconds.

    Raises:
        MissingFileError: no such folder, a folder without weights, no network, or a licence that was not accepted.
        ConfigError: a model that is no Gemma 3 text model, or one with bidirectional attention.
        DataError: a folder whose config is damaged.
    """
    if pretrained:
        load_config(model_name)


def load_config(model_name: str) -> Any:
    """The `Gemma3TextConfig` of a hub name or a local folder; raises as `check_weights` does."""
    folder = local_folder(model_name)
    if folder is not None and not any(folder.glob("*.safetensors")):
        raise MissingFileError(f"{folder} holds no *.safetensors; give the folder of a downloaded Gemma 3")
    config = _read_config(model_name)
    if config.model_type != "gemma3_text":
        raise ConfigError(
            f"model_name {model_name!r} is a {config.model_type} model, wanted a Gemma 3 text model (gemma3_text); "
            f"use {GEMMA_3_270M!r} or a folder of it"
        )
    check_config(config, f"model_name {model_name!r}")
    return config


def load_pretrained(model_name: str, dtype: torch.dtype) -> nn.Module:
    """The `Gemma3TextModel` of a hub name or a local folder, without a head.

    Raises as `check_weights` does, and DataError for damaged weights.
    """
    from transformers import AutoModel

    config = load_config(model_name)
    backbone: nn.Module = _load(AutoModel, model_name, config, dtype, key_mapping=WITHOUT_HEAD, trust_remote_code=False)
    return backbone


def load_with_head(model_name: str, dtype: torch.dtype) -> Any:
    """The `Gemma3ForCausalLM` of a hub name or a local folder; of a model that sees, what it has for text.

    Raises as `load_pretrained` does.
    """
    from transformers import Gemma3ForCausalLM

    config = _read_config(model_name)
    sees = config.model_type == "gemma3"
    config = config.text_config if sees else config
    if config.model_type != "gemma3_text":
        raise ConfigError(f"{model_name!r} is a {config.model_type} model; name a Gemma 3, as {GEMMA_3_270M}-it")
    names = TEXT_OF_A_SEEING_MODEL if sees else None
    return _load(Gemma3ForCausalLM, model_name, config, dtype, key_mapping=names, attn_implementation="sdpa")


def load_that_sees(model_name: str, dtype: torch.dtype) -> Any:
    """The `Gemma3ForConditionalGeneration` of a hub name or a local folder; raises as `load_pretrained` does."""
    from transformers import AutoModelForImageTextToText

    config = load_config_that_sees(model_name)
    return _load(AutoModelForImageTextToText, model_name, config, dtype, trust_remote_code=False)


def load_config_that_sees(model_name: str) -> Any:
    """The `Gemma3Config` of a hub name or a local folder; raises as `check_weights` does. Reads no weights."""
    config = _read_config(model_name)
    if config.model_type != "gemma3":
        raise ConfigError(
            f"{model_name!r} is a {config.model_type} model, which sees nothing; name one that does, as "
            "google/gemma-3-4b-it"
        )
    return config


def _read_config(model_name: str) -> Any:
    """The configuration of whatever model it is. Raises MissingFileError, or DataError for a damaged one."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    folder = local_folder(model_name)
    if folder is None:
        _probe_hub(model_name)
    try:
        # a stranger's repository may bring code of its own; it is never run
        return AutoConfig.from_pretrained(folder or model_name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unreadable(model_name, error) from error
    except StrictDataclassError as error:  # its first line does not say what is wrong
        raise _unreadable(model_name, ValueError(on_one_line(error.__cause__ or error))) from error


def _load(loader: Any, model_name: str, config: Any, dtype: torch.dtype, **options: Any) -> Any:
    """The model of this configuration by a class of transformers', with each of its tensors."""
    try:
        model, report = loader.from_pretrained(
            local_folder(model_name) or model_name,
            config=config,
            dtype=dtype,
            use_safetensors=True,  # the other form is a pickle
            ignore_mismatched_sizes=True,  # `_require_all` refuses them by name
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(model_name, error) from error
    _require_all(report, model_name)
    return model


def load_adapted(model: Any, folder: Path, *, trainable: bool = False) -> Any:
    """A base under the adapters in a folder, as peft has it. Raises DataError where they are damaged or do not fit."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    except torch.OutOfMemoryError:  # a RuntimeError as well
        raise
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise DataError(
            f"the adapters in {shown_path(folder)} cannot be put over their base ({_first_line(error)}); train them "
            "again"
        ) from error


def load_processor(model_name: str) -> Any:
    """The processor of a hub name or a local folder. Raises MissingFileError where there is none."""
    from transformers import AutoProcessor

    processor: Any = AutoProcessor
    folder = local_folder(model_name)
    if folder is None:
        _probe_hub(model_name)
    try:
        return processor.from_pretrained(folder or model_name, backend="pil", trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise MissingFileError(
            f"{model_name!r} holds no processor that can be read ({_first_line(error)}); name a whole model that sees"
        ) from error


def load_tokenizer(model_name: str) -> Any:
    """The tokenizer of a hub name or a local folder. Raises MissingFileError where there is none."""
    from transformers import AutoTokenizer

    folder = local_folder(model_name)
    if folder is None:
        _probe_hub(model_name)
    try:
        return AutoTokenizer.from_pretrained(folder or model_name, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise MissingFileError(f"{model_name!r} holds no tokenizer that can be read ({_first_line(error)})") from error


def find_adapter(named: str) -> Adapter:
    """The adapter in a folder of peft's, or of the last epoch in a run's folder of `sft`; its numbers are not read.

    Raises:
        MissingFileError: no such folder, or none with an adapter.
        ConfigError: an adapter of another kind than is trained here.
        DataError: damaged files.
    """
    folder = _adapter_folder(named)
    config, path = read_json_object(folder / ADAPTER_CONFIG), folder / ADAPTER
    source = f"the adapter in {shown_path(folder)}"
    for field, usual in _PLAIN.items():
        if config.get(field, usual) not in (usual, None):
            raise ConfigError(
                f"{source} has {field} {shown(config[field])}, not {shown(usual)}; train one with gemma-metamon sft"
            )
    base, rank, alpha, targets = (
        config.get(field) for field in ("base_model_name_or_path", "r", "lora_alpha", "target_modules")
    )
    if not (base and isinstance(base, str) and isinstance(rank, int) and isinstance(alpha, int | float)):
        raise DataError(
            f"{shown_path(folder / ADAPTER_CONFIG)} lacks base_model_name_or_path, r or lora_alpha; use one that sft "
            "has saved"
        )
    if not isinstance(targets, list):
        raise DataError(f"{shown_path(folder / ADAPTER_CONFIG)} lists no target_modules; use what sft has saved")
    form = AdapterForm(base=place_of(base), lora_r=rank, lora_alpha=alpha, target_modules=frozenset(map(str, targets)))
    with _opened_adapter(path) as file:
        keys = {adapter_name(key) or key: key for key in file.keys()}  # noqa: SIM118 no mapping
        shapes = {name: file.get_slice(key).get_shape() for name, key in keys.items()}

    def read() -> dict[str, Tensor]:
        with _opened_adapter(path) as file:
            return {name: file.get_tensor(key) for name, key in keys.items()}

    return Adapter(source=source, form=form, shapes=shapes, read=read)


def _require_all(report: dict[str, Any], model_name: str) -> None:
    """Transformers fills what a file lacks with random numbers and only says so."""
    others = [f"{name} (in the shape of its config)" for name, *_ in report["mismatched_keys"]]
    wrong = sorted([*report["missing_keys"], *others])
    if wrong:
        raise ConfigError(
            f"the weights of {model_name!r} lack {len(wrong)} of the model's tensors, {wrong[0]} first; get them again"
        )


def check_config(config: Any, source: str) -> None:
    """Raises ConfigError for an architecture that cannot read texts as they are packed here."""
    if getattr(config, "use_bidirectional_attention", False):
        raise ConfigError(
            f"{source} has bidirectional attention, under which padding changes a text; use a causal model, "
            f"as {GEMMA_3_270M!r} is"
        )


def local_folder(model_name: str) -> Path | None:
    """The folder that a model name means, or None for a hub name. Raises MissingFileError where it is not there."""
    folder = _at_home(model_name)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model_name.startswith((".", "~")):
        raise MissingFileError(f"no folder {model_name!r}; {_how_to_get_weights(GEMMA_3_270M)}")
    return None


def place_of(model_name: str) -> str:
    """A hub name as it is; the same path for the same local folder, however it is written."""
    folder = _at_home(model_name)
    return str(folder.resolve()) if folder.is_dir() else model_name


def _at_home(named: str) -> Path:
    """A path whose "~" is the user's folder; that of a user who is not known stays as it is written."""
    try:
        return Path(named).expanduser()
    except RuntimeError:
        return Path(named)


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


def _unreadable(model_name: str, error: Exception) -> MissingFileError | DataError:
    """Whose files they are says what to do: a folder of the user's own, the hub's cache, or none yet."""
    if local_folder(model_name) is not None:
        return DataError(
            f"the model in {shown_path(model_name)} cannot be read ({_first_line(error)}); get its files once more, "
            "whole (git alone brings but pointers to them: it needs git lfs), or name another folder"
        )
    if isinstance(error, SafetensorError):
        return DataError(
            f"the weights of {model_name!r} are damaged ({_first_line(error)}); delete its folder in the hub's cache, "
            "and they are downloaded again"
        )
    return _unreachable(model_name, error)


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _how_to_get_weights(model_name: str) -> str:
    return (
        f"accept Gemma's licence at https://huggingface.co/{model_name} and run `hf auth login`, or give the folder "
        f"of a downloaded copy (GemmaTstepEncoder.model_name = '/path'), or use {CONFIG_WITHOUT_WEIGHTS}, "
        "which needs none"
    )


@contextmanager
def _opened_adapter(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise DataError(f"{shown_path(path)} is damaged ({on_one_line(error)}); use another adapter") from error


def _adapter_folder(named: str) -> Path:
    folder = _at_home(named)
    if not folder.is_dir():
        raise MissingFileError(f"no folder {shown_path(folder)}; name the --out of gemma-metamon sft, or leave it out")
    epochs = {int(match[1]): path for path in folder.glob("ckpts/*") if (match := _EPOCH.fullmatch(path.name))}
    folder = epochs[max(epochs)] if epochs else folder
    if (folder / ADAPTER_CONFIG).is_file():
        return folder
    if (folder / "chat_model.json").is_file():
        raise MissingFileError(
            f"{shown_path(folder)} has no adapter: all weights of that model were trained, so that it shares no base "
            "with another one (sft's tiny model has subwords of its own, too); run gemma-metamon sft with --model "
            "FOLDER or a hub name, and without --full"
        )
    raise MissingFileError(f"{shown_path(folder)} holds no {ADAPTER_CONFIG}; name the --out of gemma-metamon sft")
