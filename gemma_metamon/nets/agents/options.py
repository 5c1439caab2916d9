"""What an agent is told, refused on construction where it cannot work."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.interface import Multigammas
from gemma_metamon.nets.checks import FLAG, PART, SHARE, TEXT, check, each, number, one_of, whole
from gemma_metamon.nets.heads.actors import ActorHead
from gemma_metamon.nets.heads.batch_filters import BatchFilter
from gemma_metamon.nets.heads.critics import AmagoVersion, NCritics, NCriticsTwoHot
from gemma_metamon.nets.heads.popart import PopArtLayer

_RULES: Final = {
    "num_critics": whole(1, 1000),
    "num_critics_td": whole(1, 1000),
    "online_coeff": number(0, 1e6),
    "offline_coeff": number(0, 1e6),
    "gamma": SHARE,
    "reward_multiplier": number(0, 1e6, above=True),
    "tau": SHARE,
    "fake_filter": FLAG,
    "num_actions_for_value_in_critic_loss": whole(1, 10_000),
    "num_actions_for_value_in_actor_loss": whole(1, 10_000),
    "fbc_filter_func": PART,
    "popart": FLAG,
    "use_target_actor": FLAG,
    "use_multigamma": FLAG,
    "actor_type": PART,
    "critic_type": PART,
    "pass_obs_keys_to_actor": each(TEXT, most=100).or_none(),
    "critic_loss_weight": number(0, 1e6),
    "n_step": whole(1, 10_000),
    "amago_version": one_of(*get_args(AmagoVersion)),
}


@dataclass(frozen=True, kw_only=True)
class AgentOptions:
    """The parameters that `Agent` and `MultiTaskAgent` have in common. Their defaults are there: they differ.

    Shapes: as of ActorCriticAgent.

    Args:
        owner: the name under which gin binds the others; refusals begin with it.
        tstep_encoder_type: called with obs_space and rl2_space; has emb_dim, maps (obs, rl2s) to (B, T, emb_dim).
        traj_encoder_type: called with tstep_dim and max_seq_len; see TformerTrajEncoder.
        max_seq_len: timesteps that a decision can look at.
        num_critics: C.
        num_critics_td: how many of the C, drawn at random with replacement, make a TD target: their mean, or with the
            online term their minimum.
        online_coeff: weight of the term that raises the critics' value of the policy's own actions.
        offline_coeff: weight of filtered behaviour cloning. With both weights 0 the critics learn alone, on the states
            of a policy that is frozen: see `trains_critics_alone`.
        gamma: the discount that acts.
        reward_multiplier: scale of rewards, in the losses only.
        tau: share of the online networks that the targets take over per update.
        fake_filter: imitate every action with weight 1. Without the online term no critic is trained or even called;
            they exist all the same, so that checkpoints fit.
        num_actions_for_value_in_critic_loss: K of the TD target.
        num_actions_for_value_in_actor_loss: K of the advantage and of the online term.
        fbc_filter_func: advantages -> weights of behaviour cloning, or a BatchFilter.
        popart: keep statistics of the returns and normalise by them.
        use_target_actor: take the TD target's actions from the slow actor.
        use_multigamma: learn for the discounts of Multigammas too.
        actor_type: see Actor.
        critic_type: see NCriticsTwoHot and NCritics.
        pass_obs_keys_to_actor: observations that the actor sees itself; a masked actor needs "illegal_actions".
        critic_loss_weight: for whoever adds the losses up; nothing here reads it.
        n_step: rewards in a TD target before the critics take over.
        amago_version: see ActorCriticAgent.
        popart_type: makes the PopArtLayer.
        multigammas_type: makes the list of discounts.

    Raises:
        ConfigError: for values that cannot work, or that contradict each other, named with what they should be.
    """

    owner: str
    tstep_encoder_type: Callable[..., nn.Module]
    traj_encoder_type: Callable[..., nn.Module]
    max_seq_len: int
    num_critics: int
    num_critics_td: int
    online_coeff: float
    offline_coeff: float
    gamma: float
    reward_multiplier: float
    tau: float
    fake_filter: bool
    num_actions_for_value_in_critic_loss: int
    num_actions_for_value_in_actor_loss: int
    fbc_filter_func: Callable[..., Tensor] | BatchFilter
    popart: bool
    use_target_actor: bool
    use_multigamma: bool
    actor_type: Callable[..., ActorHead]
    critic_type: Callable[..., NCritics | NCriticsTwoHot]
    pass_obs_keys_to_actor: Iterable[str] | None
    critic_loss_weight: float
    n_step: int
    amago_version: AmagoVersion
    popart_type: Callable[..., PopArtLayer]
    multigammas_type: Callable[[], Multigammas]

    def __post_init__(self) -> None:
        check(self.owner, vars(self), _RULES)
        _require(
            not self.fake_filter or self.offline_coeff > 0,
            "fake_filter is True, which imitates every action, but offline_coeff, the weight of imitation, is 0; "
            "set one of them otherwise",
        )
        _require(
            self.num_critics_td <= self.num_critics,
            f"num_critics_td ({self.num_critics_td}) must not be above num_critics ({self.num_critics})",
        )
        _require(
            self.amago_version != "3.1" or self.n_step == 1,
            f'n_step ({self.n_step}) must be 1 with amago_version "3.1", which has no longer targets',
        )
        _try_filter(self.owner, self.fbc_filter_func)

    @classmethod
    def of(cls, owner: str, arguments: Mapping[str, Any]) -> "AgentOptions":
        """Of an agent's arguments, `locals()` in its constructor, those that are options."""
        return cls(owner=owner, **{field.name: arguments[field.name] for field in fields(cls) if field.name != "owner"})

    def check_critics(self, wanted: type) -> None:
        """Raise ConfigError for critics that the agent does not learn with."""
        made = getattr(self.critic_type, "func", self.critic_type)  # of a functools.partial
        if inspect.isclass(made) and not issubclass(made, wanted):
            raise ConfigError(
                f"critic_type is {made.__name__}, but {self.owner} learns with {wanted.__name__}; "
                f"set {self.owner}.critic_type = @actor_critic.{wanted.__name__}"
            )


def _try_filter(owner: str, fbc_filter_func: Callable[..., Tensor] | BatchFilter) -> None:
    """So that its values are checked now, and not in the first update. Raises ConfigError for what is no filter."""
    if isinstance(fbc_filter_func, BatchFilter):  # has checked them when it was made
        return
    weights: object = fbc_filter_func(torch.zeros(1, 1))
    if not isinstance(weights, Tensor):
        raise ConfigError(
            f"{owner}.fbc_filter_func makes {type(weights).__name__} of advantages, not weights; "
            "set it to @binary_filter, @exp_filter or @leaky_relu_filter, or to a filter that is made, with ()"
        )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
