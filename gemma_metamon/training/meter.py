"""Means of what training measures, from one logged line to the next."""

import time
from collections import defaultdict
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from gemma_metamon.runs.resuming import METER_COUNTS


class Meter:
    """Collects scalars of updates, and gives their means since it was last asked. A left-out update does not count.

    Attributes:
        timesteps: of all batches since then, with padding; whoever trains adds to it.
        left_out: updates that were left out since then.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor | float]] = defaultdict(list)
        self._of_update: list[tuple[str, Tensor | float]] = []
        self._since = time.perf_counter()
        self.timesteps = 0
        self.left_out = 0

    def add(self, name: str, value: Tensor | float) -> None:
        """A value of the update that is being made; several of a name are averaged."""
        # kept as tensors until read: reading one waits for the GPU
        self._of_update.append((name, value.detach() if isinstance(value, Tensor) else value))

    def end_update(self, *, accepted: bool) -> None:
        """Takes over the values since the last call, or drops them where the update was not accepted."""
        if accepted:
            for name, value in self._of_update:
                self._values[name].append(value)
        else:
            self.left_out += 1
        self._of_update = []

    def state(self) -> dict[str, Tensor]:
        """All that was collected in this process since the last means, for `restore` of a run that goes on."""
        counts = [self.timesteps, self.left_out, time.perf_counter() - self._since]
        values = {name: [float(value) for value in values] for name, values in self._values.items()}
        # as bits: what is measured beside the loss may be NaN, and a checkpoint holds none
        return {
            name: torch.tensor(numbers, dtype=torch.float64).view(torch.int64)
            for name, numbers in {METER_COUNTS: counts, **values}.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on collecting where `state` was taken."""
        values = {name: bits.view(torch.float64).tolist() for name, bits in state.items()}
        timesteps, left_out, elapsed_s = values.pop(METER_COUNTS)
        self.timesteps, self.left_out = int(timesteps), int(left_out)
        self._since = time.perf_counter() - elapsed_s
        self._values = defaultdict(list, values)

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over all processes since the last call, and the timesteps per second of all processes together.

        Every process must call it, after the same updates.
        """
        elapsed = time.perf_counter() - self._since
        means = {name: sum(map(float, values)) / len(values) for name, values in sorted(self._values.items())}
        names, processes = list(means), accelerator.num_processes
        if processes > 1:
            here = torch.tensor([*(means[name] for name in names), self.timesteps], dtype=torch.float64)
            *shared, timesteps = accelerator.reduce(here.to(accelerator.device), "mean").tolist()
            means = dict(zip(names, shared, strict=True))
            self.timesteps = round(timesteps * processes)
        rates = {"timesteps_per_s": self.timesteps / elapsed, "updates_left_out": float(self.left_out)}
        self.__init__()  # type: ignore[misc]
        return means | rates
