"""Reinforcement learning of answers, with TRL's GRPOTrainer: several answers to a prompt are compared by their rewards.

A group of answers is drawn for each prompt; each answer becomes the more probable, the more its reward is above the
group's mean (GRPO), without dividing by the group's spread or the answer's length ("dr_grpo"). What the run's folder
holds is told in `fine_tuning`; an epoch is `keep_every` updates here.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, get_args

import torch

from gemma_metamon.errors import ConfigError, DataError, MissingDependencyError
from gemma_metamon.language.chats import Chat, Example, encode, form_of
from gemma_metamon.language.fine_tuning import (
    FineTuning,
    Settings,
    find_model,
    require_place,
    told,
    write_description,
)
from gemma_metamon.language.held_out import ANSWER_SUBWORDS, REASONED_SUBWORDS, Measured
from gemma_metamon.language.models import DESCRIPTION, ChatModel, ModelPlan, build, load
from gemma_metamon.language.rewards import Reward, evaluate, find_rewards, require_applicable
from gemma_metamon.progress import progress_bar
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.training.tracking import Tracker

logger = logging.getLogger(__name__)

LossType = Literal["dr_grpo", "grpo", "dapo", "bnpo"]
LOSS_TYPES: tuple[LossType, ...] = get_args(LossType)
METRICS: Final = {
    "reward": "reward/total",
    "reward_std": "reward/total_std",
    "frac_reward_zero_std": "grpo/equal_groups",
    "entropy": "grpo/entropy",
    "kl": "grpo/kl",
    "completions/mean_length": "grpo/answer_subwords",
    "completions/clipped_ratio": "grpo/cut_off",
}
"""What TRL calls a number -> what metrics.jsonl calls it."""


@dataclass(frozen=True, kw_only=True)
class GRPOSettings(Settings):
    """How a model is trained by rewards.

    Attributes:
        num_generations: answers to a prompt, a group; at least 2.
        batch_size: answers in a batch, per process: whole groups.
        temperature: of the draw of answers.
        answer_subwords: of an answer at most; None is 32, and 256 with reasoning.
        loss_type: one of LOSS_TYPES, as TRL names them.
        beta: how much the distance (KL) to the model at the start costs.
        keep_every: updates after which the model is kept and measured.
        vllm: draw answers with vLLM; needs CUDA.
    """

    num_generations: int = 4
    temperature: float = 1.0
    answer_subwords: int | None = None
    loss_type: LossType = "dr_grpo"
    beta: float = 0.0
    keep_every: int = 100
    vllm: bool = False
    warmup_updates: int = 10
    log_every: int = 10

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise ConfigError(
                "--num_generations 1: a group of one answer has nothing to be compared with; give at least 2"
            )
        if self.batch_size % self.num_generations:
            raise ConfigError(
                f"--batch_size {self.batch_size} is no multiple of --num_generations {self.num_generations}; a batch "
                "holds whole groups"
            )

    def rate_for(self, plan: ModelPlan) -> float:
        """The learning rate at its highest: 2e-4 for small models of ours, 2e-5 for adapters, 1e-6 for a whole base."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-4 if plan.is_random else 2e-5 if plan.uses_adapters else 1e-6


@dataclass(frozen=True, kw_only=True)
class Reinforced:
    """What came of it.

    Attributes:
        updates: that were made, in all.
        too_long: chats that were set aside because they are longer than the context: of those to train on, held-out.
        before: of the held-out decisions, of the model it began with; None where there are none, or it went on.
        measured: of the held-out decisions at the end; None where there are none.
    """

    updates: int
    too_long: tuple[int, int]
    before: Measured | None
    measured: Measured | None


class CollapseWatch:
    """Tells, once, when there is nothing left to learn from: groups of equal rewards, or answers that never differ."""

    LINES: Final = 3
    MOST_EQUAL: Final = 0.9
    LEAST_ENTROPY: Final = 0.01

    def __init__(self) -> None:
        self._equal: list[float] = []
        self._warned = False

    def observe(self, equal_groups: float, entropy: float) -> str | None:
        """The warning, where it is due.

        Args:
            equal_groups: share of the groups whose answers all earned the same, since the line before.
            entropy: of a subword's draw, in nats, on average.
        """
        self._equal = [*self._equal, equal_groups][-self.LINES :]
        mean = sum(self._equal) / len(self._equal)
        if self._warned or len(self._equal) < self.LINES:
            return None
        if entropy < self.LEAST_ENTROPY:
            found = f"the model hardly draws any more (entropy {entropy:.4f}): it gives the same answer each time"
        elif mean > self.MOST_EQUAL:
            found = f"in {mean:.0%} of the groups all answers earn the same: nothing is learned from them"
        else:
            return None
        self._warned = True
        return (
            f"collapse: {found}; raise --temperature or --num_generations, lower --learning_rate, weigh other rewards, "
            "or begin with a model that sft has taught less, if it knows all answers, or more, if it earns nothing"
        )


class _Reinforcing(FineTuning):
    """A training that says when it has collapsed, and what free answers to held-out decisions earn."""

    def __init__(self, *args: Any, rewards: Mapping[str, Reward], weights: Mapping[str, float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.metrics = {**self.metrics, **METRICS}
        for name in rewards:
            self.metrics[f"rewards/{name}/mean"] = f"reward/{name}"
            self.metrics[f"rewards/{name}/std"] = f"reward/{name}_std"
        self._watch = CollapseWatch()
        self._rewards, self._weights = rewards, weights
        self._earned: list[float] = []

    def on_answer(self, example: Example, answer: str) -> None:
        values = {name: evaluate(name, reward, answer, example.chat) for name, reward in self._rewards.items()}
        self._earned.append(sum(self._weights[name] * value for name, value in values.items() if value is not None))

    def more(self) -> dict[str, float]:
        earned, self._earned = torch.tensor(self._earned, dtype=torch.float64), []
        if len(earned) < 2:
            return {}
        return {"reward": float(earned.mean()), "reward_se": float(earned.std()) / len(earned) ** 0.5}

    def log(self, updates: int, logs: Mapping[str, Any]) -> None:
        super().log(updates, logs)
        if "frac_reward_zero_std" in logs:
            warning = self._watch.observe(float(logs["frac_reward_zero_std"]), float(logs["entropy"]))
            if warning is not None:
                logger.warning("after %d updates: %s", updates, warning)


def begin(model: str, chats: Sequence[Chat], device: torch.device, *, full: bool = False) -> ChatModel:
    """The model that GRPO begins with, to be trained.

    Args:
        model: a run of sft or grpo, RUN or RUN@EPOCH, of which goes on what it trained (adapters or all weights); else
            a hub name, or the folder of a downloaded Gemma 3.
        chats: whose subwords a pretrained vocabulary is cut down to.
        device: where.
        full: train all weights of a pretrained model, not adapters.

    Raises:
        MissingFileError, ConfigError, DataError: as `models.build` and `models.load`.
    """
    run_dir, at, epoch = model.rpartition("@")
    if not at or not epoch.isdecimal() or Path(model).exists():
        run_dir, epoch = model, ""
    folder = Path(run_dir)
    if (folder / DESCRIPTION).is_file():
        return load(folder, device, trainable=True)
    if folder.is_dir() and not (folder / "config.json").is_file():
        return load(find_model(folder, int(epoch) if epoch else None), device, trainable=True)
    chat = build(ModelPlan(model=model, full=full), [each.messages for each in chats])
    chat.model.to(device)
    return chat


def train(
    model: str,
    settings: GRPOSettings,
    weights: Mapping[str, float],
    chats: Sequence[Chat],
    held_out: Sequence[Chat],
    run_dir: Path,
    *,
    device: torch.device,
    full: bool = False,
    resume: bool = False,
    wandb: bool = False,
) -> Reinforced:
    """Trains a model and writes its run.

    Args:
        model: which it begins with; see `begin`.
        settings: how.
        weights: of the rewards, by name; see `rewards.find_rewards`.
        chats: whose prompts are answered, and that the rewards are told of.
        held_out: to measure by; may be empty.
        run_dir: OUT, see `fine_tuning`.
        device: where.
        full: see `begin`.
        resume: go on after what the run that is there has kept.
        wandb: tell wandb as well.

    Raises:
        ConfigError: a run that is there already, or is to go on and was made otherwise; a reward that is not there or
            applies to no chat; vLLM without CUDA, or for adapters.
        MissingDependencyError: vLLM is not installed.
        MissingFileError, ConfigError, DataError: as `begin`.
        DataError: too few prompts fit into the context.
    """
    described: dict[str, dict[str, Any]] = {
        "start": {"model": model, "full": full},
        "settings": asdict(settings),
        "rewards": dict(weights),
        "form": asdict(form_of(chats)),
    }
    if settings.vllm:
        _require_vllm(device)
    rewards = find_rewards(list(weights))
    require_applicable(rewards, chats)
    require_place(run_dir, described, resume=resume)
    # TRL itself reads what is to go on; what it begins with is the reference that `beta` is about
    start = Checkpoint(run_dir, 0).folder
    chat = load(start, device, trainable=True) if resume else begin(model, chats, device, full=full)
    if settings.vllm and chat.plan.uses_adapters:
        raise ConfigError("--vllm reads a whole model, and this has adapters; leave it out, or train sft with --full")
    reasoning = described["form"]["reasoning"]
    most = settings.answer_subwords or (REASONED_SUBWORDS if reasoning else ANSWER_SUBWORDS)
    context = min(chat.context, settings.context or 4096)
    examples, too_long = encode(chat.tokenizer, chats, context - most)
    tested, tested_too_long = encode(chat.tokenizer, held_out, context)
    for n, what in ((too_long, "to train on"), (tested_too_long, "held out")):
        if n:
            logger.warning("%d of the chats %s are set aside: longer than the context of %d subwords", n, what, context)
    wanted = settings.batch_size * settings.grad_accum // settings.num_generations
    if len(examples) < wanted:
        raise DataError(
            f"{len(examples)} chats fit into {context} subwords with {most} of an answer, and an update takes "
            f"{wanted}; give more --data, a larger --context or a smaller --batch_size"
        )
    if not resume:
        write_description(run_dir, described)
    with Tracker(run_dir, run_dir.name, described, wandb=wandb) as tracker:
        run = _Reinforcing(
            chat, settings, tested, run_dir, tracker, reasoning=reasoning, rewards=rewards, weights=weights
        )
        if not resume:
            run.keep(0, 0)
        before = run.measured
        # a reference of all weights is read from there
        chat.gemma.config.name_or_path = "" if chat.plan.uses_adapters else str(start)
        with progress_bar(unit="update") as bar:
            trainer = _trainer(run, settings, rewards, weights, examples, most, device, bar)
            return Reinforced(
                updates=run.go(trainer, resume=resume),
                too_long=(too_long, tested_too_long),
                before=before,
                measured=run.measured,
            )


def _require_vllm(device: torch.device) -> None:
    if device.type != "cuda":
        raise ConfigError("--vllm draws answers on a GPU, and this machine has no CUDA; leave it out")
    if find_spec("vllm") is None:
        raise MissingDependencyError("--vllm needs vllm, which is not installed; pip install 'trl[vllm]'")


def _trainer(
    run: FineTuning,
    settings: GRPOSettings,
    rewards: Mapping[str, Reward],
    weights: Mapping[str, float],
    examples: Sequence[Example],
    most: int,
    device: torch.device,
    bar: Any,
) -> Any:
    """TRL's trainer.

    Args:
        run: is told of what it does.
        settings: how.
        rewards: by name.
        weights: by the same names.
        examples: whose prompts are answered.
        most: subwords of an answer.
        device: where.
        bar: of progress.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    rows = {"prompt": [each.chat.messages[:-1] for each in examples], "row": list(range(len(examples)))}
    config = GRPOConfig(
        **run.arguments(settings.rate_for(run.chat.plan), device),
        num_generations=settings.num_generations,
        temperature=settings.temperature,
        max_completion_length=most,
        loss_type=settings.loss_type,
        scale_rewards="none" if settings.loss_type == "dr_grpo" else "group",
        beta=settings.beta,
        reward_weights=[weights[name] for name in rewards],
        disable_dropout=True,  # else the model that learns is another one than the one that answered
        save_strategy="steps",
        save_steps=settings.keep_every,
        use_vllm=settings.vllm,
    )
    chats = [each.chat for each in examples]
    return GRPOTrainer(
        model=run.chat.model,
        reward_funcs=[_for_trl(name, reward, chats) for name, reward in rewards.items()],
        args=config,
        train_dataset=Dataset.from_dict(rows),
        processing_class=run.chat.tokenizer,
        callbacks=[told(run, bar, keep_every=settings.keep_every)],
    )


def _for_trl(name: str, reward: Reward, chats: Sequence[Chat]) -> Callable[..., list[float | None]]:
    """A reward as TRL calls it, with batches of answers and the columns of their rows."""

    def rated(completions: Sequence[list[dict[str, str]]], row: Sequence[int], **_: Any) -> list[float | None]:
        answers = (messages[-1]["content"] for messages in completions)
        return [evaluate(name, reward, answer, chats[i]) for answer, i in zip(answers, row, strict=True)]

    rated.__name__ = name  # by which TRL logs it
    return rated
