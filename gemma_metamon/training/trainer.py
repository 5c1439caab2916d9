"""The training loop: batches in; updates, checkpoints and metrics out. Processes and devices are Accelerate's.

An update: set the gradients to zero; forward and backward on grad_accum batches; clip the norm of all gradients; move
the target networks towards the trained ones; step the optimizer. The targets move before the optimizer steps, as in
AMAGO. Where the loss or the gradient is not finite, the update ends after the clipping (see `finite`).
"""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import set_seed

from gemma_metamon.data.dataset import BattleDataset, Battles, WindowNumbers
from gemma_metamon.errors import DataError, GemmaMetamonError
from gemma_metamon.nets.agents.finetune import MetamonFinetuneAgent
from gemma_metamon.nets.batch import Batch, padded_timesteps
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.progress import progress_bar
from gemma_metamon.runs import run_folder
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.runs.identity import CheckpointMeta, RunIdentity, own_words
from gemma_metamon.runs.keeping import Keeping
from gemma_metamon.runs.loading import load_weights
from gemma_metamon.training import processes, sharding
from gemma_metamon.training.finite import FiniteGuard
from gemma_metamon.training.held_out import HeldOut
from gemma_metamon.training.left_out import MAX_LEFT_OUT, record_left_out
from gemma_metamon.training.meter import Meter
from gemma_metamon.training.ranking import is_judged, judge_battles, keep_best
from gemma_metamon.training.readers import failures_in_a_sentence, open_loader, read_batches
from gemma_metamon.training.saving import SaveEvery, Saver, go_on_from
from gemma_metamon.training.schedule import Schedule
from gemma_metamon.training.tracking import Tracker

logger = logging.getLogger(__name__)


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
        save_every: how often it is saved besides after each epoch.
        keeping: which checkpoints stay.
        sharded: whether the processes hold Gemma's layers in shards, see `sharding`.

    Attributes:
        ended_by: the number of the signal that ended `train` early, 0 where none did.
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
        save_every: SaveEvery = SaveEvery(),  # noqa: B008 it is frozen
        keeping: Keeping = Keeping(),  # noqa: B008 as above
        sharded: bool = False,
    ) -> None:
        self.run_dir = run_dir
        self.experiment = experiment
        self.dataset = dataset
        self.schedule = schedule
        self.config = config
        self.settings = dict(settings or {})
        self.dloader_workers = dloader_workers
        self.save_every = save_every
        self.keeping = keeping
        self.sharded = sharded
        self.accelerator = processes.open_accelerator(experiment.mixed_precision, schedule.grad_accum)
        if experiment.tf32 and self.accelerator.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        is_quiet = not self.accelerator.is_main_process
        self.held_out = HeldOut(held_out, dataset.view, experiment.max_seq_len, is_quiet=is_quiet)
        set_seed(schedule.seed, device_specific=True)
        agent: Any = experiment.build_agent(dataset.view)
        if sharded:
            sharding.shard(agent, self.accelerator.device)
        self.agent = self.accelerator.prepare_model(agent, evaluation_mode=sharded)  # which has no DDP around it
        self.optimizer = self.accelerator.prepare(experiment.build_optimizer(agent))
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
        self.updates_in_epoch = 0  # of the one that is being made
        self.ended_by = 0
        self._meter: Meter | None = None  # of that epoch
        self._measured: dict[str, float] = {}
        self._resumed = self._begins_anew = self._began_with_weights = False

    @property
    def bare_agent(self) -> Any:
        """The agent itself, without the wrapper of distributed training."""
        return self.accelerator.unwrap_model(self.agent)

    @property
    def _runs_agent(self) -> bool:
        """Whether this process measures what is the same in all: the main one alone, if it has all of the weights."""
        return self.accelerator.is_main_process or self.sharded

    @property
    def identity(self) -> RunIdentity:
        """What the weights mean something for."""
        return RunIdentity.of(self.dataset.view, self.bare_agent.tstep_encoder)

    def resume(self, checkpoint: Checkpoint, *, anew: bool = False) -> None:
        """Goes on after a checkpoint: weights, optimizer, schedule, random states and the order of battles.

        With `anew` as a new training of the same run: with the weights that `start_from` would take, and the battles
        that come next, but a new optimizer, whose rate warms up, a filter without memory, and a new critics' warm-up.

        Raises CheckpointMismatchError where it is of another kind of run, DataError where it is damaged.
        """
        meta = checkpoint.read_meta()
        meta.identity.require(self.identity, str(checkpoint.folder))
        self.epoch, self.updates, self.windows, self.anew_at = meta.epoch, meta.updates, meta.draws, meta.anew_at
        self._resumed = True
        if self._trains_on_best(meta.epoch):
            self._choose_battles()
        if anew:
            self.anew_at = self.updates
            self._begins_anew = True
            load_weights(self.bare_agent, checkpoint, as_start=True)
            return
        self.updates_in_epoch, self.guard.left_out_in_a_row = meta.updates_in_epoch, meta.left_out_in_a_row
        if self._runs_agent:
            self.held_out.recall(self.bare_agent, self.run_dir, self.anew_at)
        load_weights(self.bare_agent, checkpoint)
        optimizer, seed = self.optimizer.optimizer, self.schedule.seed
        measured = go_on_from(checkpoint, meta, self.bare_agent, optimizer, self.accelerator, seed)
        if measured:
            self._meter = Meter()
            self._meter.restore(measured)

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begins with a checkpoint's weights in place of random or pretrained ones; nothing else is taken over."""
        load_weights(self.bare_agent, checkpoint, as_start=True)
        self._began_with_weights = True

    def train(
        self,
        tracker: Tracker,
        on_checkpoint: Callable[[Checkpoint], None] | None = None,
        end_asked: Callable[[], int] = lambda: 0,
        in_use: Callable[[], Collection[int]] = tuple,
    ) -> None:
        """Runs to schedule.epochs, saving a checkpoint after each epoch (and one of the untrained network, epoch 0).

        Where a signal asks for the end, the update that is being made is made to its end and saved, whatever the
        schedule of saves, and `ended_by` has the signal's number. In several processes one that is asked is enough.

        Args:
            tracker: is told the numbers.
            on_checkpoint: called in the main process with each epoch's trained checkpoint; training waits until it
                returns, and ends with what it raises.
            end_asked: the number of a signal that asks this process to end, 0 where none has come.
            in_use: epochs whose checkpoints must not be removed now, for somebody reads them.

        Raises GemmaMetamonError where the numbers stop being finite, or a process that reads battles was killed; the
        checkpoints before are whole.
        """
        saver = Saver(
            self.run_dir,
            self.accelerator,
            self.save_every,
            keeping=self.keeping,
            metrics=tracker.path,
            end_asked=end_asked,
            in_use=in_use,
        )
        if not self._resumed:
            self._warn_of_new_weights()
        if not self._resumed or self._begins_anew:
            self._log_held_out(tracker, self.held_out.begin)
        if not self._resumed:
            self.save(saver)
        while self.epoch < self.schedule.epochs:
            with failures_in_a_sentence(self.run_dir):
                self.ended_by = self._train_epoch(tracker, saver)
            if self.ended_by:
                return
            self.epoch += 1
            self.updates_in_epoch = 0
            if not self.guard.weights_are_sound():
                raise self._spoiled()
            self._log_held_out(tracker, self.held_out.measure)
            self.save(saver, on_checkpoint)
            if self.epoch == self.experiment.best_after_epoch and self._trains_on_best(self.epoch):
                self._choose_battles()

    def _trains_on_best(self, epoch: int) -> bool:
        """Whether what comes after an epoch trains on the best battles alone."""
        return self.experiment.best_share is not None and epoch >= self.experiment.best_after_epoch

    def _choose_battles(self) -> None:
        """From now on those of best_share, by the critics of best_after_epoch, with whose weights the agent is left."""
        judge = Checkpoint(self.run_dir, self.experiment.best_after_epoch)
        known = processes.on_main_process(self.accelerator, lambda: is_judged(judge, self.dataset))
        if self._runs_agent and not known:
            self._forget_texts()
            is_main, max_seq_len = self.accelerator.is_main_process, self.experiment.max_seq_len
            judge_battles(self.bare_agent, judge, self.dataset, max_seq_len, write=is_main)
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

    def _train_epoch(self, tracker: Tracker, saver: Saver) -> int:
        """What is left of an epoch. Returns the number of the signal that ended it early, 0 where none did."""
        schedule = self.schedule
        of_update = schedule.grad_accum * schedule.batch_size * self.accelerator.num_processes
        left = max(0, schedule.steps_per_epoch - self.updates_in_epoch)
        numbers = WindowNumbers(self.windows, self.windows + left * of_update)
        on_gpu = self.accelerator.device.type == "cuda"
        if not self.updates_in_epoch:  # loaders once drew their seed here: old runs go on as ever
            torch.empty((), dtype=torch.int64).random_()
        loader = open_loader(self.dataset, numbers, schedule.batch_size, self.dloader_workers, pin_memory=on_gpu)
        meter, self._meter = self._meter or Meter(), None
        self._forget_texts()
        self.agent.train()
        ended_by = 0
        with progress_bar(
            total=schedule.steps_per_epoch,
            initial=self.updates_in_epoch,
            desc=f"epoch {self.epoch + 1}/{schedule.epochs}",
            unit="update",
            disable=not self.accelerator.is_main_process,
        ) as progress:
            for index, batch in enumerate(read_batches(self.accelerator.prepare(loader)) if left else ()):
                if index % schedule.grad_accum == 0:
                    self._begin_update()
                self._learn(batch, meter)
                if not self.accelerator.sync_gradients:
                    continue
                self.updates += 1
                self.updates_in_epoch += 1
                self.windows += of_update
                progress.update()
                if self.guard.left_out_in_a_row:
                    self._report_left_out(range(self.windows - of_update, self.windows))
                is_last = self.updates_in_epoch >= schedule.steps_per_epoch
                if self.updates % schedule.log_interval == 0 or is_last:
                    metrics = meter.means(self.accelerator)
                    shown = {name: metrics[name] for name in ("loss/total", "grad_norm") if name in metrics}
                    progress.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)
                    if self.accelerator.is_main_process:
                        tracker.log(self.updates, metrics)
                is_due, ended_by = saver.asked(self.updates)
                if ended_by or (is_due and not is_last):
                    self._meter = meter
                    self.save(saver)
                if ended_by:
                    break
        self._meter = None
        self._forget_texts()
        return ended_by

    def _forget_texts(self) -> None:
        """What frozen encoders keep of texts depends in its last bits on the batch that a text was first read in.

        A run that goes on from a checkpoint has read none, so one that never stopped goes on from there as it does.
        """
        for module in self.bare_agent.modules():
            if isinstance(module, GemmaTstepEncoder) and module.reader.cache is not None:
                module.reader.cache.clear()

    def _learn(self, batch: Batch, meter: Meter) -> None:
        with self.accelerator.accumulate(self.agent):
            losses, weight = self.agent(batch), processes.weight_of(batch, self.accelerator)
            total = weight * self.experiment.total_loss(self.bare_agent, losses.actor_loss, losses.critic_loss)
            self.accelerator.backward(total)
            self.guard.add(total)
            meter.add("loss/total", total)
            meter.add("loss/actor", weight * losses.actor_loss)
            meter.add("loss/critic", weight * losses.critic_loss)
            for name, value in losses.stats.items():
                meter.add(name, value)
            meter.add("share_padding", padded_timesteps(batch.rl2s).float().mean())
            meter.timesteps += batch.rl2s.shape[0] * batch.rl2s.shape[1]
            if self.accelerator.sync_gradients:
                self._end_update(batch, meter)
            self.optimizer.zero_grad()

    def _begin_update(self) -> None:
        if self.sharded:
            sharding.take_from_main(self.guard.moving)
        self.guard.begin()

    def _end_update(self, batch: Batch, meter: Meter) -> None:
        clip = sharding.clip_grad_norm if self.sharded else self.accelerator.clip_grad_norm_
        grad_norm = clip(list(self.agent.parameters()), self.experiment.grad_clip)
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
            size = len(windows) // len(losses)

            def describe(batch: int) -> dict[str, Any]:
                """Its battles; the file calls a window's number a draw."""
                numbers = windows[batch * size : (batch + 1) * size]
                return {"battles": [{"draw": number, **self.dataset.describe(number)} for number in numbers]}

            record_left_out(path, self.updates, losses, guard.grad_norm, describe)
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
        if not self._runs_agent:
            return
        measured = measure(self.bare_agent, self.epoch)
        self._measured = {name: value for name, value in measured.items() if math.isfinite(value)}
        if measured and self.accelerator.is_main_process:
            tracker.log(self.updates, measured)

    def save(self, saver: Saver, on_checkpoint: Callable[[Checkpoint], None] | None = None) -> None:
        """Saves a checkpoint of now: after an epoch, or in the middle of one.

        Args:
            saver: writes it.
            on_checkpoint: called in the main process with the checkpoint.

        Raises GemmaMetamonError where the weights are not finite any more.
        """
        if self.updates_in_epoch:  # after an epoch both have been done
            if not self.guard.weights_are_sound():
                raise self._spoiled()
            self._forget_texts()
        meta = CheckpointMeta(
            identity=self.identity,
            config=self.config,
            epoch=self.epoch,
            updates=self.updates,
            draws=self.windows,
            settings=self.settings,
            anew_at=self.anew_at,
            updates_in_epoch=self.updates_in_epoch,
            left_out_in_a_row=self.guard.left_out_in_a_row,
            measured={} if self.updates_in_epoch else self._measured,
            vocabulary=own_words(self.dataset.view.vocabulary),
        )
        saver.save(meta, self.bare_agent, self.optimizer.optimizer, self._meter, on_checkpoint)
