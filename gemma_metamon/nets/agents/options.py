"""What an agent is told, refused on construction where it cannot work."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.interface import AdvantageFrom, Baseline, Multigammas, WarmupOf
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
    "lambda_return": SHARE.or_none(),
    "advantage": one_of(*get_args(AdvantageFrom)),
    "baseline": one_of(*get_args(Baseline)),
    "critics_train_trunk": FLAG,
    "critic_warmup_updates": whole(0, 1_000_000_000),
    "critic_warmup": one_of(*get_args(WarmupOf)),
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
        lambda_return: mixes the targets of 1, 2, 3, ... steps, see `returns.lambda_return`: 0 is n_step = 1, and 1
            takes all rewards that are recorded (Monte Carlo). None takes n_step.
        advantage: what the filter weighs a recorded action a by. pi is the policy, Q the critics' mean.
            "critic": Q(s, a) - E_pi Q(s, .), as AMAGO does: it needs critics that tell actions apart.
            "target": G - E_pi Q(s, .), where G is the TD target of a: what really followed, over n_step rewards or
            mixed by lambda_return, less what was to be expected. It needs critics that tell states apart. With
            exp_filter this is advantage-weighted regression (Peng et al., 2019, arXiv 1910.00177) and MARWIL (Wang et
            al., 2018). In multiplied reward, also where critics have PopArt's scale.
        baseline: what the advantage is above. "policy": E_pi Q(s, .), as in AMAGO and in the equations of `advantage`.
            "state": V(s) of critics of its own, which learn the same targets from the timestep encoder's output alone:
            the return of whoever was recorded in such a state of the battle. The other critics read all that was done
            before, and so know who plays: among players of different strength an advantage over "policy" says whether
            this player could do better, one over "state" also whether this player is better than others. The targets
            are as they were.
        critics_train_trunk: let the critics' loss change the encoders. False: critics read the states and change
            nothing of them; the encoders learn from the actor's loss alone.
        critic_warmup_updates: so many updates at the beginning of a run in which no filter is applied, so that the
            critics have learnt something when one is.
        critic_warmup: what the actor does in these updates. "imitate": every recorded action counts in full, so that
            what the critics judge is the data's policy. "wait": its loss counts nothing; together with
            critics_train_trunk = False the policy stays as it is (but for weight decay).
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
    lambda_return: float | None
    advantage: AdvantageFrom
    baseline: Baseline
    critics_train_trunk: bool
    critic_warmup_updates: int
    critic_warmup: WarmupOf
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
        _require(
            self.amago_version != "3.1" or self.lambda_return is None,
            f'lambda_return ({self.lambda_return}) must be None with amago_version "3.1", which mixes no targets',
        )
        _require(
            self.lambda_return is None or self.n_step == 1,
            f"n_step is {self.n_step} and lambda_return is {self.lambda_return}, which exclude each other: a target "
            "has n_step rewards, or mixes all numbers of them; set n_step = 1, or lambda_return = None",
        )
        _require(
            self.critic_warmup_updates == 0 or self.offline_coeff > 0 or self.online_coeff > 0,
            f"critic_warmup_updates is {self.critic_warmup_updates}, but offline_coeff and online_coeff are 0: the "
            "critics learn alone from the first update to the last; set critic_warmup_updates = 0, or one of them",
        )
        _require(
            self.critic_warmup_updates == 0 or not self.fake_filter,
            f"critic_warmup_updates is {self.critic_warmup_updates}, but fake_filter is True: no filter is to come; "
            "set one of them otherwise",
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
