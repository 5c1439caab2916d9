"""Reinforcement learning of answers, with TRL's GRPOTrainer: several answers to a prompt are compared by their rewards.

A group of answers is drawn for each prompt; each answer becomes the more probable, the more its reward is above the
group's mean (GRPO), without dividing by the group's spread or the answer's length ("dr_grpo"). What the run's folder
holds is told in `fine_tuning`; an epoch is `keep_every` updates here.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from gemma_metamon.errors import ConfigError, DataError, MissingDependencyError
from gemma_metamon.language.data.chats import Chat, Example, encode, form_of
from gemma_metamon.language.models.chat_model import DESCRIPTION, ChatModel, ModelPlan, build, load
from gemma_metamon.language.models.held_out import ANSWER_SUBWORDS, REASONED_SUBWORDS, Measured
from gemma_metamon.language.training.fine_tuning import (
    FineTuning,
    Signals,
    find_model,
    require_place,
    signals_unheard,
    warn_of_long,
    write_description,
    writing,
)
from gemma_metamon.language.training.grpo_trainer import Battles, GRPOSettings, build_trainer
from gemma_metamon.language.training.rewards import Reward, evaluate, find_rewards, require_applicable
from gemma_metamon.progress import progress_bar
from gemma_metamon.runs.checkpoints import Checkpoint, split_epoch
from gemma_metamon.training.tracking import Tracker

logger = logging.getLogger(__name__)

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
class Reinforced:
    """What came of it.

    Attributes:
        updates: of the run, in all.
        left_out: so many of them were left out, because their loss or gradient was not finite.
        too_long: chats that were set aside because they are longer than the context: of those to train on, held-out.
        before: of the held-out decisions, of the model it began with; None where there are none, or it went on.
        measured: of the held-out decisions at the end; None where there are none.
    """

    updates: int
    left_out: int
    too_long: tuple[int, int]
    before: Measured | None
    measured: Measured | None


class Decisions(Protocol):
    """Decisions to learn from and to measure by, and the models that are told them."""

    @property
    def form(self) -> Any:
        """How they are told: a dataclass with `reasoning`."""

    def begin(self, model: str, device: torch.device) -> ChatModel:
        """The model that GRPO begins with, to be trained."""

    def load(self, folder: Path, device: torch.device) -> ChatModel:
        """A model that was kept, to be trained further."""

    def encode(self, chat: Any, context: int, *, held_out: bool) -> tuple[list[Example], int]:
        """Those to train on, or those held out; and how many are longer than the context."""


class _InWords:
    """Chats, or battles that are told as such. The arguments are those of `train`."""

    def __init__(self, chats: Sequence[Chat], held_out: Sequence[Chat], battles: Battles | None, *, full: bool) -> None:
        self.form: Any = form_of(chats) if battles is None else battles.form
        self._chats, self._held_out, self._full = chats, held_out, full

    def begin(self, model: str, device: torch.device) -> ChatModel:
        return begin(model, self._chats, device, full=self._full)

    def load(self, folder: Path, device: torch.device) -> ChatModel:
        return load(folder, device, trainable=True)

    def encode(self, chat: ChatModel, context: int, *, held_out: bool) -> tuple[list[Example], int]:
        return encode(chat.tokenizer, self._held_out if held_out else self._chats, context)


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
        if logs.get("entropy") is not None:
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
        ConfigError: no chats, and another model than a run's; or `full` of a run that trained adapters.
        MissingFileError, ConfigError, DataError: as `models.build` and `models.load`.
    """
    folder, epoch = split_epoch(model)
    is_saved = (folder / DESCRIPTION).is_file()
    if is_saved or (folder.is_dir() and not (folder / "config.json").is_file()):
        chat = load(folder if is_saved else find_model(folder, epoch), device, trainable=True)
        if full and chat.plan.uses_adapters:
            raise ConfigError(
                f"--full is of a pretrained --model, and the run {model} goes on with its adapters; leave it out"
            )
        return chat
    if not chats:
        raise ConfigError(f"{model} is no run of sft or grpo, which --environment begins with; train sft first")
    chat = build(ModelPlan(model=model, full=full), [each.messages for each in chats], device)
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
    battles: Battles | None = None,
    sight: Decisions | None = None,
    full: bool = False,
    resume: bool = False,
    wandb: bool = False,
    signals: Signals = signals_unheard,
) -> Reinforced:
    """Trains a model and writes its run.

    Args:
        model: which it begins with; see `begin`.
        settings: how.
        weights: of the rewards, by name; see `rewards.find_rewards`.
        chats: whose prompts are answered, and that the rewards are told of; empty where battles are played.
        held_out: to measure by; may be empty.
        run_dir: OUT, see `fine_tuning`.
        device: where.
        battles: who plays them; None answers the prompts of `chats`.
        sight: the same decisions, where they are shown in pictures (vision/reinforced.py has them).
        full: see `begin`.
        resume: go on after what the run that is there has kept.
        wandb: tell wandb as well.
        signals: as of `sft.train`.

    Raises:
        ConfigError: a run that is there already, or is to go on and was made otherwise; a reward that is not there or
            applies to no chat; vLLM without CUDA, or for adapters.
        MissingDependencyError: vLLM is not installed.
        MissingFileError, ConfigError, DataError: as `begin`.
        DataError: too few prompts fit into the context, or too many updates in a row had no finite loss or gradient.
        GemmaMetamonError: the run's folder takes nothing more, or the weights give no finite loss any more.
        KeyboardInterrupt: a signal asked to end.
    """
    decisions: Decisions = _InWords(chats, held_out, battles, full=full) if sight is None else sight
    described: dict[str, dict[str, Any]] = {
        "start": {"model": model, "full": full},
        "settings": asdict(settings),
        "rewards": dict(weights),
        "form": asdict(decisions.form),
    }
    if battles is not None:
        described["battles"] = battles.described()
    if settings.vllm:
        _require_vllm(device)
    rewards = find_rewards(list(weights))
    if battles is None:
        require_applicable(rewards, chats)
    else:
        _require_playable(settings, rewards)
    require_place(run_dir, described, resume=resume)
    # TRL itself reads what is to go on; what it begins with is the reference that `beta` is about
    start = Checkpoint(run_dir, 0).folder
    chat = decisions.load(start, device) if resume else decisions.begin(model, device)
    if settings.vllm and chat.plan.uses_adapters:
        raise ConfigError("--vllm reads a whole model, and this has adapters; leave it out, or train sft with --full")
    reasoning = described["form"]["reasoning"]
    most = settings.answer_subwords or (REASONED_SUBWORDS if reasoning else ANSWER_SUBWORDS)
    context = min(chat.context, settings.context or 4096)
    examples, too_long = decisions.encode(chat, context - most, held_out=False)
    tested, tested_too_long = decisions.encode(chat, context, held_out=True)
    warn_of_long(too_long, "to train on", context - most)
    warn_of_long(tested_too_long, "held out", context)
    wanted = settings.batch_size * settings.grad_accum // settings.num_generations
    if battles is None and len(examples) < wanted:
        raise DataError(
            f"{len(examples)} chats fit into {context} subwords with {most} of an answer, and an update takes "
            f"{wanted}; give more --data, a larger --context or a smaller --batch_size"
        )
    source = examples if battles is None else battles
    with writing(run_dir):
        if not resume:
            write_description(run_dir, described)
        with Tracker(run_dir, run_dir.name, described, wandb=wandb) as tracker, progress_bar(unit="update") as bar:
            run = _Reinforcing(
                *(chat, settings, tested, run_dir, tracker),
                reasoning=reasoning,
                examples=examples,
                signals=signals,
                rewards=rewards,
                weights=weights,
            )
            if not resume:
                run.keep(0, 0)
            before = run.measured
            # a reference of all weights is read from there
            chat.gemma.config.name_or_path = "" if chat.plan.uses_adapters else str(start)
            trainer = build_trainer(run, settings, rewards, weights, source, most, device, bar)
            updates = run.go(trainer, resume=resume)
    return Reinforced(
        updates=updates,
        left_out=run.guard.left_out,
        too_long=(too_long, tested_too_long),
        before=before,
        measured=run.measured,
    )


def _require_playable(settings: GRPOSettings, rewards: Mapping[str, Reward]) -> None:
    if settings.max_updates is None:
        raise ConfigError("battles have no end of their own: say by --max_updates how many updates are to be made")
    if settings.vllm:
        raise ConfigError("--vllm does not play battles; leave it out, or --environment")
    for name in ("correctness", "advantage"):
        if name in rewards:
            raise ConfigError(f"--reward {name} is told by recorded decisions, not by battles; leave out --environment")


def _require_vllm(device: torch.device) -> None:
    if device.type != "cuda":
        raise ConfigError("--vllm draws answers on a GPU, and this machine has no CUDA; leave it out")
    if find_spec("vllm") is None:
        raise MissingDependencyError("--vllm needs vllm, which is not installed; pip install 'trl[vllm]'")
