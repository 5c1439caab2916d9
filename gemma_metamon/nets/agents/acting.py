"""An agent made ready to play and no more to train: its adapters become part of Gemma's weights, which may be bfloat16.

A decision goes through all weights for a few rows, so that it costs what reading the weights costs.
"""

from collections.abc import Sequence
from typing import Any, Final, cast

import torch
from torch import nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.nets.trajectory.traj_encoder import SigmaReparam

ACTING_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@torch.no_grad()
def prepare_to_act(agent: Any, dtype: str = "float32") -> None:
    """Change an agent in place; what it decides then takes less time.

    Adapters over float32 weights are merged into them: equal to about 1e-5. With "bfloat16", Gemma's weights and the
    SigmaReparam matrices of the trajectory transformer are rounded to eight bits, so that decisions may differ. An
    encoder without Gemma stays as it is.

    Args:
        agent: in eval mode, on the device where it plays.
        dtype: "float32", which leaves every weight in its type, or "bfloat16".

    Raises:
        ConfigError: another dtype.
    """
    if dtype not in ACTING_DTYPES:
        raise ConfigError(f"dtype {dtype!r} of acting must be one of {', '.join(map(repr, ACTING_DTYPES))}")
    encoder = agent.tstep_encoder
    if isinstance(encoder, GemmaTstepEncoder):
        merge_adapters(encoder.backbone)
        if dtype != "float32" and not encoder.options.use_4bit:
            encoder.backbone.to(ACTING_DTYPES[dtype])
    if dtype != "float32":
        for layer in agent.traj_encoder.modules():
            if isinstance(layer, SigmaReparam):
                layer.weight.data = layer.weight.data.to(ACTING_DTYPES[dtype])


@torch.no_grad()
def merge_adapters(backbone: nn.Module) -> None:
    """Add each adapter's product to the float32 weight that it adapts, and take the adapter away."""
    for name, layer in list(backbone.named_modules()):
        base: Any = getattr(layer, "base_layer", None)
        if not isinstance(base, nn.Linear) or base.weight.dtype != torch.float32:
            continue
        adapted: Any = layer
        for adapter in adapted.lora_A:
            down, up = adapted.lora_A[adapter].weight, adapted.lora_B[adapter].weight
            base.weight.addmm_(up, down, alpha=adapted.scaling[adapter])
        parent, _, child = name.rpartition(".")
        setattr(backbone.get_submodule(parent), child, base)


def share_texts(agents: Sequence[Any]) -> None:
    """Give agents whose Gemmas are equal one reader, with one Gemma and one cache, so that a text is read once for all.

    So it is with checkpoints over one frozen base, or with equal adapters; what is above Gemma stays each agent's own.
    The agents must be made ready to act before, must not train any more, and must not act in two threads at once.
    """
    readers: list[GemmaTstepEncoder] = []  # each with a Gemma of its own
    for encoder in dict.fromkeys(agent.tstep_encoder for agent in agents):
        if not isinstance(encoder, GemmaTstepEncoder):
            continue
        same = next((reader for reader in readers if _read_alike(reader, encoder)), None)
        if same is None:
            readers.append(encoder)
            continue
        encoder.read_with(same.reader)
        # what is remembered must be Gemma's states, and not what one encoder's readout made of them
        same.reader.trains_backbone = False


def _read_alike(encoder: GemmaTstepEncoder, other: GemmaTstepEncoder) -> bool:
    """Whether the same word ids give the same states."""
    both = (encoder, other)
    if len({(each.subword_hash, each.subwords.compact) for each in both}) > 1:
        return False
    lookup, other_lookup = (dict(each.subwords.named_buffers()) for each in both)
    if not all(torch.equal(lookup[name], other_lookup[name]) for name in lookup):
        return False
    if len({(each.options.use_4bit, each.options.lora_r, each.options.lora_alpha) for each in both}) > 1:
        return False
    config, other_config = (cast("Any", each.backbone.config).to_dict() for each in both)
    if config != other_config:
        return False
    weights, others = encoder.backbone.state_dict(), other.backbone.state_dict()
    return weights.keys() == others.keys() and all(_equal(weights[name], others[name]) for name in weights)


def _equal(weight: Any, other: Any) -> bool:
    return bool(weight.dtype == other.dtype and weight.shape == other.shape and torch.equal(weight, other))
