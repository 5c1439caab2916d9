"""Supervised fine-tuning of a model that sees, with TRL's SFTTrainer; what the run's folder holds is told there.

See `language.training.fine_tuning`. A batch's pictures are opened when it is made: memory holds no more of them.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from gemma_metamon.errors import DataError
from gemma_metamon.language.data.chats import Example
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
from gemma_metamon.language.training.sft import CHATS_FOR_WORDS, SFTSettings, Trained, answer_trainer
from gemma_metamon.language.training.trl_trainers import told
from gemma_metamon.progress import progress_bar
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.training.tracking import Tracker
from gemma_metamon.vision.chats import SeenChat, choices_alone, encode
from gemma_metamon.vision.forms import Form
from gemma_metamon.vision.models import SeeingModel, SeeingPlan, build, load, open_picture

logger = logging.getLogger(__name__)


def train(
    plan: SeeingPlan,
    form: Form,
    settings: SFTSettings,
    seen: Sequence[SeenChat],
    held_out: Sequence[SeenChat],
    run_dir: Path,
    *,
    device: torch.device,
    choice_alone: bool = False,
    resume: bool = False,
    wandb: bool = False,
    signals: Signals = signals_unheard,
) -> Trained:
    """Trains a model and writes its run.

    Args:
        plan: which model.
        form: how the decisions are shown.
        settings: how it is trained.
        seen: to learn from.
        held_out: to measure by; may be empty.
        run_dir: OUT, see `language.training.fine_tuning`.
        device: where.
        choice_alone: answer by the choice, whatever else the answers of the data say.
        resume: go on after what the run that is there has kept.
        wandb: tell wandb as well.
        signals: as of `language.training.sft.train`.

    Raises:
        ConfigError: a run that is there already, or is to go on and was made otherwise, or is done; and as `build`.
        MissingFileError: as `build`.
        DataError: no decision fits into the context, or too many updates in a row had no finite loss or gradient.
        GemmaMetamonError: the run's folder takes nothing more, or the weights give no finite loss any more.
        KeyboardInterrupt: a signal asked to end.
    """
    described = {
        **{"plan": asdict(plan), "settings": asdict(settings), "form": asdict(form)},
        "answers": {"choice_alone": choice_alone},
    }
    if choice_alone:
        seen, held_out = choices_alone(seen), choices_alone(held_out)
    require_place(run_dir, described, resume=resume)
    if resume:
        chat = load(find_model(run_dir), device, trainable=True)
    else:
        chat = build(plan, form, [text for each in seen[:CHATS_FOR_WORDS] for text in each.texts], device)
        chat.model.to(device)
    context = min(chat.context, settings.context or 4096)
    spent = chat.processor.image_seq_length * len(seen[0].pictures)
    logger.info("of a context of %d tokens pictures take %d", context, spent)
    examples, too_long = encode(chat, seen, context)
    tested, tested_too_long = encode(chat, held_out, context)
    warn_of_long(too_long, "to train on", context)
    warn_of_long(tested_too_long, "held out", context)
    if not examples:
        fewer = ", or export with --frames grid" if len(seen[0].pictures) > 1 else ""
        raise DataError(
            f"no decision fits into a context of {context} tokens, of which pictures take {spent}; give a larger "
            f"--context{fewer}"
        )
    with writing(run_dir):
        if not resume:
            write_description(run_dir, described)
            chat.save(Checkpoint(run_dir, 0).folder)
        with Tracker(run_dir, run_dir.name, described, wandb=wandb) as tracker, progress_bar(unit="update") as bar:
            run = FineTuning(
                *(chat, settings, tested, run_dir, tracker),
                reasoning=form.reasoning,
                examples=examples,
                signals=signals,
            )
            updates = run.go(_trainer(run, chat, settings, examples, device, bar), resume=resume)
    return Trained(
        updates=updates, left_out=run.guard.left_out, too_long=(too_long, tested_too_long), measured=run.measured
    )


def _trainer(
    run: FineTuning,
    chat: SeeingModel,
    settings: SFTSettings,
    examples: Sequence[Example],
    device: torch.device,
    bar: Any,
) -> Any:
    from datasets import Dataset
    from trl import SFTConfig

    rows = {
        "input_ids": [each.prompt + each.answer for each in examples],
        "labels": [[-100] * len(each.prompt) + each.answer for each in examples],
        "images": [list(map(str, each.pictures)) for each in examples],
    }

    def batch_of(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        labels = [torch.tensor(row["labels"]) for row in rows]
        pixels = [chat.look([open_picture(Path(name)) for name in row["images"]]) for row in rows]
        padded = pad_sequence(ids, batch_first=True, padding_value=chat.tokenizer.pad_token_id)
        return {
            **chat.inputs_of(padded, pixels),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        }

    config = SFTConfig(
        **run.arguments(settings.rate_for(chat.plan), device),
        max_length=None,
        save_strategy="epoch",
        remove_unused_columns=False,
        adam_beta2=0.98 if chat.plan.is_random else 0.999,
    )
    return answer_trainer(run)(
        model=chat.model,
        args=config,
        train_dataset=Dataset.from_dict(rows),
        data_collator=batch_of,
        processing_class=chat.processor,
        callbacks=[told(run, bar)],
    )
