"""How long a training is, and in which portions."""

from dataclasses import dataclass


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
