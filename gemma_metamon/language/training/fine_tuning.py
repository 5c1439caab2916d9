"""What all trainings of a chat model have in common: the run's folder, and a trainer of TRL's that is told of it.

    OUT/
        ckpts/epoch_<N>/    see `models`; epoch 0 is before training
        run.json            how it was trained
        metrics.jsonl       as of every run; see training/tracking.py
    not_finite.jsonl    updates that were left out, see `update_guard`
        trainer/            what TRL goes on from

TRL takes seconds to import: whoever trains imports it there.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from gemma_metamon.atomic_files import put_in_order, written_whole
from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError, MissingFileError, ending
from gemma_metamon.language.data.chats import Example, PromptForm
from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.held_out import Measured, measure
from gemma_metamon.language.training.update_guard import UpdateGuard
from gemma_metamon.registry.registry import local_folder
from gemma_metamon.runs.checkpoints import CHECKPOINTS, Checkpoint, list_checkpoints
from gemma_metamon.runs.run_folder import move_later_aside, writing_in
from gemma_metamon.strict_json import on_one_line, read_dataclass, read_json_object
from gemma_metamon.training.left_out import MAX_LEFT_OUT
from gemma_metamon.training.tracking import Tracker

logger = logging.getLogger(__name__)

RUN: Final = "run.json"
TRAINER: Final = "trainer"

Signals = Callable[[], AbstractContextManager[Callable[[], int]]]
"""A block in which signals that ask to end are noted: it gives what says the first one's number, 0 where none came."""


@contextmanager
def signals_unheard() -> Iterator[Callable[[], int]]:
    """None is noted: each does what it always does."""
    yield lambda: 0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How any chat model is trained.

    Attributes:
        epochs: passes over the chats.
        max_updates: end after so many updates, whatever `epochs` is; None does not.
        batch_size: texts in a batch, per process.
        grad_accum: batches to an update.
        learning_rate: at its highest; None is what suits the model.
        warmup_updates: until the learning rate is at its highest; from there it falls to 0 at the end, evenly.
        context: subwords of the longest chat that is trained on; None is the model's own, at most 4,096.
        held_out: held-out decisions that are looked at each time, at most.
        generated: so many of them are answered freely, too.
        log_every: updates between lines of metrics.jsonl.
        seed: of all that is drawn.
    """

    epochs: int = 1
    max_updates: int | None = None
    batch_size: int = 16
    grad_accum: int = 1
    learning_rate: float | None = None
    warmup_updates: int = 50
    context: int | None = None
    held_out: int = 1000
    generated: int = 100
    log_every: int = 20
    seed: int = 0


def read_form(run_dir: Path) -> PromptForm:
    """How the prompts of a run are told. A plain folder of transformers' has no run.json: then as they usually are.

    Raises DataError where run.json is damaged.
    """
    path = run_dir / RUN
    if not path.is_file():
        return PromptForm()
    try:
        return read_dataclass(PromptForm, read_json_object(path).get("form"))
    except DataError as error:
        raise DataError(f"{path} cannot be read ({on_one_line(error)}); train the model again") from error


def find_model(run_dir: Path, epoch: int | None = None) -> Path:
    """The folder of a run's model after an epoch, by default the last; or the folder itself where it is a model's.

    Raises MissingFileError where there is none; of "registry:NAME@3", as `local_folder` does.
    """
    run_dir = local_folder(run_dir)
    if (run_dir / "config.json").is_file() and epoch is None:
        return run_dir
    if not list_checkpoints(run_dir):
        raise MissingFileError(
            f"{run_dir} holds no chat model; name the --out of gemma-metamon sft or vlm train, or the folder of a "
            "downloaded Gemma 3"
        )
    return Checkpoint.find(run_dir, epoch).folder


def run_of(folder: Path) -> tuple[Path, str]:
    """The run that a model's folder belongs to and its label there, words@2; a plain folder is its own run."""
    if folder.parent.name == CHECKPOINTS:
        run_dir = folder.parent.parent
        return run_dir, f"{run_dir.resolve().name}@{folder.name.removeprefix('epoch_')}"
    return folder, folder.resolve().name


def warn_of_long(n_chats: int, what: str, context: int) -> None:
    """Says that so many chats, those "to train on" or "held out", were set aside: they have more subwords than that."""
    if n_chats:
        logger.warning("%d of the chats %s are set aside: longer than %d subwords", n_chats, what, context)


def require_place(run_dir: Path, described: Mapping[str, Mapping[str, Any]], *, resume: bool) -> None:
    """Raises ConfigError for a run that is there already, or is to go on and was made otherwise.

    DataError for one whose run.json is damaged.
    """
    there = (run_dir / RUN).is_file()
    if there:  # a process may have been killed between two renames
        put_in_order(run_dir)
        put_in_order(run_dir / CHECKPOINTS)
    if not resume:
        if there and saved_state(run_dir) is None:
            raise ConfigError(
                f"{run_dir} holds a run that was stopped before there was anything to go on from; delete it, or choose "
                "another --out"
            )
        if there or list_checkpoints(run_dir):
            raise ConfigError(f"{run_dir} already holds a run; go on with --resume, or choose another --out")
        return
    if not there:
        raise ConfigError(f"{run_dir} holds no run to go on with; leave out --resume")
    before = read_json_object(run_dir / RUN)
    for part, now in described.items():
        for name, value in now.items():
            of_part = before.get(part)
            found = of_part.get(name) if isinstance(of_part, dict) else None
            if name != "epochs" and found != value:
                raise ConfigError(
                    f"{run_dir} was begun with {name} = {found!r}, not {value!r}; give the same flags "
                    "and data, or choose another --out without --resume"
                )
    if saved_state(run_dir) is None:
        raise ConfigError(f"{run_dir} has no whole epoch to go on after; delete it, and leave out --resume")


def saved_state(run_dir: Path) -> Path | None:
    """The folder of TRL's that a run goes on from, checkpoint-<updates>; None where there is none yet."""
    whole = [path.parent for path in (run_dir / TRAINER).glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=_updates_of, default=None)


def _updates_of(saved: Path) -> int:
    updates = saved.name.rpartition("-")[2]
    return int(updates) if updates.isdecimal() else 0


@contextmanager
def writing(run_dir: Path) -> Iterator[None]:
    """Raises GemmaMetamonError, one sentence, where the run cannot be written any more: what is whole stays.

    Says how to go on where a signal ends it.
    """
    try:
        with writing_in(run_dir, "out", _how_to_go_on):
            yield
    except KeyboardInterrupt:
        logger.info("%s", _how_to_go_on(run_dir))
        raise


def _how_to_go_on(run_dir: Path) -> str:
    saved = saved_state(run_dir)
    if saved is None:
        return f"there is nothing to go on from yet: delete {run_dir}, and the same command begins it"
    return f"the run is saved up to update {_updates_of(saved)}: the same command with --resume goes on"


def write_description(run_dir: Path, described: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes run.json, whole or not at all."""
    with written_whole(run_dir / RUN) as staged:
        staged.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


class FineTuning:
    """One training: what it saves, measures and logs.

    Args:
        chat: the model.
        settings: how it is trained.
        held_out: the decisions to measure by; may be empty.
        run_dir: OUT, as above.
        tracker: where numbers go.
        reasoning: whether answers say why.
        examples: that are trained on; empty where battles are played.
        signals: what notes the signals that ask to end.

    Attributes:
        guard: keeps NaN and infinity out.
        end_asked: the number of the signal that asks to end; 0 where none has come.
        measured: what was found the last time; None where nothing is held out.
        metrics: what TRL calls a number -> what metrics.jsonl calls it.
    """

    def __init__(
        self,
        chat: ChatModel,
        settings: Settings,
        held_out: Sequence[Example],
        run_dir: Path,
        tracker: Tracker,
        *,
        reasoning: bool,
        examples: Sequence[Example] = (),
        signals: Signals = signals_unheard,
    ) -> None:
        self.chat, self.settings, self.held_out = chat, settings, held_out[: settings.held_out]
        self.run_dir, self.tracker, self.reasoning = run_dir, tracker, reasoning
        self.guard = UpdateGuard(run_dir, chat, examples)
        self.end_asked: Callable[[], int] = lambda: 0
        self._signals = signals
        self._learning_rate = 0.0
        self.measured: Measured | None = None
        self.metrics = {"loss": "loss/total", "learning_rate": "learning_rate", "grad_norm": "grad_norm"}

    def arguments(self, learning_rate: float, device: torch.device) -> dict[str, Any]:
        """What the configurations of TRL's trainers have in common."""
        settings, on_gpu = self.settings, device.type == "cuda"
        self._learning_rate = learning_rate
        return {
            "output_dir": str(self.run_dir / TRAINER),
            "num_train_epochs": settings.epochs,
            "max_steps": settings.max_updates or -1,
            "per_device_train_batch_size": settings.batch_size,
            "gradient_accumulation_steps": settings.grad_accum,
            "learning_rate": learning_rate,
            "lr_scheduler_type": "linear",
            "warmup_steps": settings.warmup_updates,
            "weight_decay": 0.0,
            "logging_nan_inf_filter": False,  # it would log other losses in place of NaN
            "logging_steps": settings.log_every,
            "save_total_limit": 1,
            "report_to": "none",
            "seed": settings.seed,
            "use_cpu": not on_gpu,
            "bf16": on_gpu,
            "activation_checkpointing": on_gpu,
            "dataloader_pin_memory": on_gpu,
        }

    def go(self, trainer: Any, *, resume: bool) -> int:
        """Trains, and returns how many updates the run has.

        Raises:
            KeyboardInterrupt: a signal asked to end; the update that was being made is finished, and saved.
            DataError: too many updates in a row had no finite loss or gradient.
            GemmaMetamonError: by what it has learned the model gives no finite loss any more.
        """
        from transformers import ProgressCallback

        trainer.remove_callback(ProgressCallback)  # it writes to stdout, where results go
        for parameter in self.chat.model.parameters():
            if parameter.requires_grad:  # TRL rounds adapters over 4 bits to bfloat16, which feels no small update
                parameter.data = parameter.data.float()
        saved = saved_state(self.run_dir) if resume else None
        if saved is not None:
            move_later_aside(self.run_dir, list_checkpoints(self.run_dir)[-1], _updates_of(saved))
            self.guard.go_on(_updates_of(saved))
        with self._signals() as self.end_asked:
            trainer.train(resume_from_checkpoint=None if saved is None else str(saved))
        if number := self.end_asked():
            raise ending(number)
        return int(trainer.state.global_step)

    def accept(self, update: int, grad_norm: torch.Tensor, *, of: int) -> bool:
        """Whether an update may be made; writes down what it held where it may not.

        Args:
            update: its number, from 1.
            grad_norm: of all gradients together.
            of: how many updates the run is to have.

        Raises DataError or GemmaMetamonError where going on would lead nowhere.
        """
        guard = self.guard
        if guard.accept(update, grad_norm):
            return True
        logger.warning(
            "update %d is left out: its loss or gradient is not finite; its rows are in %s", update, guard.record
        )
        if guard.in_a_row == 1:
            self.require_sound(update)
        if guard.in_a_row >= min(MAX_LEFT_OUT, of):
            raise DataError(
                f"{guard.in_a_row} updates in a row had no finite loss or gradient; {guard.record} names their rows, "
                f"look at them, or lower --learning_rate ({self._learning_rate:g}); {_how_to_go_on(self.run_dir)}"
            )
        return False

    def require_sound(self, updates: int) -> None:
        """Raises GemmaMetamonError where the weights are not finite, or give no finite loss."""
        if not self.guard.weights_are_sound():
            raise GemmaMetamonError(
                f"by update {updates} the weights give no finite loss any more, and are not saved; lower "
                f"--learning_rate ({self._learning_rate:g}), or raise --warmup_updates; {_how_to_go_on(self.run_dir)}"
            )

    def log(self, updates: int, logs: Mapping[str, Any]) -> None:
        """A line of metrics: of the updates that were made since the line before."""
        if "loss" not in logs:
            return
        found = {name: float(logs[theirs]) for theirs, name in self.metrics.items() if logs.get(theirs) is not None}
        del found["loss/total"]  # it counts what was left out as 0
        if self.guard.in_a_row:  # the last update had no gradient at the end
            del found["grad_norm"]
        found = {**self.guard.since_last(), **found}
        self.tracker.log(updates, {name: value for name, value in found.items() if math.isfinite(value)})

    def on_answer(self, example: Example, answer: str) -> None:
        """Is told of each free answer to a held-out decision."""

    def more(self) -> dict[str, float]:
        """What else was found of the held-out decisions, since the last time."""
        return {}

    def keep(self, number: int, updates: int) -> None:
        """Saves the model as epoch `number`, and measures it. Raises GemmaMetamonError where it has NaN in it."""
        self.require_sound(updates)
        self.chat.save(Checkpoint(self.run_dir, number).folder)  # it may be there: TRL saves later what it goes on from
        if not self.held_out:
            return
        found = measure(
            self.chat,
            self.held_out,
            generated=self.settings.generated,
            reasoning=self.reasoning,
            on_answer=self.on_answer,
        )
        self.measured = found
        numbers = {name: float(value) for name, value in vars(found).items() if value is not None}
        numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
        self.tracker.log(updates, {f"held_out/{name}": value for name, value in (numbers | self.more()).items()})
        said = [f"perplexity {found.perplexity:.3f} of held-out answers"]
        if found.agreement is not None:
            said.append(f"agrees with {found.agreement:.1%} of {found.decisions} choices")
        if found.legal_share is not None:
            said.append(f"{found.legal_share:.1%} of {found.generated} free answers are legal")
        logger.info("epoch %d: %s", number, ", ".join(said))
