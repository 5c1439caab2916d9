"""An agent made ready to play and no more to train: its adapters become part of Gemma's weights, which may be bfloat16.

A decision goes through all weights for a few rows, so that it costs what reading the weights costs.
"""

from typing import Any, Final

import torch
from torch import nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.traj_encoder import SigmaReparam

ACTING_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@torch.no_grad()
def prepare_to_act(agent: Any, dtype: str = "float32") -> None:
    """Change an agent in place; what it decides then takes less time.

    Adapters over float32 weights are merged into them: equal to about 1e-5. With "bfloat16", Gemma's weights and the
    SigmaReparam matrices of the trajectory transformer are rounded to eight bits, so that decisions may differ.

    Args:
        agent: in eval mode, on the device where it plays.
        dtype: "float32", which leaves every weight in its type, or "bfloat16".

    Raises:
        ConfigError: another dtype.
    """
    if dtype not in ACTING_DTYPES:
        raise ConfigError(f"dtype {dtype!r} of acting must be one of {', '.join(map(repr, ACTING_DTYPES))}")
    backbone = getattr(agent.tstep_encoder, "backbone", None)
    if backbone is not None:
        merge_adapters(backbone)
        if dtype != "float32" and not agent.tstep_encoder.options.use_4bit:
            backbone.to(ACTING_DTYPES[dtype])
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
