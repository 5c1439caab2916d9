"""Keeps NaN and infinity out of the weights, and weights that have them off the disk.

An update whose loss or gradient is NaN or infinite is left out: neither the optimizer nor a target network is changed.
All processes decide the same. It costs reading one number per update, because clipping needs the norm of the gradients
anyway.
"""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from gemma_metamon.nets.batch import Batch
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.runs.shards import own_shard


class FiniteGuard:
    """Decides for each update whether it may be made, and before each checkpoint whether the weights may be saved.

    Args:
        accelerator: that the training uses.
        agent: without the wrapper of distributed training.
        experiment: knows how actor and critic loss are added.

    Attributes:
        left_out_in_a_row: how many updates were left out since the last that was made.
        grad_norm: that of the last update that was left out.
        moving: the buffers that a forward pass in training changes.
    """

    def __init__(self, accelerator: Accelerator, agent: Any, experiment: Experiment) -> None:
        self._accelerator = accelerator
        self._agent = agent
        self._experiment = experiment
        saved = agent.state_dict().keys()
        # a forward pass in training moves them: PopArt's statistics, the directions of the sigmas, a filter's memory
        self.moving = [buffer for name, buffer in agent.named_buffers() if name in saved]
        self.moving += agent.filter_memory().values()
        self._before: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._learnt: Batch | None = None
        self.left_out_in_a_row = 0
        self.grad_norm = 0.0

    def begin(self) -> None:
        """Called before the first batch of an update."""
        self._before = [buffer.clone() for buffer in self.moving]
        self._losses = []

    def add(self, loss: Tensor) -> None:
        """Called with the loss of each batch of the update."""
        self._losses.append(loss.detach().float())

    def accept(self, grad_norm: Tensor, batch: Batch) -> bool:
        """Whether the update may be made. If not, buffers that its batches have changed get their earlier values back.

        Args:
            grad_norm: of all gradients together.
            batch: the update's last one.
        """
        accepted = self._all_finite(torch.stack([*self._losses, grad_norm.detach().float()]).isfinite().all())
        if accepted:
            self.left_out_in_a_row = 0
            self._learnt = batch
        else:
            self.left_out_in_a_row += 1
            self.grad_norm = float(grad_norm)
            for buffer, before in zip(self.moving, self._before, strict=True):
                buffer.copy_(before)
        return accepted

    def losses(self) -> list[float]:
        """The losses of the update's batches in all processes, in the order of their windows."""
        gathered: Tensor = self._accelerator.gather(torch.stack(self._losses))  # (processes * batches,)
        return [float(loss) for loss in gathered.view(self._accelerator.num_processes, -1).T.flatten()]

    @torch.no_grad()
    def weights_are_sound(self) -> bool:
        """Whether all weights are finite and give a finite loss for the last batch that was learnt. Changes nothing."""
        weights = [own_shard(t) for t in self._agent.state_dict().values() if t.is_floating_point()]
        finite = torch.stack([weight.isfinite().all() for weight in weights])
        sound = finite.all()
        if self._learnt is not None:
            device = self._accelerator.device
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                was_training = self._agent.training
                self._agent.eval()
                losses = self._agent(self._learnt)
                self._agent.train(was_training)
            sound &= self._experiment.total_loss(self._agent, losses.actor_loss, losses.critic_loss).isfinite()
        return self._all_finite(sound)

    def _all_finite(self, here: Tensor) -> bool:
        """Whether `here` is true in every process."""
        if self._accelerator.num_processes > 1:
            return bool(self._accelerator.reduce((~here).float(), "sum") == 0)
        return bool(here)
