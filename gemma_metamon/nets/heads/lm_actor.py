"""The language-model head as the actor: how Gemma scores each action's words, and what the battle so far adds.

    GemmaTstepEncoder (action_scores = True)      LMTrajEncoder                        LMActor
    text and numbers ──────────────────── D ──── its transformer ── state ── critics, ── MLP ── (G, A) ┐
    how probable each action's words are ─ 13 ── as they are ──────────────────────────── / temperature ┴ logits

The MLP begins at 0, so that the first policy is what Gemma, pretrained, would say. Only the three together make sense;
`require_together` sees to it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.checks import PART, check, number
from gemma_metamon.nets.heads.actors import MetamonMaskedActor
from gemma_metamon.nets.reader.action_scores import N_SCORES
from gemma_metamon.nets.trajectory.kv_cache import KVCache
from gemma_metamon.nets.trajectory.traj_encoder import TformerTrajEncoder

TEMPERATURE: Final = number(0.001, 1000)


class LMTrajEncoder(nn.Module):
    """A trajectory encoder that hands the action scores of each timestep on, behind its own state.

    Args:
        tstep_dim: D + N_SCORES, of a timestep with action scores.
        max_seq_len: as of the encoder inside.
        traj_encoder_type: builds the encoder inside, D wide; TformerTrajEncoder.

    Raises:
        ConfigError: no traj_encoder_type.
    """

    def __init__(
        self, tstep_dim: int, max_seq_len: int, traj_encoder_type: Callable[..., TformerTrajEncoder] | None = None
    ) -> None:
        super().__init__()
        check("LMTrajEncoder", locals(), {"traj_encoder_type": PART})
        build: Any = traj_encoder_type
        self.inner: TformerTrajEncoder = build(tstep_dim=tstep_dim - N_SCORES, max_seq_len=max_seq_len)
        self.tstep_dim = tstep_dim
        self.max_seq_len = max_seq_len
        self.n_layers = self.inner.n_layers
        self.emb_dim = self.inner.emb_dim + N_SCORES

    def forward(self, seq: Tensor, time_idxs: Tensor) -> Tensor:
        """(B, T, tstep_dim) and (B, T, 1) long -> (B, T, emb_dim)."""
        return torch.cat([self.inner(seq[..., :-N_SCORES], time_idxs), seq[..., -N_SCORES:]], dim=-1)

    def init_cache(
        self, n_rows: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> KVCache:
        """As TformerTrajEncoder.init_cache: action scores are not remembered."""
        return self.inner.init_cache(n_rows, device, dtype)

    @torch.no_grad()
    def step(self, tstep: Tensor, time_idxs: Tensor, cache: KVCache, rows: Tensor) -> Tensor:
        """As TformerTrajEncoder.step: (n, tstep_dim) -> (n, emb_dim)."""
        state = self.inner.step(tstep[:, :-N_SCORES], time_idxs, cache, rows)
        return torch.cat([state, tstep[:, -N_SCORES:]], dim=-1)


class LMActor(MetamonMaskedActor):
    """logits = action scores / temperature + an MLP of the trajectory's state, which begins at 0.

    The scores are the same for all discounts, the MLP's part is not. Where illegal actions are masked, what is left of
    the scores' probability is shared out among the legal ones.

    Args:
        state_dim: of LMTrajEncoder.
        action_dim: A, how many actions, at most N_SCORES.
        discrete: must be True.
        gammas: the discounts; G = how many.
        n_layers: hidden layers of the MLP.
        d_hidden: their width.
        activation: leaky_relu, relu or gelu.
        dropout_p: dropout after each hidden layer.
        continuous_dist_type: accepted because upstream has it; must be None.
        mask_illegal_actions: give illegal actions no weight before the clipping.
        temperature: above 1 the scores count for less, below 1 for more.

    Raises:
        ConfigError: a value that breaks its rule; a state without action scores; more actions than scores.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        gammas: Sequence[float] | Tensor,
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
            state_dim - N_SCORES,
            action_dim,
            discrete,
            gammas,
            n_layers,
            d_hidden,
            activation,
            dropout_p,
            continuous_dist_type,
            mask_illegal_actions,
        )
        self.temperature = temperature
        nn.init.zeros_(self.base.out_layer.weight)
        nn.init.zeros_(self.base.out_layer.bias)

    def network(self, state: Tensor) -> Tensor:
        """(B, T, state_dim), the action scores last -> (B, T, G * A)."""
        scores = state[..., -N_SCORES:][..., : self.action_dim] / self.temperature
        return super().network(state[..., :-N_SCORES]) + scores.tile(self.num_gammas)


def check_scored_state(state_dim: int, action_dim: int) -> None:
    """Raise ConfigError for a state that cannot hold a score of each action."""
    if state_dim <= N_SCORES or action_dim > N_SCORES:
        raise ConfigError(
            f"LMActor has scores of {N_SCORES} actions at the end of its state, not {action_dim} actions in a state of "
            f"{state_dim}; use another actor, as MetamonMaskedActor"
        )


def require_together(owner: str, *, encoder: bool, traj_encoder: bool, actor: bool) -> None:
    """Raise ConfigError where only some of the three parts know of action scores: the others would misread them.

    Args:
        owner: the agent's class.
        encoder: whether GemmaTstepEncoder.action_scores is True.
        traj_encoder: whether the trajectory encoder is an LMTrajEncoder.
        actor: whether the actor is an LMActor.
    """
    if encoder == traj_encoder == actor:
        return
    raise ConfigError(
        f"GemmaTstepEncoder.action_scores is {encoder}, MetamonAMAGOExperiment.traj_encoder_type is "
        f"{'@LMTrajEncoder' if traj_encoder else 'another'} and {owner}.actor_type is "
        f"{'@LMActor' if actor else 'another'}; the language-model actor needs all three (True, @LMTrajEncoder, "
        "@LMActor), every other actor none of them: start from gemma_lm_actor.gin"
    )
