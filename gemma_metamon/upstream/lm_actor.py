"""The language-model head as the actor inside amago: our two parts, see `nets.heads.lm_actor`, on amago's classes.

Imported in a process of upstream's alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from amago.nets.actor_critic import Actor
from amago.nets.traj_encoders import TrajEncoder
from metamon.rl.metamon_to_amago import MetamonMaskedActor
from torch import Tensor, nn

from gemma_metamon.nets.checks import PART, check
from gemma_metamon.nets.heads.lm_actor import TEMPERATURE, check_scored_state
from gemma_metamon.nets.reader.action_scores import N_SCORES


class LMTrajEncoder(TrajEncoder):  # type: ignore[misc]  # amago has no types
    """As `nets.heads.lm_actor.LMTrajEncoder`, around an encoder of amago's."""

    def __init__(self, tstep_dim: int, max_seq_len: int, traj_encoder_type: Callable[..., Any] | None = None) -> None:
        super().__init__(tstep_dim, max_seq_len)
        check("LMTrajEncoder", locals(), {"traj_encoder_type": PART})
        build: Any = traj_encoder_type
        self.inner: Any = build(tstep_dim=tstep_dim - N_SCORES, max_seq_len=max_seq_len)

    @property
    def emb_dim(self) -> int:
        """The width of what it gives: the inner encoder's, and the scores behind it."""
        return int(self.inner.emb_dim) + N_SCORES

    def init_hidden_state(self, batch_size: int, device: torch.device) -> Any:
        """The inner encoder's memory of `batch_size` battles that have not begun."""
        return self.inner.init_hidden_state(batch_size, device)

    def reset_hidden_state(self, hidden_state: Any, dones: np.ndarray[Any, Any]) -> Any:
        """The same memory, emptied where a battle has ended: dones (B,), bool."""
        return self.inner.reset_hidden_state(hidden_state, dones)

    def forward(
        self, seq: Tensor, time_idxs: Tensor, hidden_state: Any = None, log_dict: dict[str, Any] | None = None
    ) -> tuple[Tensor, Any]:
        """Timesteps (B, L, D + scores) -> states (B, L, emb_dim): the scores go past the inner encoder."""
        state, hidden_state = self.inner(
            seq[..., :-N_SCORES], time_idxs=time_idxs, hidden_state=hidden_state, log_dict=log_dict
        )
        return torch.cat([state, seq[..., -N_SCORES:]], dim=-1), hidden_state


class _ScoredActor(Actor):  # type: ignore[misc]
    """amago's Actor, its outputs added to the scores; behind MetamonMaskedActor, which then masks the sum."""

    temperature: float

    def actor_network_forward(self, state: Tensor, **others: Any) -> Tensor:
        """States (B, T, D + scores) -> logits (B, T, G, A)."""
        outputs: Tensor = super().actor_network_forward(state[..., :-N_SCORES], **others)  # (B, T, G, A)
        scores = state[..., -N_SCORES:][..., : outputs.shape[-1]]
        return outputs + scores[..., None, :] / self.temperature


class LMActor(MetamonMaskedActor, _ScoredActor):  # type: ignore[misc]
    """As `nets.heads.lm_actor.LMActor`."""

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        gammas: Tensor,
        n_layers: int = 2,
        d_hidden: int = 256,
        activation: str = "leaky_relu",
        dropout_p: float = 0.0,
        continuous_dist_type: Any = None,
        mask_illegal_actions: bool = True,
        temperature: float = 1.0,
    ) -> None:
        check("LMActor", locals(), {"temperature": TEMPERATURE})
        check_scored_state(state_dim, action_dim)
        super().__init__(
            state_dim=state_dim - N_SCORES,
            action_dim=action_dim,
            discrete=discrete,
            gammas=gammas,
            n_layers=n_layers,
            d_hidden=d_hidden,
            activation=activation,
            dropout_p=dropout_p,
            continuous_dist_type=continuous_dist_type,
            mask_illegal_actions=mask_illegal_actions,
        )
        self.temperature = temperature
        nn.init.zeros_(self.base.out_layer.weight)
        nn.init.zeros_(self.base.out_layer.bias)
