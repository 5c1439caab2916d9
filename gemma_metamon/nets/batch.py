"""One training batch, as every part of the network reads it.

Arrays are padded on the right: a batch holds battles of different lengths. Which timesteps are real is not stored but
read off `rl2s`, as AMAGO does, so that batches made here and there are the same thing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

PAD_VALUE = 4.0
"""What fills every array after a battle's end (bool arrays: True; integers: 4)."""


class Batch(NamedTuple):
    """B battles (or slices of them), L decisions, so L + 1 observations; A actions.

    Attributes:
        obs: (B, L + 1, ...) each. `illegal_actions` (A wide, True = illegal) and `missing_action_mask` (1 wide, True =
            what was chosen is unknown) are read by the agent, the rest by the timestep encoder.
        rl2s: (B, L + 1, 1 + A), the previous reward (not multiplied) and the previous action, one-hot.
        rewards: (B, L, 1), the reward of each decision.
        dones: (B, L, 1) bool, True at a battle's last decision only.
        actions: (B, L, A), one-hot.
        time_idxs: (B, L + 1, 1) long, the position in the battle (not in the slice).
        labels: (B, L) long, what an expert would have chosen in place of the action, -1 where it was not asked. None
            where there are none, as in all of AMAGO's batches. `actions` and `rl2s` are what was done, always.
    """

    obs: dict[str, Tensor]
    rl2s: Tensor
    rewards: Tensor
    dones: Tensor
    actions: Tensor
    time_idxs: Tensor
    labels: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(
            obs={key: value.to(device) for key, value in self.obs.items()},
            rl2s=self.rl2s.to(device),
            rewards=self.rewards.to(device),
            dones=self.dones.to(device),
            actions=self.actions.to(device),
            time_idxs=self.time_idxs.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )


def padded_timesteps(rl2s: Tensor) -> Tensor:
    """(B, T, 1 + A) -> (B, T) bool, True where the timestep is padding: its whole row is PAD_VALUE."""
    return (rl2s == PAD_VALUE).all(-1)


def countable_actions(batch: Batch) -> Tensor:
    """(B, L) bool, True where the losses may count the action: neither padding nor a choice that was not recorded."""
    countable = ~padded_timesteps(batch.rl2s)[:, 1:]
    missing = batch.obs.get("missing_action_mask")
    return countable if missing is None else countable & ~missing[:, :-1, 0]


def actions_to_imitate(batch: Batch) -> tuple[Tensor, Tensor]:
    """What the actor is to learn: (B, L) long, an expert's label or else the recorded action; (B, L) bool, the labels.

    A label counts where the recorded action does, see `countable_actions`.
    """
    recorded = batch.actions.clamp(0.0, 1.0).argmax(-1)  # a padded action is all ones; it counts nowhere
    if batch.labels is None:
        return recorded, torch.zeros_like(recorded, dtype=torch.bool)
    labelled = batch.labels >= 0
    return torch.where(labelled, batch.labels, recorded), labelled
