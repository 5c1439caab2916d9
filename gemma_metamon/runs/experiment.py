"""What gin sets of a run: which agent from which parts, and how it is optimised. Knows no files and no loop."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from gemma_metamon.battle.rewards import RewardFunction
from gemma_metamon.configs.names import EXPERIMENT, bindings_of, configurable, inherited_bindings
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.agents.base import ActorCriticAgent
from gemma_metamon.nets.checks import FLAG, PART, SEQUENCE, SHARE, check, number, one_of, whole
from gemma_metamon.nets.heads.critics import NCriticsTwoHot
from gemma_metamon.nets.heads.lm_actor import LMActor, LMTrajEncoder, require_together
from gemma_metamon.nets.timestep import TimestepEncoder
from gemma_metamon.nets.trajectory.traj_encoder import TformerTrajEncoder
from gemma_metamon.runs.sizes import require_memory, require_size
from gemma_metamon.view import BattleView

_RULES = {
    "agent_type": PART,
    "tstep_encoder_type": PART,
    "traj_encoder_type": PART,
    "max_seq_len": SEQUENCE,
    "learning_rate": number(0, 1, above=True),
    "lr_warmup_steps": whole(0, 1_000_000_000),
    "lr_decay_updates": whole(1, 1_000_000_000).or_none(),
    "l2_coeff": SHARE,
    "grad_clip": number(0, 1e6, above=True),
    "critic_loss_weight": number(0, 1e6).or_none(),
    "best_share": number(0, 1, above=True).or_none(),
    "best_after_epoch": whole(1, 1_000_000),
    "mixed_precision": one_of("no", "bf16").saying("in float16 Gemma 3 overflows"),
    "tf32": FLAG,
}


LEAST_RATE_SHARE = 0.02
"""What is left of the learning rate after lr_decay_updates."""

MADE_BY_NAME = POPART, MULTIGAMMAS = "PopArtLayer", "Multigammas"
"""What every agent has without a config that binds it."""


class Space(NamedTuple):
    """The shape of one timestep of an input, as gym's spaces have it."""

    shape: tuple[int, ...]


class Experiment:
    """`MetamonAMAGOExperiment` of the embedded runtime. Parameters have upstream's names and defaults.

    Args:
        agent_type: builds the agent; MultiTaskAgent or Agent.
        tstep_encoder_type: builds what makes one vector of a timestep; GemmaTstepEncoder or another TimestepEncoder.
        traj_encoder_type: builds what reads the timesteps in order; TformerTrajEncoder or LMTrajEncoder.
        max_seq_len: the most decisions of a training window, and of the memory when acting.
        learning_rate: of AdamW, after the warm-up.
        lr_warmup_steps: updates over which the learning rate rises linearly from 0; the first update has rate 0.
        lr_decay_updates: the run's update by which the learning rate has fallen to a fiftieth, in a straight line from
            the end of the warm-up; it stays there. The last updates then hardly move the weights, and average what the
            ones before them overshot. None: it does not fall, as upstream's.
        l2_coeff: AdamW's decoupled weight decay.
        grad_clip: the largest norm of all gradients together.
        critic_loss_weight: the loss is actor loss + critic_loss_weight * critic loss. None takes the agent's parameter
            of that name, where AMAGO 3.3 has it.
        best_share: from best_after_epoch on, train on this share of the battles alone: those that the critics, as they
            are then, call best played (`training.ranking` says how). Over
            players of different strength it wants the agent's `baseline = "state"`. None trains on all battles.
        best_after_epoch: the epoch after which battles are ranked, once; until then critics learn of all of them.
        mixed_precision: "bf16" lets Accelerate run matrix products in bfloat16 (autocast) while it trains, a float32
            Gemma's too; weights, optimizer, returns and losses stay float32. Playing and the agreement with held-out
            battles do not use it. In float16 Gemma 3 overflows.
        tf32: on CUDA, multiply float32 matrices with ten bits of mantissa (TensorFloat-32), for the whole process;
            elsewhere without effect.

    Raises:
        ConfigError: a part that no config sets, or a number out of its range.
    """

    def __init__(
        self,
        agent_type: Callable[..., ActorCriticAgent] | None = None,
        tstep_encoder_type: Callable[..., TimestepEncoder] | None = None,
        traj_encoder_type: Callable[..., TformerTrajEncoder | LMTrajEncoder] | None = None,
        max_seq_len: int | None = None,
        learning_rate: float = 1e-4,
        lr_warmup_steps: int = 500,
        lr_decay_updates: int | None = None,
        l2_coeff: float = 1e-3,
        grad_clip: float = 1.0,
        critic_loss_weight: float | None = None,
        best_share: float | None = None,
        best_after_epoch: int = 1,
        mixed_precision: Literal["no", "bf16"] = "no",
        tf32: bool = False,
    ) -> None:
        if agent_type is None or tstep_encoder_type is None or traj_encoder_type is None or max_seq_len is None:
            raise ConfigError(
                "MetamonAMAGOExperiment.agent_type, tstep_encoder_type, traj_encoder_type and max_seq_len must all be "
                "set; start from a packaged model config (`gemma-metamon configs list`)"
            )
        check("MetamonAMAGOExperiment", locals(), _RULES)
        if lr_decay_updates is not None and lr_decay_updates <= lr_warmup_steps:
            raise ConfigError(
                f"MetamonAMAGOExperiment.lr_decay_updates is {lr_decay_updates}, but the learning rate rises until "
                f"lr_warmup_steps, {lr_warmup_steps}; set a later update, best the run's last one"
            )
        self.agent_type = agent_type
        self.tstep_encoder_type = tstep_encoder_type
        self.traj_encoder_type = traj_encoder_type
        self.max_seq_len = max_seq_len
        self.learning_rate = learning_rate
        self.lr_warmup_steps = lr_warmup_steps
        self.lr_decay_updates = lr_decay_updates
        self.l2_coeff = l2_coeff
        self.grad_clip = grad_clip
        self.critic_loss_weight = critic_loss_weight
        self.best_share = best_share
        self.best_after_epoch = best_after_epoch
        self.mixed_precision = mixed_precision
        self.tf32 = tf32

    def build_agent(self, view: BattleView) -> nn.Module:
        """The agent for what `view` shows, with the random or pretrained weights its config asks for.

        Under `torch.device("meta")` no weight is made; elsewhere the agent is made there first, to be refused where
        this machine cannot hold it.

        Raises ConfigError for values that cannot work, or contradict each other, or make an agent that is too large.
        """
        if torch.get_default_device().type != "meta":
            with torch.device("meta"):
                require_memory(self._build_parts(view))
        return self._build_parts(view)

    def _build_parts(self, view: BattleView) -> ActorCriticAgent:
        n_actions = view.action_space.n
        agent: ActorCriticAgent = self.agent_type(
            **inherited_bindings(self.agent_type),
            obs_space=obs_spaces(view),
            rl2_space=Space((1 + n_actions,)),
            action_space=view.action_space,
            max_seq_len=self.max_seq_len,
            tstep_encoder_type=functools.partial(
                self.tstep_encoder_type, vocabulary=view.vocabulary.words, observation_space=view.obs_space.name
            ),
            traj_encoder_type=self.traj_encoder_type,
            # upstream's agents make these two by themselves; through gin, so that bindings reach them
            popart_type=configurable(POPART),
            multigammas_type=configurable(MULTIGAMMAS),
        )
        require_together(
            type(agent).__name__,
            encoder=getattr(agent.tstep_encoder, "action_texts", None) is not None,
            traj_encoder=isinstance(agent.traj_encoder, LMTrajEncoder),
            actor=isinstance(agent.actor, LMActor),
        )
        require_size(agent)
        agent.require_observations(obs_spaces(view))
        agents_own = bindings_of(agent.options.owner).get("critic_loss_weight")
        if agents_own is not None and self.critic_loss_weight not in (None, agents_own):
            raise ConfigError(
                f"MetamonAMAGOExperiment.critic_loss_weight is {self.critic_loss_weight}, but "
                f"{agent.options.owner}.critic_loss_weight is {agents_own}; set one of them"
            )
        if self.best_share is not None and not agent.uses_critics:
            raise ConfigError(
                f"MetamonAMAGOExperiment.best_share is {self.best_share}, but with {agent.options.owner}.fake_filter "
                "no critics learn that could rank the battles; use recommended_rl.gin, or set best_share = None"
            )
        if agent.trains_critics_alone and self._critic_weight(agent) == 0:
            raise ConfigError(
                f"{agent.options.owner}.online_coeff, offline_coeff and critic_loss_weight are all 0: nothing would "
                "be learned; set one of them"
            )
        return agent

    def _critic_weight(self, agent: Any) -> float:
        weight: float = agent.options.critic_loss_weight if self.critic_loss_weight is None else self.critic_loss_weight
        return weight

    def total_loss(self, agent: Any, actor_loss: Tensor, critic_loss: Tensor) -> Tensor:
        """actor_loss + critic_loss_weight * critic_loss, scalars."""
        return actor_loss + self._critic_weight(agent) * critic_loss

    def describe_precision(self, device: str) -> str:
        """What to add to a line on how Gemma reads; nothing where float32 is multiplied as float32."""
        said = "; training multiplies in bfloat16 (autocast)" if self.mixed_precision == "bf16" else ""
        return said + ("; float32 is multiplied as TF32" if self.tf32 and device == "cuda" else "")

    def build_optimizer(self, agent: Any) -> torch.optim.AdamW:
        """AdamW over what trains, at the full learning rate; see `learning_rate_factor`."""
        return torch.optim.AdamW(
            agent.trainable_parameters(), lr=self.learning_rate, betas=(0.9, 0.999), weight_decay=self.l2_coeff
        )

    def learning_rate_factor(self, update: int) -> float:
        """The share of learning_rate that update number `update` (from 0) has."""
        if update < self.lr_warmup_steps:
            return update / self.lr_warmup_steps
        if self.lr_decay_updates is None:
            return 1.0
        left = (self.lr_decay_updates - update) / (self.lr_decay_updates - self.lr_warmup_steps)
        return max(left, LEAST_RATE_SHARE)


def build_without_weights(view: BattleView) -> nn.Module:
    """The agent that the loaded configuration builds for `view`, on torch's meta device: no memory, no download.

    Every part checks its own values, so raises ConfigError as `Experiment.build_agent` does, in a fraction of a second.
    """
    with torch.device("meta"):
        agent: nn.Module = configurable(EXPERIMENT)().build_agent(view)
    return agent


def obs_spaces(view: BattleView) -> Mapping[str, Space]:
    """The shapes of what a timestep encoder reads of one timestep, by upstream's names."""
    return {
        "numbers": Space((view.obs_space.n_numbers,)),
        "text_tokens": Space((view.obs_space.n_words,)),
        "illegal_actions": Space((view.action_space.n,)),
    }


def returns_beyond_bins(agent: Any, reward_function: RewardFunction) -> str | None:
    """A warning, with the numbers and the mend, where a battle's result is a return that no bin of the critics holds.

    Such returns all get the label of the last bin, so the critics cannot tell them apart. None where all fit, and for
    an agent whose critics have no bins or learn nothing.
    """
    if not (isinstance(agent.critics, NCriticsTwoHot) and agent.uses_critics):
        return None
    bins, multiplier = agent.critics.bins, agent.options.reward_multiplier
    results = {"win": reward_function.win_reward, "loss": reward_function.loss_reward}
    beyond = [
        f"{reward:g} for a {result} x reward_multiplier {multiplier:g} = {reward * multiplier:g}"
        for result, reward in results.items()
        if not bins.min_return <= reward * multiplier <= bins.max_return
    ]
    if not beyond:
        return None
    farthest = max(abs(reward) for reward in results.values())
    nearest_bound = min(abs(bins.min_return), abs(bins.max_return))
    return (
        f"{reward_function.name} pays {' and '.join(beyond)}, beyond the critics' bins of {bins.min_return:g} to "
        f"{bins.max_return:g}: critics cannot tell such returns apart. Widen them "
        f"(actor_critic.NCriticsTwoHot.min_return = {-1.1 * farthest * multiplier:g}, max_return = "
        f"{1.1 * farthest * multiplier:g}), or set {agent.options.owner}.reward_multiplier = "
        f"{nearest_bound / (1.1 * farthest):.3g}"
    )
