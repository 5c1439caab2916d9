"""Tensors in shards: made whole to be saved, so that no file tells how many processes trained, and divided again."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a shard of it alone: whether it is a DTensor, as torch's `fully_shard` makes them."""
    return hasattr(tensor, "full_tensor")  # importing the class takes longer than most commands


def own_shard(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its shard, which may be empty, or all of it where it is in no shards."""
    sharded: Any = tensor
    shard: Tensor = sharded.to_local() if is_sharded(tensor) else tensor
    return shard


def make_whole(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The same tensors, none of them in shards. All processes must call it, with the same names in the same order.

    Args:
        tensors: what was in shards is on the CPU afterwards, the others stay where they are.
        keep: False where this process has no use for them: nothing is returned, and no more than one is held at a time.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        sharded: Any = tensor
        gathered = sharded.full_tensor() if is_sharded(tensor) else tensor
        if keep:
            found[name] = gathered.cpu() if is_sharded(tensor) else gathered
        del gathered
    return found


def divide_as(whole: Tensor, own: Tensor) -> Tensor:
    """A whole tensor divided as `own`, of the same shape, is; the same tensor where that is in no shards.

    No process hears of another: each takes its shard of what it has itself.
    """
    if not is_sharded(own):
        return whole
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = own
    divided: Tensor = distribute_tensor(
        whole.to(sharded.device), sharded.device_mesh, sharded.placements, src_data_rank=None
    )
    return divided.clone()  # a view would keep the whole tensor
