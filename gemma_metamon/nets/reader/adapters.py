"""A trained LoRA adapter that a model is to begin with: whether it fits, and putting it in. `weights` reads the files.

A chat model of `sft` and an agent's encoder have the same layers, and name their adapters' tensors differently:

    base_model.model.model.layers.0.mlp.up_proj.lora_A.weight    in peft's file, of a model with its head
    base_model.model.layers.0.mlp.up_proj.lora_A.weight          in peft's file, without
    layers.0.mlp.up_proj.lora_A                                  here
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from gemma_metamon.errors import CheckpointMismatchError, ConfigError, DataError
from gemma_metamon.strict_json import shown

_PLACE: Final = re.compile(r"(?:.+\.)?(layers\.\d+\.\w+\.\w+\.lora_[AB])(?:\.default)?\.weight")


@dataclass(frozen=True, kw_only=True)
class AdapterForm:
    """What two adapters must have in common for one to begin with the other's numbers.

    Attributes:
        base: the model that it is trained over, a hub name or the whole path of a folder.
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


def _told(value: object) -> str:
    return ", ".join(sorted(value)) if isinstance(value, frozenset) else shown(value)
