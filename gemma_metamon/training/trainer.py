"""The training loop: batches in; updates, checkpoints and metrics out. Processes and devices are Accelerate's.

An update: set the gradients to zero; forward and backward on grad_accum batches; clip the norm of all gradients; move
the target networks towards the trained ones; step the optimizer. The targets move before the optimizer steps, as in
AMAGO. Where the loss or the gradient is not finite, the update ends after the clipping (see `finite`).
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, gather_object, set_seed
from torch import Tensor
from torch.utils.data import DataLoader

from gemma_metamon.data.dataset import BattleDataset, Battles, Window, WindowNumbers, collate
from gemma_metamon.errors import DataError, GemmaMetamonError
from gemma_metamon.nets.agents.finetune import MetamonFinetuneAgent
from gemma_metamon.nets.batch import Batch, padded_timesteps
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.progress import progress_bar
from gemma_metamon.runs import resuming, run_folder
from gemma_metamon.runs.checkpoints import Checkpoint, write_checkpoint
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.runs.identity import CheckpointMeta, RunIdentity, own_words
from gemma_metamon.runs.loading import load_weights
from gemma_metamon.training.finite import MAX_LEFT_OUT, FiniteGuard, record_left_out
from gemma_metamon.training.held_out import HeldOut
from gemma_metamon.training.meter import Meter
from gemma_metamon.training.ranking import judge_battles, keep_best
from gemma_metamon.training.tracking import Tracker

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long to train, and in which portions.

    Attributes:
        epochs: after each of which a checkpoint is saved.
        steps_per_epoch: updates of an epoch.
        batch_size: battles in a batch, in each process.
        grad_accum: batches of an update, whose gradients are averaged.
        seed: of the weights, of the windows of battles, and of what is random in training.
        log_interval: updates between two lines of metrics.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    grad_accum: int = 1
    seed: int = 0
    log_interval: int = 20


class Trainer:
    """Trains one agent from the beginning or from a checkpoint.

    Args:
        run_dir: where checkpoints go.
        experiment: what gin set.
        dataset: the battles.
        schedule: how long, in what portions, and the seed.
        config: the resolved gin configuration as text; every checkpoint records it, to build the agent again from.
        settings: what else checkpoints are to record of the run, as JSON; the command line puts its flags here.
        held_out: battles that are not trained on; see `HeldOut`, which measures on the first 256 of them.
        dloader_workers: processes that read battles; 0 reads them here.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        experiment: Experiment,
        dataset: BattleDataset,
        schedule: Schedule,
        config: str,
        settings: Mapping[str, Any] | None = None,
        held_out: Battles = (),
        dloader_workers: int = 0,
    ) -> None:
        self.run_dir = run_dir
        self.experiment = experiment
        self.dataset = dataset
        self.schedule = schedule
        self.config = config
        self.settings = dict(settings or {})
        self.held_out = HeldOut(held_out, dataset.view, experiment.max_seq_len)
        self.dloader_workers = dloader_workers
        # Accelerate keeps a process's first precision, and refuses another; a process may train twice
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            gradient_accumulation_steps=schedule.grad_accum,
            mixed_precision=experiment.mixed_precision,
            # il.gin trains no critic, so some parameters get no gradient
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        if experiment.tf32 and self.accelerator.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        set_seed(schedule.seed, device_specific=True)
        agent = experiment.build_agent(dataset.view)
        optimizer = experiment.build_optimizer(agent)
        self.agent, self.optimizer = self.accelerator.prepare(agent, optimizer)
        encoder = self.bare_agent.tstep_encoder
        if self.accelerator.is_main_process and isinstance(encoder, GemmaTstepEncoder):
            logger.info("%s%s", encoder.describe(), experiment.describe_precision(self.accelerator.device.type))
        if self.accelerator.is_main_process and self.bare_agent.trains_critics_alone:
            logger.info("online_coeff and offline_coeff are 0: the critics train alone, encoders and actor are frozen")
        self.guard = FiniteGuard(self.accelerator, self.bare_agent, experiment)
        self.epoch = 0
        self.updates = 0
        self.windows = 0  # learnt from in all processes together; checkpoints call it draws
        self.anew_at = 0  # the update before which optimizer and learning rate began
        self._resumed = self._began_with_weights = False

    @property
    def bare_agent(self) -> Any:
        """The agent itself, without the wrapper of distributed training."""
        return self.accelerator.unwrap_model(self.agent)

    @property
    def identity(self) -> RunIdentity:
        """What the weights mean something for."""
        return RunIdentity.of(self.dataset.view, self.bare_agent.tstep_encoder)

    def resume(self, epoch: int, *, anew: bool = False) -> None:
        """Goes on after a checkpoint: weights, optimizer, schedule, random states and the order of battles.

        With `anew` as a new training of the same run: with the weights that `start_from` would take, and the battles
        that come next, but a new optimizer, whose rate warms up, a filter without memory, and a new critics' warm-up.

        Raises CheckpointMismatchError where another number of processes saved it, or another kind of run.
        """
        checkpoint = Checkpoint.find(self.run_dir, epoch)
        meta = checkpoint.read_meta()
        meta.identity.require(self.identity, str(checkpoint.folder))
        self.epoch, self.updates, self.windows, self.anew_at = meta.epoch, meta.updates, meta.draws, meta.anew_at
        self._resumed = True
        if self._trains_on_best(meta.epoch):
            self._choose_battles()
        if anew:
            self.anew_at = self.updates
            load_weights(self.bare_agent, checkpoint, as_start=True)
            return
        resuming.require_processes(checkpoint, self.accelerator.num_processes)
        if self.accelerator.is_main_process:
            self.held_out.recall(self.bare_agent, self.run_dir)
        load_weights(self.bare_agent, checkpoint)
        random_states = resuming.load_training_state(checkpoint, self.optimizer.optimizer, self.bare_agent)
        process = self.accelerator.process_index
        torch.set_rng_state(random_states[resuming.random_state_name("cpu", process)])
        cuda = resuming.random_state_name("cuda", process)
        if self.accelerator.device.type == "cuda" and cuda in random_states:
            torch.cuda.set_rng_state(random_states[cuda], self.accelerator.device)

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begins with a checkpoint's weights in place of random or pretrained ones; nothing else is taken over."""
        load_weights(self.bare_agent, checkpoint, as_start=True)
        self._began_with_weights = True

    def train(
        self,
        tracker: Tracker,
        on_checkpoint: Callable[[Checkpoint], None] | None = None,
        on_update: Callable[[], None] | None = None,
    ) -> None:
        """Runs to schedule.epochs, saving a checkpoint after each epoch (and one of the untrained network, epoch 0).

        The main process calls on_checkpoint with each trained one, and every process on_update after each
        update; training waits until they return, and ends with what they raise.

        Raises GemmaMetamonError where the numbers stop being finite, or a process that reads battles was killed; the
        checkpoints before are whole.
        """
        if not self._resumed:
            self._warn_of_new_weights()
            self._save()
        if self.updates == self.anew_at:
            self._log_held_out(tracker, self.held_out.begin)
        for _ in range(self.epoch, self.schedule.epochs):
            with _reader_failures(self.run_dir):
                self._train_epoch(tracker, on_update)
            self.epoch += 1
            if not self.guard.weights_are_sound():
                raise self._spoiled()
            self._log_held_out(tracker, self.held_out.measure)
            self._save()
            if self.epoch == self.experiment.best_after_epoch and self._trains_on_best(self.epoch):
                self._choose_battles()
            if on_checkpoint is not None and self.accelerator.is_main_process:
                on_checkpoint(Checkpoint(self.run_dir, self.epoch))

    def _trains_on_best(self, epoch: int) -> bool:
        """Whether what comes after an epoch trains on the best battles alone."""
        return self.experiment.best_share is not None and epoch >= self.experiment.best_after_epoch

    def _choose_battles(self) -> None:
        """From now on those of best_share, by the critics of best_after_epoch, with whose weights the agent is left."""
        if self.accelerator.is_main_process:
            self._forget_texts()
            judge = Checkpoint.find(self.run_dir, self.experiment.best_after_epoch)
            judge_battles(self.bare_agent, judge, self.dataset, self.experiment.max_seq_len)
        self.accelerator.wait_for_everyone()
        said = keep_best(self.dataset, self.run_dir, cast("float", self.experiment.best_share))
        if self.accelerator.is_main_process:
            logger.info("epoch %d: %s", self.experiment.best_after_epoch, said)

    def _warn_of_new_weights(self) -> None:
        if self._began_with_weights or not self.accelerator.is_main_process:
            return
        if isinstance(self.bare_agent, MetamonFinetuneAgent):
            logger.warning("nothing was learnt before that this fine-tuning could keep; --init_from RUN gives a run")
        elif self.bare_agent.trains_critics_alone:
            logger.warning("the critics come to judge a policy that has learnt nothing; --init_from RUN gives one")

    def _train_epoch(self, tracker: Tracker, on_update: Callable[[], None] | None) -> None:
        schedule, world = self.schedule, self.accelerator.num_processes
        windows_of_update = schedule.grad_accum * schedule.batch_size * world
        n_windows = schedule.steps_per_epoch * windows_of_update
        loader: DataLoader[Window] = DataLoader(
            self.dataset,
            batch_size=schedule.batch_size,
            sampler=WindowNumbers(self.windows, self.windows + n_windows),
            num_workers=self.dloader_workers,
            collate_fn=collate,
            worker_init_fn=_be_a_reader,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        meter = Meter()
        self._forget_texts()
        self.agent.train()
        first = self.updates
        with progress_bar(
            total=schedule.steps_per_epoch,
            desc=f"epoch {self.epoch + 1}/{schedule.epochs}",
            unit="update",
            disable=not self.accelerator.is_main_process,
        ) as progress:
            for index, batch in enumerate(self.accelerator.prepare(loader)):
                if index % schedule.grad_accum == 0:
                    self.guard.begin()
                self._learn(batch, meter)
                if not self.accelerator.sync_gradients:
                    continue
                self.updates += 1
                progress.update()
                done = self.updates - first
                if self.guard.left_out_in_a_row:
                    first_window = self.windows + (done - 1) * windows_of_update
                    self._report_left_out(range(first_window, first_window + windows_of_update))
                if self.updates % schedule.log_interval == 0 or done == schedule.steps_per_epoch:
                    metrics = meter.means(self.accelerator)
                    shown = {name: metrics[name] for name in ("loss/total", "grad_norm") if name in metrics}
                    progress.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)
                    if self.accelerator.is_main_process:
                        tracker.log(self.updates, metrics)
                if on_update is not None:
                    on_update()
        self.windows += n_windows

    def _forget_texts(self) -> None:
        """What frozen encoders keep of texts depends in its last bits on the batch that a text was first read in.

        A run that goes on after an epoch has read none, so one that never stopped begins the epoch as it does.
        """
        for module in self.bare_agent.modules():
            if isinstance(module, GemmaTstepEncoder) and module.reader.cache is not None:
                module.reader.cache.clear()

    def _learn(self, batch: Batch, meter: Meter) -> None:
        with self.accelerator.accumulate(self.agent):
            losses = self.agent(batch)
            total = self.experiment.total_loss(self.bare_agent, losses.actor_loss, losses.critic_loss)
            self.accelerator.backward(total)
            self.guard.add(total)
            meter.add("loss/total", total)
            meter.add("loss/actor", losses.actor_loss)
            meter.add("loss/critic", losses.critic_loss)
            for name, value in losses.stats.items():
                meter.add(name, value)
            meter.add("share_padding", padded_timesteps(batch.rl2s).float().mean())
            meter.timesteps += batch.rl2s.shape[0] * batch.rl2s.shape[1]
            if self.accelerator.sync_gradients:
                self._end_update(batch, meter)
            self.optimizer.zero_grad()

    def _end_update(self, batch: Batch, meter: Meter) -> None:
        grad_norm = self.accelerator.clip_grad_norm_(self.agent.parameters(), self.experiment.grad_clip)
        accepted = self.guard.accept(grad_norm, batch)
        if accepted:
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate
            self.bare_agent.update_targets()
            self.optimizer.step()
        meter.add("grad_norm", grad_norm)
        meter.add("learning_rate", self._learning_rate)
        meter.end_update(accepted=accepted)

    def _report_left_out(self, windows: range) -> None:
        """Names the battles of the update, in every process; raises where going on would lead nowhere."""
        guard, path = self.guard, self.run_dir / run_folder.NOT_FINITE
        losses = guard.losses()
        if self.accelerator.is_main_process:
            record_left_out(path, self.updates, losses, guard.grad_norm, windows, self.dataset)
            logger.warning(
                "update %d is left out: its loss or gradient is not finite; its battles are in %s", self.updates, path
            )
        if guard.left_out_in_a_row == 1 and not guard.weights_are_sound():
            raise self._spoiled()
        if guard.left_out_in_a_row >= min(MAX_LEFT_OUT, self.schedule.steps_per_epoch):
            raise DataError(
                f"{guard.left_out_in_a_row} updates in a row had no finite loss or gradient; {path} names their "
                f"battles, look at them with gemma-metamon inspect; {run_folder.how_to_go_on(self.run_dir)}"
            )

    def _spoiled(self) -> GemmaMetamonError:
        rate = self.experiment.learning_rate
        return GemmaMetamonError(
            f"by update {self.updates} the weights give no finite loss any more, and are not saved; lower "
            f"MetamonAMAGOExperiment.learning_rate ({rate:g}), or raise its lr_warmup_steps; "
            f"{run_folder.how_to_go_on(self.run_dir)}"
        )

    @property
    def _learning_rate(self) -> float:
        """Of the update that comes next."""
        return self.experiment.learning_rate * self.experiment.learning_rate_factor(self.updates - self.anew_at)

    def _log_held_out(self, tracker: Tracker, measure: Callable[[Any, int], dict[str, float]]) -> None:
        if self.accelerator.is_main_process and (measured := measure(self.bare_agent, self.epoch)):
            tracker.log(self.updates, measured)

    def _save(self) -> None:
        random_states = self._random_states()
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        checkpoint = write_checkpoint(
            self.run_dir,
            CheckpointMeta(
                identity=self.identity,
                config=self.config,
                epoch=self.epoch,
                updates=self.updates,
                draws=self.windows,
                settings=self.settings,
                anew_at=self.anew_at,
                vocabulary=own_words(self.dataset.view.vocabulary),
            ),
            self.bare_agent.state_dict(),
            resuming.training_state(self.optimizer.optimizer, self.bare_agent, random_states),
        )
        logger.info("saved %s", checkpoint.folder)

    def _random_states(self) -> dict[str, Tensor]:
        """Of all processes, in every one."""
        own = {"cpu": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.accelerator.device)
        every = [own] if self.accelerator.num_processes == 1 else gather_object([own])
        return {
            resuming.random_state_name(kind, i): state
            for i, states in enumerate(every)
            for kind, state in states.items()
        }


def _be_a_reader(_number: int) -> None:
    """In a process that reads battles: its thread that hands them over says nothing of a training that has ended."""
    said = sys.excepthook

    def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, (EOFError, ConnectionError)):
            said(kind, error, trace)

    sys.excepthook = say


@contextmanager
def _reader_failures(run_dir: Path) -> Iterator[None]:
    """What happens in a process that reads battles, as one sentence."""
    try:
        yield
    except DataError as error:  # torch puts the traceback of its process in front
        raise DataError(str(error).strip().rpartition("\n")[2].removeprefix(f"{_full_name(DataError)}: ")) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise GemmaMetamonError(
            f"a process that reads battles was killed, perhaps for want of memory ({str(error).splitlines()[0]}); "
            f"{run_folder.how_to_go_on(run_dir)}, perhaps with fewer --dloader_workers"
        ) from error


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
