"""What both agents learn from: the critics' targets, the filter over recorded actions, and the losses.

No optimizer here: `forward` gives losses, `update_targets` moves the slow copies, the training loop does the rest.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.agents.interface import AgentLosses, CriticView, Encoded, RecordedActions, policy_stats
from gemma_metamon.nets.agents.networks import ActorCriticNetworks
from gemma_metamon.nets.agents.options import AgentOptions
from gemma_metamon.nets.batch import Batch, actions_to_imitate, countable_actions, padded_timesteps
from gemma_metamon.nets.heads.actors import ActionDistribution
from gemma_metamon.nets.heads.batch_filters import AboutBatch, BatchFilter, Weighed
from gemma_metamon.nets.heads.returns import lambda_return, nstep_return
from gemma_metamon.nets.layers import masked_mean
from gemma_metamon.nets.spaces import HasN, HasShape


class ActorCriticAgent(ActorCriticNetworks):
    """Filtered behaviour cloning with an ensemble of critics over several discounts; subclasses say what critics are.

    Shapes: B battles, L recorded actions, T = L + 1 timesteps, K sampled actions, C critics, G discounts (the last one
    acts), A actions.

    AMAGO 3.3 and 3.1 differ, and `amago_version` says which one to equal. "3.1": recorded actions enter the critics as
    hard one-hots (3.3 softens them as the policy's probabilities are); the bin probabilities of NCriticsTwoHot are
    clipped; a min_return or max_return of 0 means "not given"; leaky_relu_filter has no binary term; n_step is 1.

    Two things in both versions look like accidents, and their numbers depend on them. (1) Upstream moves the targets
    before the optimizer's step, so they follow parameters one update old; whoever calls `update_targets` decides
    (before `optimizer.step()` to equal AMAGO). (2) With online_coeff > 0 the gradients of `maximized_critics`, which no
    optimizer holds, are never zeroed: they add up over the run and count in the clipped norm. "3.1" gives them
    gradients, as upstream does; "3.3" does not, unless `agent.maximized_critics.requires_grad_(True)` is called.

    Args:
        obs_space: observation name -> something with a `shape`.
        rl2_space: has shape (1 + A,), the previous reward and action.
        action_space: has n = A.
        options: what gin binds, see AgentOptions.

    Raises:
        ConfigError: for values that cannot work, or that contradict each other, named with what they should be.
    """

    def __init__(
        self,
        obs_space: Mapping[str, HasShape],
        rl2_space: HasShape,
        action_space: HasN,
        options: AgentOptions,
    ) -> None:
        super().__init__(obs_space, rl2_space, action_space, options)
        filter_ = self.fbc_filter_func
        parameters = () if isinstance(filter_, BatchFilter) else inspect.signature(filter_).parameters
        old_leaky_filter = options.amago_version == "3.1" and "add_binary" in parameters
        self._filter_options = {"add_binary": False} if old_leaky_filter else {}

    @property
    def uses_critics(self) -> bool:
        """Whether anything that the actor learns from needs a critic."""
        return not self.options.fake_filter or self.options.online_coeff > 0

    def filter_memory(self) -> dict[str, Tensor]:
        """What the filter remembers of earlier batches, by name; nothing for most filters, and in no state_dict.

        Where a filter is not applied from the first update on, `updates_made` is in it, too.
        """
        filter_ = self.fbc_filter_func
        memory = dict(filter_.named_buffers()) if isinstance(filter_, BatchFilter) else {}
        return memory | ({"updates_made": self.updates_made} if self.options.critic_warmup_updates else {})

    def forward(self, batch: Batch, draws: Draws | None = None) -> AgentLosses:
        """The losses of one batch. In training mode PopArt's statistics and the sigma buffers move, too.

        Args:
            batch: see Batch; L + 1 may be anything, usually max_seq_len + 1.
            draws: the random draws; torch's own by default.
        """
        return self._losses(batch, self._about(batch), Draws() if draws is None else draws)

    def _losses(self, batch: Batch, about: AboutBatch, draws: Draws) -> AgentLosses:
        actor_obs = self._actor_obs(batch.obs)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.trains_critics_alone):
            encoded = self.encode(batch)
            policy = self._policy(self.actor, encoded.state, actor_obs)  # (B, T, G, A)
        # a padded action becomes all ones; what is computed there counts nowhere
        actions = batch.actions.clamp(0.0, 1.0)  # (B, L, A)
        counted = countable_actions(batch)[..., None, None]  # (B, L, 1, 1)

        critic: CriticView | None = None
        stats: dict[str, Tensor] = {}
        if self.uses_critics:
            td_target = self._td_target(batch, encoded, actor_obs, policy, draws)
            critic = self._judge(encoded, actions, td_target)
            stats["td_target_mean"] = masked_mean(td_target[:, :, 0], counted)
            stats["q_mean"] = masked_mean(self._in_returns(critic.value)[:, : actions.shape[1]], counted)

        actor_loss = torch.zeros_like(policy.logits[:, :-1, :, :1])  # (B, L, G, 1)
        if self.options.offline_coeff > 0:
            weights = torch.ones_like(actor_loss)
            if critic is not None and not self.options.fake_filter:
                advantage, weights, filter_stats = self._filter_recorded(
                    critic, td_target, encoded.state, actions, policy, about, draws
                )
                weights = self._after_warmup(weights, 1.0)
                stats |= filter_stats
                stats["advantage_mean"] = masked_mean(advantage, counted)
                stats["filter_mean"] = masked_mean(weights, counted)
                stats["filter_share"] = masked_mean((advantage > 0).float(), counted)
            imitated, labelled = actions_to_imitate(batch)
            weights = weights.masked_fill(labelled[..., None, None], 1.0)  # the filter judges what was done instead
            # what is infinite on padding would make the gradient NaN there, and so everywhere
            weights = weights.where(counted | weights.isfinite(), 0.0)
            decided = ActionDistribution(policy.probs[:, :-1], policy.logits[:, :-1])  # not in the last state
            log_prob = decided.log_prob(imitated[..., None].expand(weights.shape[:-1]))  # (B, L, G)
            actor_loss = actor_loss - self.options.offline_coeff * weights * log_prob[..., None]
        if self.options.online_coeff > 0:
            online_value = self.options.online_coeff * self._online_value(encoded.state, policy, draws)[:, :-1]
            actor_loss = actor_loss - self._after_warmup(online_value, 0.0)
        if self.options.critic_warmup == "wait":
            actor_loss = self._after_warmup(actor_loss, 0.0)

        actor_loss = masked_mean(actor_loss, counted)
        critic_loss = actor_loss.new_zeros(()) if critic is None else masked_mean(critic.loss, counted[..., None])
        stats |= policy_stats(policy, batch, counted)
        return AgentLosses(actor_loss, critic_loss, {name: value.detach() for name, value in stats.items()})

    @torch.no_grad()
    def judge_recorded(self, batch: Batch, draws: Draws | None = None) -> RecordedActions:
        """What critics and filter say of the recorded actions, also in a warm-up.

        Under the discount that acts; call it in eval mode, in which no filter remembers what it sees.
        """
        draws = Draws() if draws is None else draws
        encoded, actor_obs, actions = self.encode(batch), self._actor_obs(batch.obs), batch.actions.clamp(0.0, 1.0)
        policy = self._policy(self.actor, encoded.state, actor_obs)
        td_target = self._td_target(batch, encoded, actor_obs, policy, draws)
        critic = self._judge(encoded, actions, td_target)
        advantage, weights, _ = self._filter_recorded(
            critic, td_target, encoded.state, actions, policy, self._about(batch), draws
        )
        worth = critic.value if self.options.advantage == "critic" else td_target[:, :, 0]
        return RecordedActions(*(x[:, : actions.shape[1], -1, 0] for x in (advantage, weights, worth)))

    def _next_values(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        """Returns from state[:, 1:] under `policy` (B, T, G, A), of slow critics drawn at random: (B, L, n, G, 1)."""
        raise NotImplementedError

    def _judge(self, encoded: Encoded, actions: Tensor, td_target: Tensor) -> CriticView:
        """What the critics say of the recorded actions (B, L, A), and where there are any, those of the state."""
        tsteps, state = encoded if self.options.critics_train_trunk else (x.detach() for x in encoded)
        critic = self._critic_view(state, actions, td_target)
        if self.options.baseline == "policy":
            return critic
        the_one_action = tsteps.new_ones(1, 1, 1, 1, 1)
        of_state = self._view_of(self.state_critics, tsteps, the_one_action, td_target)
        return CriticView(critic.loss + of_state.loss, critic.value, of_state.value)

    def _critic_view(self, state: Tensor, actions: Tensor, td_target: Tensor) -> CriticView:
        raise NotImplementedError

    def _view_of(self, critics: Any, state: Tensor, shown: Tensor, td_target: Tensor) -> CriticView:
        """What these critics say of states (B, T, D) and actions (1, B or 1, T or L or 1, G or 1, actions)."""
        raise NotImplementedError

    def _filter_recorded(
        self,
        critic: CriticView,
        td_target: Tensor,
        state: Tensor,
        actions: Tensor,
        policy: ActionDistribution,
        about: AboutBatch,
        draws: Draws,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Of the recorded actions the advantage and the filter's weight, (B, L, G, 1) each, and what to log of it."""
        advantage = self._advantage(critic, td_target, state, actions, policy, draws)
        weights, stats = self._weigh(advantage, about)
        # a last state is there for a filter that looks at all: nothing was chosen in it
        L = actions.shape[1]
        return advantage[:, :L], weights[:, :L], stats

    @torch.no_grad()
    def _advantage(
        self,
        critic: CriticView,
        td_target: Tensor,
        state: Tensor,
        actions: Tensor,
        policy: ActionDistribution,
        draws: Draws,
    ) -> Tensor:
        """How much better the recorded action is than the policy, (B, L, G, 1) or (B, T, G, 1), without gradient."""
        if self.options.advantage == "critic":
            if critic.of_state is not None:
                return critic.value - critic.of_state
            return self._critic_advantage(critic, state, actions, policy, draws)
        expected = self._policy_value(state, policy, draws) if critic.of_state is None else critic.of_state
        return td_target[:, :, 0] - self._in_returns(expected)[:, : td_target.shape[1]]

    def _critic_advantage(
        self, critic: CriticView, state: Tensor, actions: Tensor, policy: ActionDistribution, draws: Draws
    ) -> Tensor:
        """The critics' value of the recorded action less that of the policy, as many as `critic.value` has."""
        raise NotImplementedError

    def _policy_value(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        """What the critics expect of the policy, (B, T, G, 1) in their own scale, their mean."""
        raise NotImplementedError

    def _online_value(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        """Normalised value (B, T, G, 1) of what the policy would do; its gradient reaches the policy alone."""
        raise NotImplementedError

    def _in_returns(self, value: Tensor) -> Tensor:
        """Values (..., G, 1) in the critics' own scale as returns."""
        return value

    def _after_warmup(self, value: Tensor, before: float) -> Tensor:
        """The value, but `before` everywhere in the updates of critic_warmup_updates."""
        if not self.options.critic_warmup_updates:
            return value
        return torch.where(self.updates_made < self.options.critic_warmup_updates, before, value)

    def _weigh(self, advantage: Tensor, about: AboutBatch) -> Weighed:
        if isinstance(self.fbc_filter_func, BatchFilter):
            weighed: Weighed = self.fbc_filter_func(advantage, about)
            return weighed
        return Weighed(self.fbc_filter_func(advantage, **self._filter_options).float(), {})

    def _about(self, batch: Batch) -> AboutBatch:
        return AboutBatch.of(batch)

    @torch.no_grad()
    def _td_target(
        self,
        batch: Batch,
        encoded: Encoded,
        actor_obs: dict[str, Tensor],
        policy: ActionDistribution,
        draws: Draws,
    ) -> Tensor:
        """What the critics should give for the recorded actions, (B, L, 1, G, 1); in training PopArt learns it."""
        if self.options.use_target_actor:
            policy = self._policy(self.target_actor, encoded.state, actor_obs)
        chosen = self._next_values(encoded.state, policy, draws)  # (B, L, num_critics_td, G, 1)
        # with the online term the actor looks for the critics' errors: the minimum of a pair holds it back
        next_q = chosen.amin(2, keepdim=True) if self.options.online_coeff > 0 else chosen.mean(2, keepdim=True)
        real = ~padded_timesteps(batch.rl2s)[:, 1:, None, None, None]  # (B, L, 1, 1, 1)
        rewards = (self.options.reward_multiplier * batch.rewards.float())[:, :, None, None].expand_as(next_q)
        dones = batch.dones.float()[:, :, None, None].expand_as(next_q)
        recorded = rewards, dones, next_q, self.gammas[:, None]
        if self.options.lambda_return is None:
            target = nstep_return(*recorded, self.options.n_step, real.float())
        else:
            target = lambda_return(*recorded, self.options.lambda_return, real.float())
        if self.training:
            # missing actions count here: their rewards are real
            self.popart.update_stats(target, real.expand_as(target))
        return target

    def _critic_subset(self, state: Tensor, draws: Draws) -> Tensor:
        """Indices of the critics that make each TD target, (B, L, num_critics_td, G, 1)."""
        B, T, _ = state.shape
        shape = (B, T - 1, self.options.num_critics_td, len(self.gammas), 1)
        return draws.critic_subset(self.options.num_critics, shape, state.device)
