"""The adapter of an RL agent, for a chat model to begin with: `gemma-metamon sft --init_from RUN`."""

from functools import partial
from typing import Any

from torch import Tensor

from gemma_metamon.errors import ConfigError
from gemma_metamon.language.models.chat_model import ModelPlan
from gemma_metamon.nets.reader.adapters import Adapter, AdapterForm, adapter_name
from gemma_metamon.nets.reader.backbone import LORA_TARGETS
from gemma_metamon.nets.reader.weights import place_of
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint
from gemma_metamon.runs.loading import load_described
from gemma_metamon.runs.tensor_files import read_headers

_NO_BASE = (
    "its Gemma is one of random weights over the packaged words (GemmaTstepEncoder.pretrained = False), which is no "
    "model that sft could load, and no chat model shares its embedding"
)


def find_agents_adapter(named: str, plan: ModelPlan) -> Adapter:
    """The adapter of an agent's checkpoint, which fits a plan; its numbers are not read.

    Args:
        named: "runs/first", its last checkpoint, or "runs/first@3".
        plan: of the chat model that is to begin with it.

    Raises:
        MissingFileError: no such run or checkpoint.
        ConfigError: an agent without an adapter, or with one of another base, rank or scale than is planned.
        DataError, CheckpointMismatchError: a checkpoint that cannot be used.
    """
    checkpoint = Checkpoint.find_named(named)
    agent: Any
    _, agent = load_described(checkpoint.read_meta(), str(checkpoint.folder))
    options = agent.tstep_encoder.options
    begins = f"--init_from {named}"
    if not options.pretrained:
        raise ConfigError(f"{begins}: {_NO_BASE}; name an agent of a pretrained Gemma")
    if not options.use_lora:
        raise ConfigError(
            f"{begins}: the agent has no adapter (GemmaTstepEncoder.use_lora = False); name another, or export its "
            "Gemma with gemma-metamon export --to merged and begin with that by --model"
        )
    if not plan.uses_adapters:
        raise ConfigError(
            f"{begins} begins with an adapter over {options.model_name!r}, but --model {plan.model}"
            f"{' --full' if plan.full else ''} trains all weights; give --model {options.model_name} without --full"
        )
    headers = read_headers(checkpoint.folder / WEIGHTS)
    keys = {name: key for key in headers if (name := _own_name(key)) is not None}
    adapter = Adapter(
        source=f"the adapter of {checkpoint}",
        form=options.adapter_form,
        shapes={name: headers[key].shape for name, key in keys.items()},
        read=partial(_read, checkpoint, keys),
    )
    planned = AdapterForm(
        base=place_of(plan.model),
        lora_r=plan.lora_r,
        lora_alpha=plan.lora_alpha,
        target_modules=frozenset(LORA_TARGETS),
    )
    adapter.require_form(planned, _mend)
    return adapter


def _own_name(key: str) -> str | None:
    """Of the encoder's own adapter; an agent may hold copies of its parts."""
    return adapter_name(key) if key.startswith("tstep_encoder.backbone.") else None


def _read(checkpoint: Checkpoint, keys: dict[str, str]) -> dict[str, Tensor]:
    weights = checkpoint.read_weights()
    return {name: weights[key] for name, key in keys.items()}


def _mend(field: str, value: object) -> str:
    return f"give --{'model' if field == 'base' else field} {value}, or begin with another run"
