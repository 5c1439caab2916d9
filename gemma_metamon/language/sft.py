"""Supervised fine-tuning: a chat model learns to answer as recorded players chose, with TRL's SFTTrainer.

    OUT/
        ckpts/epoch_<N>/    see `models`; epoch 0 is before training
        run.json            how it was trained
        metrics.jsonl       as of every run; see training/tracking.py
        trainer/            what TRL goes on from

TRL takes seconds to import: this module imports it where it trains.
"""

import json
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.language.chats import Chat, Example, PromptForm, encode, form_of
from gemma_metamon.language.held_out import Measured, answer_loss, measure
from gemma_metamon.language.models import ChatModel, ModelPlan, build, load
from gemma_metamon.nets.reader.adapters import Adapter
from gemma_metamon.progress import progress_bar
from gemma_metamon.runs.checkpoints import CHECKPOINTS, Checkpoint, list_checkpoints
from gemma_metamon.training.tracking import Tracker

logger = logging.getLogger(__name__)

RUN: Final = "run.json"
TRAINER: Final = "trainer"
CHATS_FOR_WORDS: Final = 5_000
"""A learned tokenizer knows the words of so many chats; the rest of a file has hardly another one."""


@dataclass(frozen=True, kw_only=True)
class SFTSettings:
    """How a model is trained.

    Attributes:
        epochs: passes over the chats.
        max_updates: end after so many updates, whatever `epochs` is; None does not.
        batch_size: chats in a batch, per process.
        grad_accum: batches to an update.
        learning_rate: at its highest; None is 2e-3 for random weights, 2e-4 for adapters, 2e-5 for a pretrained base.
        warmup_updates: until the learning rate is at its highest; from there it falls to 0 at the end, evenly.
        packing: fill rows of `context` subwords with several chats, which do not see each other.
        context: subwords of the longest chat that is trained on; None is the model's own, at most 4,096.
        held_out: held-out decisions that are looked at after each epoch, at most.
        generated: so many of them are answered freely, too.
        log_every: updates between lines of metrics.jsonl.
        seed: of the order of the chats, and of dropout.
        init_from: the checkpoint of an agent whose adapter the model begins with; None begins with one that adds
            nothing.
    """

    epochs: int = 1
    max_updates: int | None = None
    batch_size: int = 8
    grad_accum: int = 1
    learning_rate: float | None = None
    warmup_updates: int = 50
    packing: bool = False
    context: int | None = None
    held_out: int = 1000
    generated: int = 100
    log_every: int = 20
    seed: int = 0
    init_from: str | None = None

    def rate_for(self, plan: ModelPlan) -> float:
        """The learning rate at its highest."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-3 if plan.is_random else 2e-4 if plan.uses_adapters else 2e-5


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of it.

    Attributes:
        updates: that were made, in all.
        too_long: chats that were set aside because they are longer than the context: of those to train on, held-out.
        measured: of the held-out decisions after the last epoch; None where there are none.
    """

    updates: int
    too_long: tuple[int, int]
    measured: Measured | None


def read_form(run_dir: Path) -> PromptForm:
    """How the prompts of a run are told. A plain folder of transformers' has no run.json: then as they usually are."""
    path = run_dir / RUN
    if not path.is_file():
        return PromptForm()
    try:
        return PromptForm(**json.loads(path.read_text(encoding="utf-8"))["form"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); train the model again") from error


def find_model(run_dir: Path, epoch: int | None = None) -> Path:
    """The folder of a run's model after an epoch, by default the last; or the folder itself where it is a model's.

    Raises MissingFileError where there is none.
    """
    if (run_dir / "config.json").is_file() and epoch is None:
        return run_dir
    if not list_checkpoints(run_dir):
        raise MissingFileError(
            f"{run_dir} holds no chat model; name the --out of gemma-metamon sft, or the folder of a downloaded Gemma 3"
        )
    return Checkpoint.find(run_dir, epoch).folder


def run_of(folder: Path) -> tuple[Path, str]:
    """The run that a model's folder belongs to and its label there, words@2; a plain folder is its own run."""
    if folder.parent.name == CHECKPOINTS:
        run_dir = folder.parent.parent
        return run_dir, f"{run_dir.resolve().name}@{folder.name.removeprefix('epoch_')}"
    return folder, folder.resolve().name


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
) -> Trained:
    """Trains a model and writes its run.

    Args:
        plan: which model.
        settings: how.
        chats: to learn from.
        held_out: to measure by; may be empty.
        run_dir: OUT, as above.
        device: where.
        resume: go on after the last whole epoch of the run that is there.
        wandb: tell wandb as well.
        adapter: that a new run begins with, of `settings.init_from`.

    Raises:
        ConfigError: a run that is there already, or is to go on and was made otherwise, or is done.
        MissingFileError, ConfigError: as `models.build`.
        CheckpointMismatchError: an adapter that does not fit the model.
        DataError: no chat fits into the context.
    """
    described = {"plan": asdict(plan), "settings": asdict(settings), "form": asdict(form_of(chats))}
    _require_place(run_dir, described, resume=resume)
    if resume:
        chat = load(find_model(run_dir), device, trainable=True)
    else:
        chat = build(plan, [each.messages for each in (chats[:CHATS_FOR_WORDS] if plan.is_random else chats)])
        if adapter is not None:
            adapter.put_into(chat.gemma)
        chat.model.to(device)
    context = min(chat.context, settings.context or 4096)
    examples, too_long = encode(chat.tokenizer, chats, context)
    tested, tested_too_long = encode(chat.tokenizer, held_out, context)
    for n, what in ((too_long, "to train on"), (tested_too_long, "held out")):
        if n:
            logger.warning("%d of the chats %s are set aside: longer than the context of %d subwords", n, what, context)
    if not examples:
        raise DataError(f"no chat fits into {context} subwords; give a larger --context, or export with less --history")
    if not resume:
        with written_whole(run_dir / RUN) as staged:
            staged.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        chat.save(Checkpoint(run_dir, 0).folder)
    with Tracker(run_dir, run_dir.name, described, wandb=wandb) as tracker:
        run = _Run(chat, settings, tested[: settings.held_out], run_dir, tracker, described["form"]["reasoning"])
        return Trained(
            updates=run.train(examples, context, device, resume=resume),
            too_long=(too_long, tested_too_long),
            measured=run.measured,
        )


def _require_place(run_dir: Path, described: dict[str, Any], *, resume: bool) -> None:
    there = (run_dir / RUN).is_file()
    if not resume:
        if there or list_checkpoints(run_dir):
            raise ConfigError(f"{run_dir} already holds a run; go on with --resume, or choose another --out")
        return
    if not there:
        raise ConfigError(f"{run_dir} holds no run to go on with; leave out --resume")
    before = json.loads((run_dir / RUN).read_text(encoding="utf-8"))
    for part, now in described.items():
        for name, value in now.items():
            if name != "epochs" and before[part].get(name) != value:
                raise ConfigError(
                    f"{run_dir} was begun with {name} = {before[part].get(name)!r}, not {value!r}; give the same flags "
                    "and data, or choose another --out without --resume"
                )
    if not list((run_dir / TRAINER).glob("checkpoint-*")):
        raise ConfigError(f"{run_dir} has no whole epoch to go on after; delete it, and leave out --resume")


class _Run:
    """One training: its callbacks, and what they measure."""

    def __init__(
        self,
        chat: ChatModel,
        settings: SFTSettings,
        held_out: Sequence[Example],
        run_dir: Path,
        tracker: Tracker,
        reasoning: bool,
    ) -> None:
        self.chat, self.settings, self.held_out = chat, settings, held_out
        self.run_dir, self.tracker, self.reasoning = run_dir, tracker, reasoning
        self.measured: Measured | None = None

    def train(self, examples: Sequence[Example], context: int, device: torch.device, *, resume: bool) -> int:
        """Trains, and returns how many updates the run has."""
        from datasets import Dataset
        from trl import SFTConfig

        rows = {
            "input_ids": [each.prompt + each.answer for each in examples],
            "labels": [[-100] * len(each.prompt) + each.answer for each in examples],
        }
        settings, plan = self.settings, self.chat.plan
        on_gpu = device.type == "cuda"
        config = SFTConfig(
            output_dir=str(self.run_dir / TRAINER),
            num_train_epochs=settings.epochs,
            max_steps=settings.max_updates or -1,
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.grad_accum,
            learning_rate=settings.rate_for(plan),
            lr_scheduler_type="linear",
            warmup_steps=settings.warmup_updates,
            weight_decay=0.0,
            adam_beta2=0.98 if plan.is_random else 0.999,
            packing=settings.packing,
            max_length=context if settings.packing else None,
            logging_steps=settings.log_every,
            save_strategy="epoch",
            save_total_limit=1,
            report_to="none",
            seed=settings.seed,
            use_cpu=not on_gpu,
            bf16=on_gpu,
            activation_checkpointing=on_gpu,
            dataloader_pin_memory=on_gpu,
        )
        with progress_bar(unit="update") as bar:
            trainer = _trainer(self, config, Dataset.from_dict(rows), bar)
            return self._go(trainer, resume=resume)

    def _go(self, trainer: Any, *, resume: bool) -> int:
        for parameter in self.chat.model.parameters():
            if parameter.requires_grad:  # TRL rounds adapters over 4 bits to bfloat16, which feels no small update
                parameter.data = parameter.data.float()
        trainer.train(resume_from_checkpoint=resume)
        return int(trainer.state.global_step)

    def log(self, updates: int, logs: dict[str, float]) -> None:
        """A line of metrics."""
        names = {"loss": "loss/total", "learning_rate": "learning_rate", "grad_norm": "grad_norm"}
        found = {name: float(logs[theirs]) for theirs, name in names.items() if theirs in logs}
        if found and "loss" in logs:
            self.tracker.log(updates, found)

    def end_epoch(self, epoch: int, updates: int) -> None:
        """Saves the model and measures it."""
        folder = Checkpoint(self.run_dir, epoch).folder
        if folder.exists():  # killed before TRL had saved what it goes on from
            shutil.rmtree(folder)
        self.chat.save(folder)
        if not self.held_out:
            return
        found = measure(self.chat, self.held_out, generated=self.settings.generated, reasoning=self.reasoning)
        self.measured = found
        self.tracker.log(
            updates, {f"held_out/{name}": float(value) for name, value in vars(found).items() if value is not None}
        )
        said = [f"perplexity {found.perplexity:.3f} of held-out answers"]
        if found.agreement is not None:
            said.append(f"agrees with {found.agreement:.1%} of {found.decisions} choices")
        if found.legal_share is not None:
            said.append(f"{found.legal_share:.1%} of {found.generated} free answers are legal")
        logger.info("epoch %d: %s", epoch, ", ".join(said))


def _trainer(run: _Run, config: Any, rows: Any, bar: Any) -> Any:
    """TRL's trainer, with our loss on a CPU, told of what it does."""
    from transformers import ProgressCallback, TrainerCallback
    from trl import SFTTrainer

    class Told(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bar.reset(total=state.max_steps)
            bar.update(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bar.update()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            run.log(state.global_step, logs or {})

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            run.end_epoch(math.ceil(state.epoch - 1e-6), state.global_step)

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

    trainer = AnswerTrainer(
        model=run.chat.model,
        args=config,
        train_dataset=rows,
        processing_class=run.chat.tokenizer,
        callbacks=[Told()],
    )
    trainer.remove_callback(ProgressCallback)  # it writes to stdout, where results go
    return trainer
