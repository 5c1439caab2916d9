"""Training with Gemma's layers in shards: of each layer every process holds a part of the numbers (FSDP).

torch's `fully_shard` gathers a layer for as long as it runs, forward and backward, and gives each process the part of
the gradient that is its own; the optimizer's moments are in shards as the numbers are. All else (Gemma's embedding and
its last norm, what is above Gemma, critics) every process holds whole, as without shards; DistributedDataParallel,
which would do the same for that, knows nothing of a layer that adds up its gradient by itself, so that what it does
stands here: begin with the main process's numbers, take its buffers before an update, average the gradients.

The processes must run the layers equally often, in the same order: see `TextReader.keep_step`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.runs.shards import is_sharded, own_shard

_INSTEAD = "train with distributed_type MULTI_GPU, as scripts/accelerate/many_gpus.yaml does"


def require_shardable(agent: Any) -> None:
    """Raises ConfigError, with the reason, for an agent whose layers cannot be in shards. It may be on torch's meta."""
    encoder = agent.tstep_encoder
    if not isinstance(encoder, GemmaTstepEncoder):
        raise ConfigError(f"FSDP divides Gemma's layers, and {type(encoder).__name__} has none; {_INSTEAD}")
    if encoder.options.use_4bit:
        raise ConfigError(
            "FSDP divides numbers of one type, and use_4bit packs each two into a byte, with scales beside them; set "
            f"GemmaTstepEncoder.use_4bit = False, or {_INSTEAD}"
        )
    if sum(isinstance(module, GemmaTstepEncoder) for module in agent.modules()) > 1:
        raise ConfigError(
            f"{type(agent).__name__} copies its encoder, and the copies share Gemma's frozen numbers, which FSDP would "
            f"divide for each by itself; {_INSTEAD}"
        )


def shard(agent: Any, device: torch.device) -> None:
    """Puts an agent on its device, with the main process's numbers, and Gemma's layers in shards.

    Every process must call it. Only layer by layer is a layer on the device whole. The agent's parameters are others
    afterwards, so that the optimizer is to be made then.

    Args:
        agent: that `require_shardable` found nothing against, on the CPU.
        device: of this process.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    reader = agent.tstep_encoder.reader
    backbone: Any = reader.backbone
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    layers, backbone.layers = backbone.layers, nn.ModuleList()
    take_from_main(agent.to(device).state_dict().values())
    for layer in layers:
        take_from_main(layer.to(device).state_dict().values())
        # what runs again in a backward pass torch leaves whole: it expects its own backward next, not the other layers'
        fully_shard(layer, mesh=mesh).register_forward_hook(_give_back)
    backbone.layers = layers
    # the layers' root, which lets the next one be gathered while one runs; it has no shards of its own
    fully_shard(backbone, mesh=mesh, ignored_params={p for p in backbone.parameters() if not is_sharded(p)})
    reader.keep_step(device)


@torch.no_grad()
def clip_grad_norm(parameters: Sequence[Tensor], most: float) -> Tensor:
    """Averages over the processes what is in no shards, whose own gradients are averages, and clips all of it.

    Returns the norm of all gradients together, before they are clipped; it is the same in every process.

    Args:
        parameters: after backward.
        most: the largest norm.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    whole = [gradient for gradient in gradients if not is_sharded(gradient)]
    shards = [own_shard(gradient) for gradient in gradients if is_sharded(gradient)]
    together = torch.cat([gradient.float().flatten() for gradient in whole]) / distributed.get_world_size()
    distributed.all_reduce(together)
    averages = torch.split(together, [gradient.numel() for gradient in whole])
    for gradient, average in zip(whole, averages, strict=True):
        gradient.copy_(average.view_as(gradient))
    square = torch.stack([shard.float().square().sum() for shard in shards]).sum() if shards else together.new_zeros(())
    distributed.all_reduce(square)
    norm = (square + together.square().sum()).sqrt()
    for gradient in [*whole, *shards]:
        gradient.mul_((most / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _give_back(layer: nn.Module, *_: Any) -> None:
    sharded: Any = layer
    sharded.reshard()


def take_from_main(tensors: Iterable[Tensor]) -> None:
    """Overwrites tensors with those of the main process. Every process must call it, with tensors of the same form."""
    for tensor in tensors:
        distributed.broadcast(tensor, 0)
