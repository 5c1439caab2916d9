"""A trained LoRA adapter that a model is to begin with: looked at before anything slow is done, then put in.

A chat model of `sft` and an agent's encoder have the same layers, and name their adapters' tensors differently:

    base_model.model.model.layers.0.mlp.up_proj.lora_A.weight    in peft's file, of a model with its head
    base_model.model.layers.0.mlp.up_proj.lora_A.weight          in peft's file, without
    layers.0.mlp.up_proj.lora_A                                  here
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gemma_metamon.errors import CheckpointMismatchError, ConfigError, DataError, MissingFileError
from gemma_metamon.strict_json import on_one_line, read_json_object, shown, shown_path

FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PLACE: Final = re.compile(r"(?:.+\.)?(layers\.\d+\.\w+\.\w+\.lora_[AB])(?:\.default)?\.weight")
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


@dataclass(frozen=True, kw_only=True)
class AdapterForm:
    """What two adapters must have in common for one to begin with the other's numbers.

    Attributes:
        base: the hub name or folder of the model that it is trained over.
        lora_r: its rank.
        lora_alpha: its scale is lora_alpha / lora_r.
        target_modules: the layers that have it.
    """

    base: str
    lora_r: int
    lora_alpha: float
    target_modules: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained adapter.

    Attributes:
        source: where it is, for messages.
        form: how it was trained.
        shapes: of its tensors, by their names here.
        read: gives its tensors by the same names, on the CPU.
    """

    source: str
    form: AdapterForm
    shapes: Mapping[str, Sequence[int]]
    read: Callable[[], Mapping[str, Tensor]]

    def require_form(self, wanted: AdapterForm, mend: Callable[[str, object], str]) -> None:
        """Raises ConfigError, with both values, where another form is wanted.

        Args:
            wanted: of the model that is to begin with it.
            mend: what to do about a field, given its name and the value that this adapter has.
        """
        for field, own in vars(self.form).items():
            asked = getattr(wanted, field)
            if field == "base" and _place_of(own) == _place_of(asked):
                continue
            if own != asked:
                raise ConfigError(f"{self.source} has {field} {_told(own)}, not {_told(asked)}; {mend(field, own)}")

    def require_shapes(self, model: nn.Module) -> None:
        """Raises CheckpointMismatchError where a model, maybe on the meta device, has adapters of other shapes."""
        wanted = {name: [*parameter.shape] for name, parameter in lora_parameters(model).items()}
        own = {name: [*shape] for name, shape in self.shapes.items()}
        wrong = [
            f"{name} is {own.get(name, 'missing')}, not {wanted.get(name, 'there')}"
            for name in sorted({*own, *wanted})
            if own.get(name) != wanted.get(name)
        ]
        if wrong:
            raise CheckpointMismatchError(
                f"{self.source} does not fit the model, {len(wrong)} tensors differ ({', '.join(wrong[:3])}): "
                f"{self.form.base} is another model than when it was trained; get that one again, or train it anew"
            )

    def put_into(self, model: nn.Module) -> None:
        """Begins a model's adapters with this one. Raises as `require_shapes`, and DataError for a damaged file."""
        self.require_shapes(model)
        tensors = self.read()
        with torch.no_grad():
            for name, parameter in lora_parameters(model).items():
                if not tensors[name].isfinite().all():
                    raise DataError(f"{self.source} is damaged, {name} holds numbers that are not finite; use another")
                parameter.copy_(tensors[name])


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model's adapters, by their names here."""
    return {name: parameter for key, parameter in model.named_parameters() if (name := adapter_name(key)) is not None}


def adapter_name(key: str) -> str | None:
    """What an adapter's tensor is called here; None for every other tensor."""
    match = _PLACE.fullmatch(key)
    return match[1] if match else None


def find_adapter(named: str) -> Adapter:
    """The adapter in a folder of peft's, or of the last epoch in a run's folder of `sft`; its numbers are not read.

    Raises:
        MissingFileError: no such folder, or none with an adapter.
        ConfigError: an adapter of another kind than is trained here.
        DataError: damaged files.
    """
    folder = _folder_of(named)
    config, path = read_json_object(folder / CONFIG), folder / FILE
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
            f"{shown_path(folder / CONFIG)} lacks base_model_name_or_path, r or lora_alpha; use what sft has saved"
        )
    if not isinstance(targets, list):
        raise DataError(f"{shown_path(folder / CONFIG)} lists no target_modules; use what sft has saved")
    form = AdapterForm(base=base, lora_r=rank, lora_alpha=alpha, target_modules=frozenset(map(str, targets)))
    with _opened(path) as file:
        keys = {adapter_name(key) or key: key for key in file.keys()}  # noqa: SIM118 no mapping
        shapes = {name: file.get_slice(key).get_shape() for name, key in keys.items()}

    def read() -> dict[str, Tensor]:
        with _opened(path) as file:
            return {name: file.get_tensor(key) for name, key in keys.items()}

    return Adapter(source=source, form=form, shapes=shapes, read=read)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise DataError(f"{shown_path(path)} is damaged ({on_one_line(error)}); use another adapter") from error


def _folder_of(named: str) -> Path:
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise MissingFileError(f"no folder {shown_path(folder)}; name the --out of gemma-metamon sft, or leave it out")
    epochs = {int(match[1]): path for path in folder.glob("ckpts/*") if (match := _EPOCH.fullmatch(path.name))}
    folder = epochs[max(epochs)] if epochs else folder
    if (folder / CONFIG).is_file():
        return folder
    if (folder / "chat_model.json").is_file():
        raise MissingFileError(
            f"{shown_path(folder)} has no adapter: all weights of that model were trained, so that it shares no base "
            "with another one (sft's tiny model has subwords of its own, too); run gemma-metamon sft with --model "
            "FOLDER or a hub name, and without --full"
        )
    raise MissingFileError(f"{shown_path(folder)} holds no {CONFIG}; name the --out of gemma-metamon sft")


def _place_of(model_name: str) -> str:
    """The same text for the same folder, however it is written."""
    folder = Path(model_name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model_name


def _told(value: object) -> str:
    return ", ".join(sorted(value)) if isinstance(value, frozenset) else shown(value)
