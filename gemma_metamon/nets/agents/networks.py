"""What both agents are made of: encoders, actor, critics and their slow copies, and how they act and judge.

What they learn from is base.py's. No optimizer here.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.copies import plain_state
from gemma_metamon.nets.agents.interface import Encoded
from gemma_metamon.nets.agents.options import AgentOptions
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.heads.actors import ActionDistribution, avoidable_actions
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot
from gemma_metamon.nets.spaces import HasN, HasShape
from gemma_metamon.nets.trajectory.kv_cache import KVCache
from gemma_metamon.strict_json import shown

STATE_CRITICS: Final = "state_critics."
"""Of what learns beside AMAGO's networks, and nobody needs to play."""


class ActorCriticNetworks(nn.Module):
    """Encoders, an actor, an ensemble of critics over several discounts, and the slow copies of both.

    Shapes: as of ActorCriticAgent.

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
        self.fbc_filter_func = options.fbc_filter_func  # a BatchFilter is a module of the agent
        self.pass_obs_keys_to_actor = tuple(options.pass_obs_keys_to_actor or ())

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
        if options.baseline == "state":  # made last: the rest begins as it would without them
            judged = {"state_dim": tstep_dim, "action_dim": 1, "num_critics": options.num_critics}
            self.state_critics = self._build_critics(head | judged)
        if self.actor.mask_illegal_actions and "illegal_actions" not in self.pass_obs_keys_to_actor:
            raise ConfigError(
                f"{type(self.actor).__name__}.mask_illegal_actions is True, but pass_obs_keys_to_actor is "
                f"{list(self.pass_obs_keys_to_actor)}; put 'illegal_actions' in it, or set mask_illegal_actions = False"
            )

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
        of_states = (self.state_critics,) if self.options.baseline == "state" else ()
        return [
            parameter for part in (*parts, *of_states) for parameter in part.parameters() if parameter.requires_grad
        ]

    def train(self, mode: bool = True) -> "ActorCriticNetworks":
        """As nn.Module.train; where the critics learn alone, the parts of the policy stay in eval mode."""
        super().train(mode)
        if self.trains_critics_alone:
            for part in self._policy_parts():
                part.eval()
        return self

    def starting_state(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state that this agent begins with where it begins with what another run has saved.

        Critics of states that the other had not learnt begin anew; those that this one has no use for are left out.
        """
        entries = {key: value for key, value in plain_state(saved).items() if not key.startswith(STATE_CRITICS)}
        if self.options.baseline == "state":
            known = {key: value for key, value in saved.items() if key.startswith(STATE_CRITICS)}
            entries |= known or {STATE_CRITICS + key: value for key, value in self.state_critics.state_dict().items()}
        return entries

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
        _, state = self.encode(batch)
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

        Raises:
            ConfigError: a temperature that is not positive.
        """
        actions, probs, _ = self.act_from(
            obs, rl2s, time_idxs, cache, rows, sample=sample, temperature=temperature, generator=generator
        )
        return actions, probs

    @torch.no_grad()
    def act_from(
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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `act`, and the states (n, 1, state_dim) that it decides from, for `values_of_actions`. Raises as `act`."""
        if temperature <= 0:
            raise ConfigError(f"temperature ({temperature}) must be positive; for the best action use sample=False")
        tstep_encoder, traj_encoder, actor = self._acting_parts()
        tsteps = tstep_encoder(obs, rl2s)  # (n, 1, tstep_dim)
        state = cast("Any", traj_encoder).step(tsteps[:, 0], time_idxs[:, 0], cache, rows)[:, None]  # (n, 1, state_dim)
        policy: ActionDistribution = actor(state, self._actor_obs(obs))
        logits = policy.logits[:, 0, -1] / temperature  # (n, A)
        if "illegal_actions" in obs:
            logits = logits.masked_fill(avoidable_actions(obs["illegal_actions"][:, 0]), -torch.inf)
        probs = logits.softmax(-1)
        if sample:
            return torch.multinomial(probs, 1, generator=generator)[:, 0], probs, state
        return probs.argmax(-1), probs, state

    def values_of_actions(self, state: Tensor) -> Tensor:
        """What the critics expect of every action, their mean: states (B, T, state_dim) -> (B, T, A).

        In multiplied reward, under the discount that acts. Actions are shown to the critics as recorded ones are.
        """
        raise NotImplementedError

    def encode(self, batch: Batch) -> Encoded:
        """Whole trajectories."""
        tsteps = self.tstep_encoder(batch.obs, batch.rl2s)
        return Encoded(tsteps, self.traj_encoder(tsteps, batch.time_idxs))

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

    def _recorded_actions(self, actions: Tensor) -> Tensor:
        """As the critics are shown them."""
        return actions if self.options.amago_version == "3.1" else self.actor.policy_dist.clip(actions)
