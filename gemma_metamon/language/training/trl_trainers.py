"""TRL's trainers as they are used here: stopped at any moment, they go on; NaN and infinity never reach the weights."""

import math
from pathlib import Path
from typing import Any

import torch

from gemma_metamon.atomic_files import as_os_errors, written_whole
from gemma_metamon.language.training.fine_tuning import FineTuning


def guarded(trainer: Any, run: FineTuning) -> Any:
    """A class of TRL's trainers that can be stopped at any moment and goes on from what it kept, and is guarded.

    To be derived from as the last: it sees what the trainer's own `compute_loss` is given.
    """

    class Guarded(_resumable(trainer, run)):  # type: ignore[misc]  # it has no types
        """Trainer scales all gradients by a norm that is not finite, and steps."""

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            run.guard.note(inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)

        def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                loss = run.guard.add(super().training_step(model, *args, **kwargs))
            except RuntimeError as error:
                if "probability tensor contains" in str(error):  # of the draw of answers
                    run.require_sound(self.state.global_step)
                raise
            if self.accelerator.sync_gradients:  # the update's last batch
                gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
                norm = torch.nn.utils.get_total_norm(gradients)
                if not run.accept(self.state.global_step + 1, norm, of=self.state.max_steps):
                    model.zero_grad()  # an optimizer passes over what has no gradient
            return loss

    return Guarded


def _resumable(trainer: Any, run: FineTuning) -> Any:
    class Resumable(trainer):  # type: ignore[misc]  # it has no types
        """TRL writes into the folder itself, and removes the one before without a look at the disk."""

        _written_to: Path | None = None

        def _get_output_dir(self, trial: Any) -> str:
            return super()._get_output_dir(trial) if self._written_to is None else str(self._written_to)

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """None: it would be one of a model called "trainer"."""

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            folder = Path(self.args.output_dir)
            with written_whole(folder) as staged, as_os_errors(folder):
                self._written_to = staged
                try:
                    super()._save_checkpoint(model, trial)
                finally:
                    self._written_to = None

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            """Reads a whole model that sees itself.

            Transformers writes its weights by the names that they have on the hub, and Trainer looks for those that
            they have in memory, finds none, and would go on from whatever the model has at the time.
            """
            chat = run.chat
            if not hasattr(chat, "processor") or chat.plan.uses_adapters or self.is_fsdp_enabled:
                super()._load_from_checkpoint(resume_from_checkpoint, model)
                return
            kept = type(chat.gemma).from_pretrained(resume_from_checkpoint)
            chat.gemma.load_state_dict(kept.state_dict())

    return Resumable


def told(run: FineTuning, bar: Any, *, keep_every: int | None = None) -> Any:
    """A callback of a trainer's that tells the run of what is done.

    Args:
        run: is told.
        bar: of progress.
        keep_every: updates after which the model is kept, and at the end; None keeps it after each epoch.
    """
    from transformers import TrainerCallback

    class Told(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bar.reset(total=state.max_steps)
            bar.update(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bar.update()
            updates = state.global_step
            if keep_every is not None and (updates % keep_every == 0 or updates == state.max_steps):
                run.keep(math.ceil(updates / keep_every), updates)
            if run.end_asked():
                control.should_training_stop = True
                control.should_save = keep_every is not None  # else it is saved where the epoch is left

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            run.log(state.global_step, logs or {})

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            number = math.ceil(state.epoch - 1e-6)
            is_whole = number - state.epoch < 1e-6 or state.global_step >= state.max_steps
            if keep_every is None and is_whole:  # else it was asked to end
                run.keep(number, state.global_step)

    return Told()
