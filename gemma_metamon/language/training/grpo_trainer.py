"""TRL's GRPOTrainer as it is used here: on recorded prompts, or on answers given in battles that are played for it."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from gemma_metamon.errors import ConfigError
from gemma_metamon.language.data.chats import Chat, Example, PromptForm
from gemma_metamon.language.models.chat_model import ChatModel, ModelPlan
from gemma_metamon.language.models.grouped import draw, weigh
from gemma_metamon.language.training.fine_tuning import FineTuning, Settings
from gemma_metamon.language.training.rewards import Reward, evaluate
from gemma_metamon.language.training.trl_trainers import guarded, told

LossType = Literal["dr_grpo", "grpo", "dapo", "bnpo"]


@dataclass(frozen=True, kw_only=True)
class GRPOSettings(Settings):
    """How a model is trained by rewards.

    Attributes:
        num_generations: answers to a prompt, a group; at least 2. Where battles are played, battles of a group.
        turns: answers of each of these battles that are learned from.
        batch_size: answers in a batch, per process: whole groups.
        temperature: of the draw of answers.
        answer_subwords: of an answer at most; None is 32, and 256 with reasoning.
        loss_type: as TRL names them.
        beta: how much the distance (KL) to the model at the start costs.
        keep_every: updates after which the model is kept and measured.
        vllm: draw answers with vLLM; needs CUDA.

    Raises:
        ConfigError: a group of one answer, or a batch that does not hold whole groups.
    """

    num_generations: int = 4
    turns: int = 1
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
        if self.batch_size % self.group_size:
            times = f" times --turns {self.turns}" if self.turns > 1 else ""
            raise ConfigError(
                f"--batch_size {self.batch_size} is no multiple of --num_generations {self.num_generations}{times}; a "
                "batch holds whole groups"
            )

    @property
    def group_size(self) -> int:
        """Answers that are compared with one another."""
        return self.num_generations * self.turns

    def rate_for(self, plan: ModelPlan) -> float:
        """The learning rate at its highest: 2e-4 for small models of ours, 2e-5 for adapters, 1e-6 for a whole base."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-4 if plan.is_random else 2e-5 if plan.uses_adapters else 1e-6


@dataclass(frozen=True, slots=True)
class Turn:
    """An answer that was given in a battle.

    Attributes:
        chat: what it answers, and what the battle gave.
        text: the answer.
        prompt: the chat in subwords.
        answer: in subwords, with the one that ends it.
    """

    chat: Chat
    text: str
    prompt: list[int]
    answer: list[int]


class Battles(Protocol):
    """Whoever plays battles with a model; players/episodes.py does."""

    form: PromptForm
    """How decisions are told there."""

    def described(self) -> dict[str, Any]:
        """What a run says of them."""

    def play(
        self, chat: ChatModel, groups: Sequence[int], n: int, n_turns: int, *, most: int, temperature: float
    ) -> list[Turn]:
        """Of each group n battles, and n_turns answers of each battle, in this order."""


def build_trainer(
    run: FineTuning,
    settings: GRPOSettings,
    rewards: Mapping[str, Reward],
    weights: Mapping[str, float],
    source: Sequence[Example] | Battles,
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
        source: examples, whose prompts are answered, or who plays battles.
        most: subwords of an answer.
        device: where.
        bar: of progress.
    """
    from trl import GRPOConfig, GRPOTrainer

    sees = isinstance(source, Sequence) and bool(source) and bool(source[0].pictures)
    grouped = run.chat.device.type == "cpu" and not sees  # of a model that sees TRL itself draws and weighs

    class GroupTrainer(GRPOTrainer):  # type: ignore[misc]  # it has no types
        """TRL reads a prompt once for each of its answers, and on a CPU asks the head about all of it as well."""

        def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
            if not grouped:
                return super()._generate_single_turn(prompt_ids, *args, **kwargs)
            n, ends = settings.num_generations, self.eos_token_ids
            answers = draw(run.chat.gemma, prompt_ids[::n], n, most=most, temperature=settings.temperature, ends=ends)
            return answers, None

        def _get_per_token_logps_and_entropies(
            self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, **kwargs: Any
        ) -> Any:
            gemma = {id(run.chat.model): run.chat.gemma, id(self.ref_model): self.ref_model}.get(id(model))
            if gemma is None or not grouped:
                return super()._get_per_token_logps_and_entropies(
                    model, input_ids, attention_mask, logits_to_keep, **kwargs
                )
            temperature = settings.temperature
            return *weigh(gemma, input_ids, attention_mask, logits_to_keep, temperature=temperature), None

    if isinstance(source, Sequence):
        prompts = [each.chat.messages[:-1] for each in source]
        chats = [each.chat for each in source]
        rollout = None
    else:
        n_groups = (settings.max_updates or 0) * settings.batch_size * settings.grad_accum // settings.group_size
        prompts = [[{"role": "user", "content": str(number)}] for number in range(n_groups)]
        chats, rollout = [], _rollout(run, settings, source, most)
    config = GRPOConfig(
        **run.arguments(settings.rate_for(run.chat.plan), device),
        num_generations=settings.group_size,
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using 'rollout_func', which is an experimental feature")
        return guarded(GroupTrainer, run)(
            model=run.chat.model,
            reward_funcs=[_for_trl(name, reward, chats) for name, reward in rewards.items()],
            args=config,
            train_dataset=_dataset(prompts, source if sees and isinstance(source, Sequence) else ()),
            processing_class=getattr(run.chat, "processor", run.chat.tokenizer),
            callbacks=[told(run, bar, keep_every=settings.keep_every)],
            rollout_func=rollout,
        )


def _dataset(prompts: list[Any], seen: Sequence[Example]) -> Any:
    """Rows with their numbers, and of decisions that are seen their pictures, which are opened when they are asked."""
    from datasets import Dataset, Image
    from datasets import Sequence as Several

    columns: dict[str, Any] = {"prompt": prompts, "row": list(range(len(prompts)))}
    if not seen:
        return Dataset.from_dict(columns)
    columns["images"] = [[str(path) for path in each.pictures] for each in seen]
    return Dataset.from_dict(columns).cast_column("images", Several(Image(mode="RGB")))


def _rollout(
    run: FineTuning, settings: GRPOSettings, battles: Battles, most: int
) -> Callable[[Sequence[list[dict[str, str]]], Any], dict[str, Any]]:
    """Battles as TRL asks for a batch of answers; a row's prompt is its group's number."""

    def played(prompts: Sequence[list[dict[str, str]]], trainer: Any) -> dict[str, Any]:
        groups = [int(prompt[0]["content"]) for prompt in prompts[:: settings.group_size]]
        n, n_turns = settings.num_generations, settings.turns
        turns = battles.play(run.chat, groups, n, n_turns, most=most, temperature=settings.temperature)
        run.guard.probe = Example(turns[0].chat, turns[0].prompt, turns[0].answer)
        return {
            "prompt_ids": [turn.prompt for turn in turns],
            "completion_ids": [turn.answer for turn in turns],
            "logprobs": None,  # they are weighed by the model that drew them
            "chat": [turn.chat for turn in turns],
        }

    return played


def _for_trl(name: str, reward: Reward, chats: Sequence[Chat]) -> Callable[..., list[float | None]]:
    """A reward as TRL calls it, with batches of answers, the columns of their rows, and of battles their chats."""

    def rated(
        completions: Sequence[list[dict[str, str]]], row: Sequence[int], chat: Sequence[Chat] | None = None, **_: Any
    ) -> list[float | None]:
        answers = (messages[-1]["content"] for messages in completions)
        answered = [chats[i] for i in row] if chat is None else chat
        return [evaluate(name, reward, answer, each) for answer, each in zip(answers, answered, strict=True)]

    rated.__name__ = name  # by which TRL logs it
    return rated
