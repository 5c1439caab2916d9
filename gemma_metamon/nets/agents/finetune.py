"""Fine-tuning an agent on new battles without losing what it can: metamon 1.6.0's `MetamonFinetuneAgent`.

Beside the networks that learn there are a slow copy of all of them, which acts; a frozen copy of encoders and actor as
the run began; and an actor that learns, on the frozen copy's states, what the recorded players do. Where the frozen
actor finds a recorded action more probable than those players chose it, imitation of it may count for more.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.amago2 import MultiTaskAgent
from gemma_metamon.nets.agents.copies import COPIES, DATA, SLOW, copy_sharing_frozen, follow, state_with_copies
from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.agents.interface import AgentLosses
from gemma_metamon.nets.batch import Batch, countable_actions
from gemma_metamon.nets.checks import FLAG, SHARE, check, number
from gemma_metamon.nets.heads.actors import ActionDistribution
from gemma_metamon.nets.heads.batch_filters import ISAdvantageFilter
from gemma_metamon.nets.layers import masked_mean

_RULES: Final = {
    "bc_coeff": number(0, 1e6),
    "tortoise_tau": SHARE,
    "use_tortoise_for_inference": FLAG,
    "use_is_correction": FLAG,
}


class MetamonFinetuneAgent(MultiTaskAgent):
    """MultiTaskAgent with a slow copy of itself, a frozen copy, and an actor that learns the data's policy.

    Losses, gradients and copies are those of metamon 1.6.0, but for what follows from this: the copies are always in
    eval mode. Upstream's are in training mode with the agent, so that dropout falsifies the frozen copy's judgement,
    and the sigmas of the slow copy's layers stay those of the weights it began with; ours follow its weights.

    A state that another run has saved (`starting_state`) becomes that of all copies; one that this agent saved begins
    the next round with its slow copy.

    Args:
        bc_coeff: weight of the data's actor's own loss.
        tortoise_tau: share of the learning networks that the slow copy takes over per update.
        use_tortoise_for_inference: let the slow copy act; otherwise the networks that learn.
        use_is_correction: add log pi_frozen - log pi_data of the recorded action, clipped, to the exponent of
            ISAdvantageFilter.
        options: those of MultiTaskAgent, all by name.

    Raises:
        ConfigError: a value that cannot work, or a correction for another filter.
    """

    def __init__(
        self,
        *,
        bc_coeff: float = 1.0,
        tortoise_tau: float = 0.001,
        use_tortoise_for_inference: bool = False,
        use_is_correction: bool = True,
        **options: Any,
    ) -> None:
        check("MetamonFinetuneAgent", locals(), _RULES)
        super().__init__(**options)
        self.bc_coeff = bc_coeff
        self.tortoise_tau = tortoise_tau
        self.use_tortoise_for_inference = use_tortoise_for_inference
        self.use_is_correction = use_is_correction
        if use_is_correction and not isinstance(self.fbc_filter_func, ISAdvantageFilter):
            raise ConfigError(
                "MetamonFinetuneAgent.use_is_correction is True, but only ISAdvantageFilter takes a correction; set "
                "MultiTaskAgent.fbc_filter_func = @custom_agent.ISAdvantageFilter(), or use_is_correction = False"
            )
        for name, original in COPIES.items():
            setattr(self, name, copy_sharing_frozen(getattr(self, original)))
        for name in COPIES.keys() - DATA.keys():
            self.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Those for the optimizer: MultiTaskAgent's, and the data's actor."""
        return [*super().trainable_parameters(), *self.get_submodule("data_actor").parameters()]

    def train(self, mode: bool = True) -> "MetamonFinetuneAgent":
        """As nn.Module.train; the slow and the frozen copies stay in eval mode."""
        super().train(mode)
        for name in COPIES.keys() & dict(self.named_children()).keys() - DATA.keys():
            self.get_submodule(name).eval()
        return self

    @torch.no_grad()
    def update_targets(self) -> None:
        """Move the target networks, and the slow copy by tortoise_tau; before `optimizer.step()`, as upstream does."""
        super().update_targets()
        for name, original in SLOW.items():
            follow(self.get_submodule(name), self.get_submodule(original), self.tortoise_tau)

    def starting_state(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of this agent where a fine-tuning begins: every copy equal to what was saved."""
        return state_with_copies(super().starting_state(saved))

    def keep_what_acts(self) -> None:
        """Give up all copies; with use_tortoise_for_inference the slow ones become the networks that act."""
        for name, original in SLOW.items():
            if self.use_tortoise_for_inference:
                setattr(self, original, self.get_submodule(name))
        self.use_tortoise_for_inference = False
        for name in COPIES:
            delattr(self, name)

    def forward(self, batch: Batch, draws: Draws | None = None) -> AgentLosses:
        """The losses of one batch; the data's actor's is part of actor_loss."""
        draws = Draws() if draws is None else draws
        about = self._about(batch)
        if not (self.bc_coeff > 0 or self.use_is_correction):
            return self._losses(batch, about, draws)
        of_frozen, of_data = self._judge_recorded(batch)  # (B, T, G, 1) each
        log_ratio = of_frozen - of_data.detach()
        losses = self._losses(batch, about._replace(log_ratio=log_ratio) if self.use_is_correction else about, draws)
        counted = countable_actions(batch)[..., None, None]  # (B, L, 1, 1)
        data_loss = masked_mean(-of_data[:, :-1], counted)
        stats = {
            "data_policy_loss": data_loss,
            "log_ratio_mean": masked_mean(log_ratio[:, :-1], counted),
            "log_ratio_size": masked_mean(log_ratio[:, :-1].abs(), counted),
        }
        if isinstance(self.fbc_filter_func, ISAdvantageFilter):
            beyond = log_ratio[:, :-1].abs() > self.fbc_filter_func.clip_delta
            stats["log_ratio_clipped_share"] = masked_mean(beyond.float(), counted)
        return AgentLosses(
            losses.actor_loss + self.bc_coeff * data_loss,
            losses.critic_loss,
            losses.stats | {name: value.detach() for name, value in stats.items()},
        )

    def _acting_parts(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self._copied_parts("slow") if self.use_tortoise_for_inference else super()._acting_parts()

    def _copied_parts(self, kind: str) -> tuple[nn.Module, nn.Module, nn.Module]:
        tstep_encoder, traj_encoder, actor = (
            self.get_submodule(f"{kind}_{part}") for part in ("tstep_encoder", "traj_encoder", "actor")
        )
        return tstep_encoder, traj_encoder, actor

    def _judge_recorded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T, G, 1) of the recorded actions: the frozen actor's, and the data's with a gradient.

        Both read the frozen copy's states; in the last state stands the last action again, as in AMAGO.
        """
        tstep_encoder, traj_encoder, actor = self._copied_parts("frozen")
        actor_obs = self._actor_obs(batch.obs)
        actions = batch.actions.clamp(0.0, 1.0).argmax(-1)  # (B, L); what is padded counts nowhere
        actions = torch.cat((actions, actions[:, -1:]), dim=1)[..., None]  # (B, T, 1)

        def log_probs(policy: ActionDistribution) -> Tensor:
            return policy.log_prob(actions.expand(policy.probs.shape[:-1]))[..., None]

        with torch.no_grad():
            state = traj_encoder(tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)  # (B, T, state_dim)
            of_frozen = log_probs(self._policy(actor, state, actor_obs))
        return of_frozen, log_probs(self._policy(self.get_submodule("data_actor"), state, actor_obs))
