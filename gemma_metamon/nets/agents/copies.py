"""Copies of an agent's networks for fine-tuning: what they share with them, and what they begin with.

The slow copies follow the networks that learn, the frozen ones stay as the run began, and the data's actor learns what
the recorded players do. Here are the copies alone; who moves and reads them is `MetamonFinetuneAgent`.
"""

import copy
from collections.abc import Mapping
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from gemma_metamon.nets.trajectory.traj_encoder import SigmaReparam

Module = TypeVar("Module", bound=nn.Module)

SLOW: Final = {
    "slow_tstep_encoder": "tstep_encoder",
    "slow_traj_encoder": "traj_encoder",
    "slow_actor": "actor",
    "slow_critics": "critics",
}
"""Copy -> of what; in AMAGO's order, as all of these."""
FROZEN: Final = {
    "frozen_tstep_encoder": "tstep_encoder",
    "frozen_traj_encoder": "traj_encoder",
    "frozen_actor": "actor",
}
DATA: Final = {"data_actor": "actor"}
COPIES: Final = {**SLOW, **FROZEN, **DATA}
TARGETS: Final = {"target_critics": "critics", "maximized_critics": "critics", "target_actor": "actor"}


def copy_sharing_frozen(module: Module) -> Module:
    """A copy with weights of its own where the module's are trained; those that are not are the same tensors.

    Gemma's frozen base is so held once, however many copies of an encoder there are.
    """
    shared: dict[int, object] = {id(p): p for p in module.parameters() if not p.requires_grad}
    return copy.deepcopy(module, shared)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, tau: float) -> None:
    """Move a copy's weights by the share tau towards those that learn; what the two share stays exactly as it is."""
    for own, other in zip(slow.parameters(), fast.parameters(), strict=True):
        if own is not other:
            own.lerp_(other, tau)
    for layer in slow.modules():
        if isinstance(layer, SigmaReparam):  # its singular vectors are those of other weights now
            layer.iterate()


def plain_state(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an agent saved, without copies: one that had slow copies is now what those were, its targets included.

    Of any other agent's state nothing changes.
    """
    entries = {key: value for key, value in saved.items() if _part(key) not in COPIES}
    if not any(_part(key) in SLOW for key in saved):
        return entries
    entries |= _renamed(saved, SLOW)
    return entries | _copied(entries, TARGETS)


def state_with_copies(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`plain_state`, and every copy equal to what it is a copy of: how a fine-tuning begins."""
    entries = plain_state(saved)
    return entries | _copied(entries, COPIES)


def _copied(entries: Mapping[str, Tensor], copies: Mapping[str, str]) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for name, original in copies.items():
        made |= {name + key[len(original) :]: value for key, value in entries.items() if _part(key) == original}
    return made


def _renamed(entries: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {names[part] + key[len(part) :]: value for key, value in entries.items() if (part := _part(key)) in names}


def _part(key: str) -> str:
    return key.partition(".")[0]
