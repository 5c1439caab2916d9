"""The training loop: batches in, updates, checkpoints and metrics out, on Accelerate.

One update is: zero the gradients; forward and backward on grad_accum batches; clip the norm of all gradients; move the
target networks; step the optimizer; step the schedule. The targets move before the optimizer steps, as in AMAGO.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from gemma_metamon.nets.batch import Batch, padded_timesteps
from gemma_metamon.nets.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.training import checkpoints
from gemma_metamon.training.agreement import measure_agreement
from gemma_metamon.training.checkpoints import CheckpointMeta, RunIdentity
from gemma_metamon.training.dataset import BattleDataset, Battles, DrawNumbers, Window, collate
from gemma_metamon.training.experiment import Experiment
from gemma_metamon.training.tracking import Tracker

logger = logging.getLogger(__name__)

MAX_HELD_OUT = 256
"""Held-out battles that are played through after an epoch; more would only narrow the interval."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, in what portions: an epoch is steps_per_epoch updates of grad_accum batches of batch_size battles."""

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
        identity, config, settings: what checkpoints record of the run.
        held_out: battles that are not trained on; the agreement with the first 256 is measured after each epoch.
        tracker: receives the metrics (of the main process).
        dloader_workers: processes that read battles; 0 reads them here.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        experiment: Experiment,
        dataset: BattleDataset,
        schedule: Schedule,
        identity: RunIdentity,
        config: str,
        settings: dict[str, Any],
        held_out: Battles,
        dloader_workers: int = 0,
    ) -> None:
        self.run_dir = run_dir
        self.experiment = experiment
        self.dataset = dataset
        self.schedule = schedule
        self.identity = identity
        self.config = config
        self.settings = settings
        self.held_out = held_out[:MAX_HELD_OUT]
        self.dloader_workers = dloader_workers
        self.accelerator = Accelerator(
            gradient_accumulation_steps=schedule.grad_accum,
            mixed_precision=experiment.mixed_precision,
            # il.gin trains no critic, so some parameters get no gradient
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        set_seed(schedule.seed, device_specific=True)
        agent = experiment.build_agent(dataset.view)
        optimizer = experiment.build_optimizer(agent)
        self.agent, self.optimizer = self.accelerator.prepare(agent, optimizer)
        encoder = self.bare_agent.tstep_encoder
        if self.accelerator.is_main_process and isinstance(encoder, GemmaTstepEncoder):
            logger.info("%s", encoder.describe())
        self.epoch = 0
        self.updates = 0
        self.draws = 0

    @property
    def bare_agent(self) -> Any:
        """The agent itself, without the wrapper of distributed training."""
        return self.accelerator.unwrap_model(self.agent)

    def resume(self, epoch: int) -> None:
        """Goes on after a checkpoint: weights, optimizer, schedule, random states and the order of battles."""
        folder = checkpoints.find_checkpoint(self.run_dir, epoch)
        meta = checkpoints.read_meta(folder)
        meta.identity.require(self.identity, str(folder))
        checkpoints.load_weights(self.bare_agent, folder)
        random_states = checkpoints.load_training_state(folder, self.optimizer.optimizer)
        torch.set_rng_state(random_states["cpu"])
        if self.accelerator.device.type == "cuda" and "cuda" in random_states:
            torch.cuda.set_rng_state(random_states["cuda"], self.accelerator.device)
        self.epoch, self.updates, self.draws = meta.epoch, meta.updates, meta.draws

    def start_from(self, folder: Path) -> None:
        """Begins with a checkpoint's weights in place of random or pretrained ones; nothing else is taken over."""
        checkpoints.load_weights(self.bare_agent, folder)

    def train(self, tracker: Tracker, on_checkpoint: Callable[[Path], None] | None = None) -> None:
        """Runs to schedule.epochs, saving a checkpoint after each epoch (and one of the untrained network, epoch 0).

        The main process calls on_checkpoint with the folder of each trained one; training waits until it returns.
        """
        if self.epoch == 0:
            self._save(resumable=False)
        for _ in range(self.epoch, self.schedule.epochs):
            self._train_epoch(tracker)
            self.epoch += 1
            self._evaluate_held_out(tracker)
            self._save(resumable=True)
            if on_checkpoint is not None and self.accelerator.is_main_process:
                on_checkpoint(checkpoints.checkpoint_folder(self.run_dir, self.epoch))

    def _train_epoch(self, tracker: Tracker) -> None:
        schedule, world = self.schedule, self.accelerator.num_processes
        n_draws = schedule.steps_per_epoch * schedule.grad_accum * schedule.batch_size * world
        loader: DataLoader[Window] = DataLoader(
            self.dataset,
            batch_size=schedule.batch_size,
            sampler=DrawNumbers(self.draws, self.draws + n_draws),
            num_workers=self.dloader_workers,
            collate_fn=collate,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        meter = Meter()
        self.agent.train()
        with tqdm(
            total=schedule.steps_per_epoch,
            desc=f"epoch {self.epoch + 1}/{schedule.epochs}",
            unit="update",
            disable=not self.accelerator.is_main_process,
        ) as progress:
            for batch in self.accelerator.prepare(loader):
                self._learn(batch, meter)
                if not self.accelerator.sync_gradients:
                    continue
                self.updates += 1
                progress.update()
                if self.updates % schedule.log_interval == 0 or progress.n == schedule.steps_per_epoch:
                    metrics = meter.means()
                    progress.set_postfix({name: f"{metrics[name]:.3g}" for name in ("loss/total", "grad_norm")})
                    if self.accelerator.is_main_process:
                        tracker.log(self.updates, metrics)
        self.draws += n_draws

    def _learn(self, batch: Batch, meter: "Meter") -> None:
        with self.accelerator.accumulate(self.agent):
            losses = self.agent(batch)
            total = self.experiment.total_loss(self.bare_agent, losses.actor_loss, losses.critic_loss)
            self.accelerator.backward(total)
            meter.add("loss/total", total)
            meter.add("loss/actor", losses.actor_loss)
            meter.add("loss/critic", losses.critic_loss)
            for name, value in losses.stats.items():
                meter.add(name, value)
            meter.add("share_padding", padded_timesteps(batch.rl2s).float().mean())
            meter.timesteps += batch.rl2s.shape[0] * batch.rl2s.shape[1]
            if self.accelerator.sync_gradients:
                meter.add(
                    "grad_norm", self.accelerator.clip_grad_norm_(self.agent.parameters(), self.experiment.grad_clip)
                )
                learning_rate = self.experiment.learning_rate * self.experiment.learning_rate_factor(self.updates)
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate
                meter.add("learning_rate", learning_rate)
                self.bare_agent.update_targets()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def _evaluate_held_out(self, tracker: Tracker) -> None:
        if not self.held_out or not self.accelerator.is_main_process:
            return
        result = measure_agreement(
            self.bare_agent, self.held_out, self.dataset.view, self.experiment.max_seq_len, blank_text=False
        )
        if result is not None:
            logger.info("epoch %d: agrees with %.1f%% of held-out actions", self.epoch, 100 * result.agreement)
            tracker.log(self.updates, {"held_out/agreement": result.agreement})

    def _save(self, *, resumable: bool) -> None:
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        words = self.dataset.view.vocabulary.words
        random_states = {"cpu": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            random_states["cuda"] = torch.cuda.get_rng_state(self.accelerator.device)
        folder = checkpoints.save_checkpoint(
            self.run_dir,
            CheckpointMeta(
                identity=self.identity,
                config=self.config,
                epoch=self.epoch,
                updates=self.updates,
                draws=self.draws,
                settings=self.settings,
                vocabulary=None if self.settings["tokenizer"] is None else list(words),
            ),
            self.bare_agent,
            self.optimizer.optimizer if resumable else None,
            random_states,
        )
        logger.info("saved %s", folder)


class Meter:
    """Means of scalars since they were last read, and rates."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._values: dict[str, list[Tensor | float]] = defaultdict(list)
        self._since = time.perf_counter()
        self.timesteps = 0

    def add(self, name: str, value: Tensor | float) -> None:
        # kept as tensors until read: reading one waits for the GPU
        self._values[name].append(value.detach() if isinstance(value, Tensor) else value)

    def means(self) -> dict[str, float]:
        """The means, with timesteps_per_s; starts again from nothing."""
        elapsed = time.perf_counter() - self._since
        means = {name: float(sum(float(v) for v in values) / len(values)) for name, values in self._values.items()}
        means["timesteps_per_s"] = self.timesteps / elapsed
        self._reset()
        return means
