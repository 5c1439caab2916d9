"""A backbone's linear layers in 4 bits (NF4, double quantisation, bfloat16 compute), through bitsandbytes.

The embedding keeps its dtype: bitsandbytes quantises none, and trimmed it is small. peft's
`prepare_model_for_kbit_training` is not used, because it would cast the embedding to float32.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn


def quantise_linears(backbone: nn.Module) -> None:
    """Replace each `nn.Linear` in place; the weights are rounded now, on the CPU, and move to a GPU as they are."""
    for parent in list(backbone.modules()):
        for name, linear in list(parent.named_children()):
            if isinstance(linear, nn.Linear):
                setattr(parent, name, _quantise(linear))
    cast("Any", backbone).is_loaded_in_4bit = True  # peft asks this before it wraps a Linear4bit


def _quantise(linear: nn.Linear) -> nn.Module:
    import bitsandbytes

    bnb: Any = bitsandbytes.nn
    quantised = bnb.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=torch.bfloat16,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    quantised.weight = bnb.Params4bit(
        linear.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=quantised
    ).to("cpu")
    if linear.bias is not None:
        quantised.bias = linear.bias
    # Its layout for inference on AVX-512 has no backward: after one evaluation the layer would train no more.
    quantised.support_avx512bf16_for_cpu = False
    quantised.register_load_state_dict_pre_hook(_take_quant_state)
    module: nn.Module = quantised
    return module


def whole_weight(weight: Tensor) -> Tensor:
    """A weight in float32 on the CPU; one in 4 bits as the values that its layer multiplies by, rounded as they are."""
    quant_state = getattr(weight, "quant_state", None)
    if quant_state is not None:
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight.data, quant_state)
    return weight.detach().float().cpu()


def _take_quant_state(module: Any, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Read back the scales that bitsandbytes saves beside a weight: its own layers do not."""
    from bitsandbytes.functional import QuantState

    scales = f"{prefix}weight."
    saved = {key.removeprefix(scales): state_dict.pop(key) for key in list(state_dict) if key.startswith(scales)}
    if saved:
        module.weight.quant_state = module.quant_state = QuantState.from_dict(saved, device=module.weight.device)
