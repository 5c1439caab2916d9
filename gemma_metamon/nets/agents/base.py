"""What both agents are: the networks together, the losses that they learn from, and how they act.

No optimizer here: `forward` gives losses, `update_targets` moves the slow copies, the training loop does the rest.
"""

import copy
import inspect
from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.copies import plain_state
from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.agents.interface import (
    AgentLosses,
    CriticView,
    policy_stats,
)
from gemma_metamon.nets.agents.options import AgentOptions
from gemma_metamon.nets.batch import Batch, actions_to_imitate, countable_actions, padded_timesteps
from gemma_metamon.nets.heads.actors import ActionDistribution, avoidable_actions
from gemma_metamon.nets.heads.batch_filters import AboutBatch, BatchFilter, Weighed
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot
from gemma_metamon.nets.heads.returns import lambda_return, nstep_return
from gemma_metamon.nets.layers import masked_mean
from gemma_metamon.nets.spaces import HasN, HasShape
from gemma_metamon.nets.trajectory.kv_cache import KVCache
from gemma_metamon.strict_json import shown


class ActorCriticAgent(nn.Module):
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

    gammas: Tensor
    updates_made: Tensor
    critics_class: type[NCritics] | type[NCriticsTwoHot]
    """What critic_type must make."""

    def __init__(
        self,
        obs_space: Mapping[str, HasShape],
        rl2_space: HasShape,
        action_space: HasN,
        options: AgentOptions,
    ) -> None:
        super().__init__()
        options.check_critics(self.critics_class)
        self.options = options
        self.fbc_filter_func = fbc_filter_func = options.fbc_filter_func  # a BatchFilter is a module of the agent
        self.pass_obs_keys_to_actor = tuple(options.pass_obs_keys_to_actor or ())
        parameters = () if isinstance(fbc_filter_func, BatchFilter) else inspect.signature(fbc_filter_func).parameters
        old_leaky_filter = options.amago_version == "3.1" and "add_binary" in parameters
        self._filter_options = {"add_binary": False} if old_leaky_filter else {}

        gammas = [*(options.multigammas_type().discrete if options.use_multigamma else []), options.gamma]
        self.discounts = gammas
        self.register_buffer("gammas", torch.tensor(gammas), persistent=False)
        if options.critic_warmup_updates:
            self.register_buffer("updates_made", torch.zeros((), dtype=torch.int64), persistent=False)
        self.action_dim = int(action_space.n)
        self.tstep_encoder = options.tstep_encoder_type(obs_space=obs_space, rl2_space=rl2_space)
        tstep_dim = cast("int", self.tstep_encoder.emb_dim)
        self.traj_encoder = options.traj_encoder_type(tstep_dim=tstep_dim, max_seq_len=options.max_seq_len)
        state_dim = cast("int", self.traj_encoder.emb_dim)
        self.popart = options.popart_type(gammas=len(gammas), enabled=options.popart)
        head = {"state_dim": state_dim, "action_dim": self.action_dim, "discrete": True, "gammas": gammas}
        self.critics = self._build_critics({**head, "num_critics": options.num_critics})
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        learns_by_accident = options.online_coeff > 0 and options.amago_version == "3.1"
        self.maximized_critics = copy.deepcopy(self.critics).requires_grad_(learns_by_accident)
        self.actor = options.actor_type(**head)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        if self.actor.mask_illegal_actions and "illegal_actions" not in self.pass_obs_keys_to_actor:
            raise ConfigError(
                f"{type(self.actor).__name__}.mask_illegal_actions is True, but pass_obs_keys_to_actor is "
                f"{list(self.pass_obs_keys_to_actor)}; put 'illegal_actions' in it, or set mask_illegal_actions = False"
            )

    @property
    def uses_critics(self) -> bool:
        """Whether anything that the actor learns from needs a critic."""
        return not self.options.fake_filter or self.options.online_coeff > 0

    @property
    def trains_critics_alone(self) -> bool:
        """Whether the actor learns from nothing, so that the critics come to judge one policy that stays as it is.

        The states that they read stay, too: encoders and actor get no gradient, are not the optimizer's, and are in
        eval mode, without dropout and with the sigmas of their layers at rest. The slow actor moves on to the actor.
        """
        return self.options.online_coeff == 0 and self.options.offline_coeff == 0

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Those for the optimizer: encoders, critics, actor; never the slow copies, never what is frozen."""
        # checkpoints number the optimizer's moments in this order
        every = (self.tstep_encoder, self.traj_encoder, self.critics, self.actor)
        parts = (self.critics,) if self.trains_critics_alone else every
        return [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> "ActorCriticAgent":
        """As nn.Module.train; where the critics learn alone, the parts of the policy stay in eval mode."""
        super().train(mode)
        if self.trains_critics_alone:
            for part in self._policy_parts():
                part.eval()
        return self

    def filter_memory(self) -> dict[str, Tensor]:
        """What the filter remembers of earlier batches, by name; nothing for most filters, and in no state_dict.

        Where a filter is not applied from the first update on, `updates_made` is in it, too.
        """
        filter_ = self.fbc_filter_func
        memory = dict(filter_.named_buffers()) if isinstance(filter_, BatchFilter) else {}
        return memory | ({"updates_made": self.updates_made} if self.options.critic_warmup_updates else {})

    def starting_state(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state that this agent begins with where it begins with what another run has saved."""
        return plain_state(saved)

    def keep_what_acts(self) -> None:
        """Give up what is there for learning alone: `tstep_encoder`, `traj_encoder`, `actor` are now those that act."""

    @torch.no_grad()
    def update_targets(self) -> None:
        """Move the target networks by tau towards the online ones; the maximized critics become a copy.

        Once for each update. To equal AMAGO, call it after backward and before `optimizer.step()`.
        """
        if self.options.critic_warmup_updates:
            self.updates_made += 1
        for target, online in ((self.target_critics, self.critics), (self.target_actor, self.actor)):
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.lerp_(fast, self.options.tau)
        for copied, fast in zip(self.maximized_critics.parameters(), self.critics.parameters(), strict=True):
            copied.copy_(fast)

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
            tsteps = self.tstep_encoder(batch.obs, batch.rl2s)  # (B, T, tstep_dim)
            state = self.traj_encoder(tsteps, batch.time_idxs)  # (B, T, state_dim)
            policy = self._policy(self.actor, state, actor_obs)  # (B, T, G, A)
        # a padded action becomes all ones; what is computed there counts nowhere
        actions = batch.actions.clamp(0.0, 1.0)  # (B, L, A)
        counted = countable_actions(batch)[..., None, None]  # (B, L, 1, 1)

        critic: CriticView | None = None
        stats: dict[str, Tensor] = {}
        if self.uses_critics:
            td_target = self._td_target(batch, state, actor_obs, policy, draws)
            judged = state if self.options.critics_train_trunk else state.detach()
            critic = self._critic_view(judged, actions, td_target)
            stats["td_target_mean"] = masked_mean(td_target[:, :, 0], counted)
            stats["q_mean"] = masked_mean(self._in_returns(critic.value)[:, : actions.shape[1]], counted)

        actor_loss = torch.zeros_like(policy.logits[:, :-1, :, :1])  # (B, L, G, 1)
        if self.options.offline_coeff > 0:
            weights = torch.ones_like(actor_loss)
            if critic is not None and not self.options.fake_filter:
                advantage = self._advantage(critic, td_target, state, actions, policy, draws)
                weights, filter_stats = self._weigh(advantage, about)
                # a last state is there for a filter that looks at all: nothing was chosen in it
                weights, advantage = weights[:, : actions.shape[1]], advantage[:, : actions.shape[1]]
                weights = self._after_warmup(weights, 1.0)
                stats |= filter_stats
                stats["advantage_mean"] = masked_mean(advantage, counted)
                stats["filter_mean"] = masked_mean(weights, counted)
                stats["filter_share"] = masked_mean((advantage > 0).float(), counted)
            imitated, labelled = actions_to_imitate(batch)
            weights = weights.masked_fill(labelled[..., None, None], 1.0)  # the filter judges what was done instead
            decided = ActionDistribution(policy.probs[:, :-1], policy.logits[:, :-1])  # not in the last state
            log_prob = decided.log_prob(imitated[..., None].expand(weights.shape[:-1]))  # (B, L, G)
            actor_loss = actor_loss - self.options.offline_coeff * weights * log_prob[..., None]
        if self.options.online_coeff > 0:
            online_value = self.options.online_coeff * self._online_value(state, policy, draws)[:, :-1]
            actor_loss = actor_loss - self._after_warmup(online_value, 0.0)
        if self.options.critic_warmup == "wait":
            actor_loss = self._after_warmup(actor_loss, 0.0)

        actor_loss = masked_mean(actor_loss, counted)
        critic_loss = actor_loss.new_zeros(()) if critic is None else masked_mean(critic.loss, counted[..., None])
        stats |= policy_stats(policy, batch, counted)
        return AgentLosses(actor_loss, critic_loss, {name: value.detach() for name, value in stats.items()})

    @torch.no_grad()
    def action_probs(self, batch: Batch) -> Tensor:
        """The policy (B, T, A) of the discount that acts, over whole trajectories; illegal actions are masked."""
        tstep_encoder, traj_encoder, actor = self._acting_parts()
        tsteps = tstep_encoder(batch.obs, batch.rl2s)  # (B, T, tstep_dim)
        state = traj_encoder(tsteps, batch.time_idxs)  # (B, T, state_dim)
        policy: ActionDistribution = actor(state, self._actor_obs(batch.obs))
        return policy.probs[:, :, -1]

    @torch.no_grad()
    def judge_actions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Over whole trajectories the policy that learns, and `values_of_actions`: (B, T, A) each."""
        state = self.traj_encoder(self.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)  # (B, T, state_dim)
        policy = self._policy(self.actor, state, self._actor_obs(batch.obs))
        return policy.probs[:, :, -1], self.values_of_actions(state)

    @torch.no_grad()
    def act(
        self,
        obs: Mapping[str, Tensor],
        rl2s: Tensor,
        time_idxs: Tensor,
        cache: KVCache,
        rows: Tensor,
        *,
        sample: bool = False,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One decision in each of n battles, under the last discount; their rows of the cache advance.

        Args:
            obs: (n, 1, ...) each. Where it has `illegal_actions`, those get probability exactly 0 (unless all are).
            rl2s: (n, 1, 1 + A).
            time_idxs: (n, 1, 1) long.
            cache: of `traj_encoder.init_cache`.
            rows: (n,) long, all different, which rows of the cache these battles are.
            sample: draw the action; otherwise take the most probable.
            temperature: below 1 sharpens the distribution, above 1 flattens it.
            generator: for `sample`.

        Returns:
            Action indices (n,) long, and the probabilities (n, A) that they come from.
        """
        if temperature <= 0:
            raise ConfigError(f"temperature ({temperature}) must be positive; for the best action use sample=False")
        tstep_encoder, traj_encoder, actor = self._acting_parts()
        tsteps = tstep_encoder(obs, rl2s)  # (n, 1, tstep_dim)
        state = cast("Any", traj_encoder).step(tsteps[:, 0], time_idxs[:, 0], cache, rows)  # (n, state_dim)
        policy: ActionDistribution = actor(state[:, None], self._actor_obs(obs))
        logits = policy.logits[:, 0, -1] / temperature  # (n, A)
        if "illegal_actions" in obs:
            logits = logits.masked_fill(avoidable_actions(obs["illegal_actions"][:, 0]), -torch.inf)
        probs = logits.softmax(-1)
        if sample:
            return torch.multinomial(probs, 1, generator=generator)[:, 0], probs
        return probs.argmax(-1), probs

    def values_of_actions(self, state: Tensor) -> Tensor:
        """What the critics expect of every action, their mean: states (B, T, state_dim) -> (B, T, A).

        In multiplied reward, under the discount that acts. Actions are shown to the critics as recorded ones are.
        """
        raise NotImplementedError

    def _build_critics(self, head: dict[str, Any]) -> Any:
        return self.options.critic_type(**head)

    def _policy_parts(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """What learns to make a decision of an observation: timesteps, trajectory, actor."""
        return self.tstep_encoder, self.traj_encoder, self.actor

    def _acting_parts(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """What makes the decisions of `act` and `action_probs`."""
        return self._policy_parts()

    def _policy(self, actor: nn.Module, state: Tensor, actor_obs: dict[str, Tensor]) -> ActionDistribution:
        policy: ActionDistribution = actor(state, actor_obs)
        return policy

    def _next_values(self, state: Tensor, policy: ActionDistribution, draws: Draws) -> Tensor:
        """Returns from states[1:] under `policy` (B, T, G, A), of slow critics drawn at random -> (B, L, n, G, 1)."""
        raise NotImplementedError

    def _critic_view(self, state: Tensor, actions: Tensor, td_target: Tensor) -> CriticView:
        raise NotImplementedError

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
            return self._critic_advantage(critic, state, actions, policy, draws)
        value = self._in_returns(self._policy_value(state, policy, draws))
        return td_target[:, :, 0] - value[:, : td_target.shape[1]]

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

    def _actor_obs(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.require_observations(obs)
        return {key: obs[key] for key in self.pass_obs_keys_to_actor}

    def require_observations(self, there: Collection[str]) -> None:
        """Raise ConfigError where the actor is to see an observation that is not among these."""
        missing = [key for key in self.pass_obs_keys_to_actor if key not in there]
        if missing:
            raise ConfigError(
                f"{self.options.owner}.pass_obs_keys_to_actor names {shown(', '.join(missing))}, but the observations "
                f"are {', '.join(there)}"
            )

    @torch.no_grad()
    def _td_target(
        self, batch: Batch, state: Tensor, actor_obs: dict[str, Tensor], policy: ActionDistribution, draws: Draws
    ) -> Tensor:
        """What the critics should give for the recorded actions, (B, L, 1, G, 1); in training PopArt learns it."""
        if self.options.use_target_actor:
            policy = self._policy(self.target_actor, state, actor_obs)
        chosen = self._next_values(state, policy, draws)  # (B, L, num_critics_td, G, 1)
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

    def _recorded_actions(self, actions: Tensor) -> Tensor:
        """As the critics are shown them."""
        return actions if self.options.amago_version == "3.1" else self.actor.policy_dist.clip(actions)
