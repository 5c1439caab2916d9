"""The two agents of AMAGO-2 (arXiv 2411.11188) as AMAGO implements them, number for number.

`MultiTaskAgent` has critics that classify the return and compares the recorded action with samples of the policy's.
`Agent` has critics that regress it, under PopArt, and knows every action's value at once.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.nets.agents.base import ActorCriticAgent
from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.agents.interface import AdvantageFrom, Baseline, CriticView, Multigammas, WarmupOf
from gemma_metamon.nets.agents.options import AgentOptions
from gemma_metamon.nets.checks import check, one_of
from gemma_metamon.nets.heads.actors import ActionDistribution, Actor, ActorHead
from gemma_metamon.nets.heads.batch_filters import BatchFilter
from gemma_metamon.nets.heads.critics import AmagoVersion, NCritics, NCriticsTwoHot
from gemma_metamon.nets.heads.filters import binary_filter
from gemma_metamon.nets.heads.popart import PopArtLayer
from gemma_metamon.nets.spaces import HasN, HasShape

ValueEstimate = Literal["sampled", "exact"]
GUMBEL_TEMPERATURE = 0.5
_RULES: Final = {
    "value_estimate": one_of(*get_args(ValueEstimate)),
}


class MultiTaskAgent(ActorCriticAgent):
    """Critics classify the return (NCriticsTwoHot), so that rewards of very different size can be learned together.

    Parameters that are not listed here are those of AgentOptions.

    Args:
        obs_space: observation name -> something with a `shape`.
        rl2_space: has shape (1 + A,), the previous reward and action.
        action_space: has n = A.
        value_estimate: how the mean over the policy's actions is taken, in the TD target, the advantage and the online
            term. "sampled": K draws, as AMAGO does. "exact": all A actions, each with its probability; no draw is made,
            both num_actions_for_value_... are without effect, and the online term's gradient goes through the
            probabilities instead of through Gumbel noise.

    Raises:
        ConfigError: a value that breaks its rule, or two that do not go together.
    """

    critics_class = NCriticsTwoHot
    critics: NCriticsTwoHot
    target_critics: NCriticsTwoHot
    maximized_critics: NCriticsTwoHot

    def __init__(
        self,
        obs_space: Mapping[str, HasShape],
        rl2_space: HasShape,
        action_space: HasN,
        tstep_encoder_type: Callable[..., nn.Module],
        traj_encoder_type: Callable[..., nn.Module],
        max_seq_len: int,
        num_critics: int = 4,
        num_critics_td: int = 2,
        online_coeff: float = 0.0,
        offline_coeff: float = 1.0,
        gamma: float = 0.999,
        reward_multiplier: float = 10.0,
        tau: float = 0.003,
        fake_filter: bool = False,
        num_actions_for_value_in_critic_loss: int = 1,
        num_actions_for_value_in_actor_loss: int = 3,
        fbc_filter_func: Callable[..., Tensor] | BatchFilter = binary_filter,
        popart: bool = True,
        use_target_actor: bool = True,
        use_multigamma: bool = True,
        actor_type: Callable[..., ActorHead] = Actor,
        critic_type: Callable[..., NCritics | NCriticsTwoHot] = NCriticsTwoHot,
        pass_obs_keys_to_actor: Iterable[str] | None = None,
        critic_loss_weight: float = 10.0,
        n_step: int = 1,
        *,
        lambda_return: float | None = None,
        advantage: AdvantageFrom = "critic",
        baseline: Baseline = "policy",
        critics_train_trunk: bool = True,
        critic_warmup_updates: int = 0,
        critic_warmup: WarmupOf = "imitate",
        amago_version: AmagoVersion = "3.3",
        value_estimate: ValueEstimate = "sampled",
        popart_type: Callable[..., PopArtLayer] = PopArtLayer,
        multigammas_type: Callable[[], Multigammas] = Multigammas,
    ) -> None:
        check("MultiTaskAgent", locals(), _RULES)
        super().__init__(obs_space, rl2_space, action_space, AgentOptions.of("MultiTaskAgent", locals()))
        self.value_estimate = value_estimate

    def _build_critics(self, head: dict[str, Any]) -> Any:
        return self.options.critic_type(**head, amago_version=self.options.amago_version)

    def _policy(self, actor: nn.Module, state: Tensor, actor_obs: dict[str, Tensor]) -> ActionDistribution:
        return super()._policy(actor, state, actor_obs).normalized()

    @torch.no_grad()
    def values_of_actions(self, state: Tensor) -> Tensor:
        """Of every action in every state (B, T, state_dim), (B, T, A); see ActorCriticAgent."""
        B, T, _ = state.shape
        G, A = len(self.gammas), self.action_dim
        weights = torch.zeros(1, B, T, G, device=state.device)
        weights[..., -1] = 1.0
        each = self._recorded_actions(torch.eye(A, device=state.device))  # (A, A)
        values = [self.critics.mean_value(state, action.expand(1, B, T, G, -1), weights) for action in each]
        return torch.stack([value[:, :, :, -1, 0].mean(2) for value in values], dim=-1)  # (B, T, C, G, 1) -> (B, T, A)

    def _next_values(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        shares = self._action_shares(policy, self.options.num_actions_for_value_in_critic_loss, draws)[:, 1:]
        return self._mean_value(self.target_critics, state[:, 1:], shares, self._critic_subset(state, draws))

    def _critic_view(self, state: Tensor, actions: Tensor, td_target: Tensor) -> CriticView:
        shown = self._recorded_actions(_and_again(actions))[None, :, :, None]  # (1, B, T, 1, A): for all discounts
        return self._view_of(self.critics, state, shown, td_target)

    def _view_of(self, critics: Any, state: Tensor, shown: Tensor, td_target: Tensor) -> CriticView:
        shown = shown.expand(1, *state.shape[:2], len(self.gammas), -1)
        log_probs = critics(state, shown)[0]  # (B, T, C, G, bins)
        labels = critics.labels(td_target)  # (B, L, 1, G, bins)
        loss = -(labels * log_probs[:, :-1]).sum(-1, keepdim=True)  # (B, L, C, G, 1)
        return CriticView(loss, critics.values(log_probs.detach()).mean(2))

    def _critic_advantage(
        self, critic: CriticView, state: Tensor, actions: Tensor, policy: ActionDistribution, draws: Draws
    ) -> Tensor:
        shares = self._action_shares(policy, self.options.num_actions_for_value_in_actor_loss, draws)  # (B, T, G, A)
        advantage = critic.value - self._mean_value(self.critics, state, shares).mean(2)  # (B, T, G, 1)
        # since 3.3 recorded actions come softened (0.988, and 0.001 of 13 each) and the policy's as one-hots, so that
        # where the policy is sure of a good action, the same action as it was recorded can seem worse than its own
        if self.options.amago_version == "3.1" and self.value_estimate == "sampled":
            # where every sample is the recorded action the two values are one: rounding must not choose the sign
            repeated = (shares == _and_again(actions)[:, :, None]).all(-1, keepdim=True)  # (B, T, G, 1)
            advantage = advantage.masked_fill(repeated, 0.0)
        return advantage

    def _policy_value(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        shares = self._action_shares(policy, self.options.num_actions_for_value_in_actor_loss, draws)
        return self._mean_value(self.critics, state, shares).mean(2)

    def _mean_value(
        self, critics: NCriticsTwoHot, state: Tensor, shares: Tensor, subset: Tensor | None = None
    ) -> Tensor:
        """Of all actions with their shares (B, T, G, A), see `NCriticsTwoHot.mean_value`."""
        return critics.mean_value(state, *self._every_action(shares), subset)

    def _every_action(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Of each action its share (B, T, G, A) -> the actions (A, B, T, G, A) and the shares (A, B, T, G)."""
        each = torch.eye(self.action_dim, device=shares.device)
        return each[:, None, None, None].expand(-1, *shares.shape), shares.movedim(-1, 0)

    def _online_value(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        if self.value_estimate == "exact":
            actions, weights = self._every_action(policy.probs)
        else:
            actions, weights = self._differentiable_actions(policy, draws)
        value = self.maximized_critics.mean_value(state.detach(), actions, weights).amin(2)  # (B, T, G, 1)
        return self.popart.normalize_values(value)

    def _action_shares(self, policy: ActionDistribution, num_samples: int, draws: Draws) -> Tensor:
        """How much each action counts in the mean over the policy's, (B, T, G, A): its probability, or its samples."""
        if self.value_estimate == "exact":
            return policy.probs
        # drawn at every timestep, also where nothing uses them: so upstream draws
        samples = draws.action_samples(policy.probs, num_samples)  # (K, B, T, G)
        return F.one_hot(samples, self.action_dim).to(policy.probs.dtype).mean(0)

    def _differentiable_actions(self, policy: ActionDistribution, draws: Draws) -> tuple[Tensor, Tensor]:
        """One-hot samples (K, B, T, G, A) whose gradient is that of a soft choice.

        Straight-through Gumbel-softmax (arXiv 1611.01144). The second value is their shares in the mean, (K, B, T, G).
        """
        samples = []
        for _ in range(self.options.num_actions_for_value_in_actor_loss):
            soft = ((policy.logits + draws.gumbel_noise(policy.logits)) / GUMBEL_TEMPERATURE).softmax(-1)
            hard = F.one_hot(soft.argmax(-1), self.action_dim).to(soft.dtype)
            samples.append(hard + soft - soft.detach())  # the value of hard, the gradient of soft
        actions = torch.stack(samples)
        return actions, policy.probs.new_full(actions.shape[:-1], 1.0 / len(actions))


class Agent(ActorCriticAgent):
    """Critics regress the return (NCritics), in the scale of PopArt's statistics.

    A critic values every action at once, so the mean over the policy is exact and both num_actions_for_value_... are
    without effect, as in AMAGO with a list of actions. Parameters that are not listed here are those of AgentOptions.

    Args:
        obs_space: observation name -> something with a `shape`.
        rl2_space: has shape (1 + A,), the previous reward and action.
        action_space: has n = A.
    """

    critics_class = NCritics
    critics: NCritics

    def __init__(
        self,
        obs_space: Mapping[str, HasShape],
        rl2_space: HasShape,
        action_space: HasN,
        max_seq_len: int,
        tstep_encoder_type: Callable[..., nn.Module],
        traj_encoder_type: Callable[..., nn.Module],
        num_critics: int = 4,
        num_critics_td: int = 2,
        online_coeff: float = 1.0,
        offline_coeff: float = 0.1,
        gamma: float = 0.999,
        reward_multiplier: float = 10.0,
        tau: float = 0.003,
        fake_filter: bool = False,
        num_actions_for_value_in_critic_loss: int = 1,
        num_actions_for_value_in_actor_loss: int = 1,
        fbc_filter_func: Callable[..., Tensor] | BatchFilter = binary_filter,
        popart: bool = True,
        use_target_actor: bool = True,
        use_multigamma: bool = True,
        actor_type: Callable[..., ActorHead] = Actor,
        critic_type: Callable[..., NCritics | NCriticsTwoHot] = NCritics,
        pass_obs_keys_to_actor: Iterable[str] | None = None,
        critic_loss_weight: float = 10.0,
        n_step: int = 1,
        *,
        lambda_return: float | None = None,
        advantage: AdvantageFrom = "critic",
        baseline: Baseline = "policy",
        critics_train_trunk: bool = True,
        critic_warmup_updates: int = 0,
        critic_warmup: WarmupOf = "imitate",
        amago_version: AmagoVersion = "3.3",
        popart_type: Callable[..., PopArtLayer] = PopArtLayer,
        multigammas_type: Callable[[], Multigammas] = Multigammas,
    ) -> None:
        super().__init__(obs_space, rl2_space, action_space, AgentOptions.of("Agent", locals()))

    @torch.no_grad()
    def values_of_actions(self, state: Tensor) -> Tensor:
        """Of every action in every state (B, T, state_dim), (B, T, A); see ActorCriticAgent."""
        each = self._recorded_actions(torch.eye(self.action_dim, device=state.device))[:, None, None, None]
        values = self._in_returns(self.critics(state, each))  # (A, B, T, C, G, 1)
        return values[:, :, :, :, -1, 0].mean(3).movedim(0, -1)

    def _next_values(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        values = self.target_critics(state[:, 1:], policy.probs[None, :, 1:])[0]  # (B, L, C, G, 1)
        values = values.take_along_dim(self._critic_subset(state, draws), dim=2)
        returns: Tensor = self.popart(values, normalized=False)
        return returns

    def _critic_view(self, state: Tensor, actions: Tensor, td_target: Tensor) -> CriticView:
        shown = self._recorded_actions(actions)[None, :, :, None]  # (1, B, L, 1, A): one action for all discounts
        return self._view_of(self.critics, state, shown, td_target)

    def _view_of(self, critics: Any, state: Tensor, shown: Tensor, td_target: Tensor) -> CriticView:
        values = critics(state[:, :-1], shown)[0]  # (B, L, C, G, 1)
        loss = (self.popart(values) - self.popart.normalize_values(td_target)).square()
        return CriticView(loss, values.detach().mean(2))

    def _critic_advantage(
        self, critic: CriticView, state: Tensor, actions: Tensor, policy: ActionDistribution, draws: Draws
    ) -> Tensor:
        return critic.value - self._policy_value(state, policy, draws)[:, :-1]

    def _policy_value(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        return self._own_values(state, policy).mean(2)

    def _online_value(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        value: Tensor = self.popart(self._own_values(state, policy).amin(2))
        return value

    def _own_values(self, state: Tensor, policy: ActionDistribution) -> Tensor:
        """Of the policy's actions, (B, T, C, G, 1) in the critics' scale."""
        values: Tensor = self.maximized_critics(state.detach(), policy.probs[None])[0]
        return values

    def _in_returns(self, value: Tensor) -> Tensor:
        returns: Tensor = self.popart(value, normalized=False)
        return returns


def _and_again(actions: Tensor) -> Tensor:
    """Actions (B, L, A) and the last once more, (B, T, A): what a filter hears of the last state, as in AMAGO."""
    return torch.cat((actions, actions[:, -1:]), dim=1)
