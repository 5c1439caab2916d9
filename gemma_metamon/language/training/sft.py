"""Supervised fine-tuning: a chat model learns to answer as recorded players chose, with TRL's SFTTrainer.

What the run's folder holds is told in `fine_tuning`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from gemma_metamon.errors import DataError
from gemma_metamon.language.data.chats import Chat, Example, encode, form_of
from gemma_metamon.language.models.chat_model import ModelPlan, build, load
from gemma_metamon.language.models.held_out import Measured, answer_loss
from gemma_metamon.language.training.fine_tuning import (
    FineTuning,
    Settings,
    Signals,
    find_model,
    require_place,
    signals_unheard,
    warn_of_long,
    write_description,
    writing,
)
from gemma_metamon.language.training.trl_trainers import guarded, told
from gemma_metamon.nets.reader.adapters import Adapter
from gemma_metamon.progress import progress_bar
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.training.tracking import Tracker

CHATS_FOR_WORDS: Final = 5_000
"""A learned tokenizer knows the words of so many chats; the rest of a file has hardly another one."""


@dataclass(frozen=True, kw_only=True)
class SFTSettings(Settings):
    """How a model is trained on answers.

    Attributes:
        packing: fill rows of `context` subwords with several chats, which do not see each other.
        init_from: the checkpoint of an agent whose adapter the model begins with; None begins with one that adds
            nothing.
    """

    batch_size: int = 8
    packing: bool = False
    init_from: str | None = None

    def rate_for(self, plan: ModelPlan) -> float:
        """The learning rate at its highest: 2e-3 for random weights, 2e-4 for adapters, 2e-5 for a pretrained base."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-3 if plan.is_random else 2e-4 if plan.uses_adapters else 2e-5


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of it.

    Attributes:
        updates: of the run, in all.
        left_out: so many of them were left out, because their loss or gradient was not finite.
        too_long: chats that were set aside because they are longer than the context: of those to train on, held-out.
        measured: of the held-out decisions after the last epoch; None where there are none.
    """

    updates: int
    left_out: int
    too_long: tuple[int, int]
    measured: Measured | None


def train(
    plan: ModelPlan,
    settings: SFTSettings,
    chats: Sequence[Chat],
    held_out: Sequence[Chat],
    run_dir: Path,
    *,
    device: torch.device,
    resume: bool = False,
    wandb: bool = False,
    adapter: Adapter | None = None,
    signals: Signals = signals_unheard,
) -> Trained:
    """Trains a model and writes its run.

    Args:
        plan: which model.
        settings: how.
        chats: to learn from.
        held_out: to measure by; may be empty.
        run_dir: OUT, see `fine_tuning`.
        device: where.
        resume: go on after what the run that is there has kept.
        wandb: tell wandb as well.
        adapter: that a new run begins with, of `settings.init_from`.
        signals: what notes the signals that ask to end; the update that is being made is then finished, and saved.

    Raises:
        ConfigError: a run that is there already, or is to go on and was made otherwise, or is done.
        MissingFileError, ConfigError: as `models.build`.
        CheckpointMismatchError: an adapter that does not fit the model.
        DataError: no chat fits into the context, or too many updates in a row had no finite loss or gradient.
        GemmaMetamonError: the run's folder takes nothing more, or the weights give no finite loss any more; what it
            says of going on is true of what is whole.
        KeyboardInterrupt: a signal asked to end.
    """
    described = {"plan": asdict(plan), "settings": asdict(settings), "form": asdict(form_of(chats))}
    require_place(run_dir, described, resume=resume)
    if resume:
        chat = load(find_model(run_dir), device, trainable=True)
    else:
        known = chats[:CHATS_FOR_WORDS] if plan.is_random else chats
        chat = build(plan, [each.messages for each in known], device)
        if adapter is not None:
            adapter.put_into(chat.gemma)
        chat.model.to(device)
    context = min(chat.context, settings.context or 4096)
    examples, too_long = encode(chat.tokenizer, chats, context)
    tested, tested_too_long = encode(chat.tokenizer, held_out, context)
    warn_of_long(too_long, "to train on", context)
    warn_of_long(tested_too_long, "held out", context)
    if not examples:
        raise DataError(f"no chat fits into {context} subwords; give a larger --context, or export with less --history")
    with writing(run_dir):
        if not resume:
            write_description(run_dir, described)
            chat.save(Checkpoint(run_dir, 0).folder)
        with Tracker(run_dir, run_dir.name, described, wandb=wandb) as tracker, progress_bar(unit="update") as bar:
            run = FineTuning(
                *(chat, settings, tested, run_dir, tracker),
                reasoning=described["form"]["reasoning"],
                examples=examples,
                signals=signals,
            )
            trainer = _trainer(run, settings, examples, context, device, bar)
            updates = run.go(trainer, resume=resume)
    return Trained(
        updates=updates, left_out=run.guard.left_out, too_long=(too_long, tested_too_long), measured=run.measured
    )


def _trainer(
    run: FineTuning, settings: SFTSettings, examples: Sequence[Example], context: int, device: torch.device, bar: Any
) -> Any:
    from datasets import Dataset
    from trl import SFTConfig

    rows = {
        "input_ids": [each.prompt + each.answer for each in examples],
        "labels": [[-100] * len(each.prompt) + each.answer for each in examples],
    }
    config = SFTConfig(
        **run.arguments(settings.rate_for(run.chat.plan), device),
        packing=settings.packing,
        max_length=context if settings.packing else None,
        save_strategy="epoch",
        adam_beta2=0.98 if run.chat.plan.is_random else 0.999,
    )
    return answer_trainer(run)(
        model=run.chat.model,
        args=config,
        train_dataset=Dataset.from_dict(rows),
        processing_class=run.chat.tokenizer,
        callbacks=[told(run, bar)],
    )


def answer_trainer(run: FineTuning) -> Any:
    """The class of a run's trainer: TRL's, with our loss on a CPU."""
    from trl import SFTTrainer

    class AnswerTrainer(SFTTrainer):  # type: ignore[misc]  # it has no types
        """On one CPU TRL's loss asks the head about the prompt, too, though nothing is learned there."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if return_outputs or model is not run.chat.model or run.chat.device.type != "cpu":
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            labels = inputs.pop("labels")
            total, n = answer_loss(run.chat.gemma, inputs, labels)
            return total / (n if num_items_in_batch is None else num_items_in_batch)

    return guarded(AnswerTrainer, run)
