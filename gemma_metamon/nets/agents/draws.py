"""Every random number that an agent's losses draw, behind one object, so that recorded ones can be put in its place."""

import torch
from torch import Tensor


class Draws:
    """Draws from torch's generator of the tensors' device, or from the one given.

    A subclass that replays recorded draws gets the calls of one update in this order: `action_samples` (target actor),
    `critic_subset`, `action_samples` (actor), and, with the online term, `gumbel_noise` once per sampled action.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def action_samples(self, probs: Tensor, num_samples: int) -> Tensor:
        """Probabilities (B, T, G, A) -> action indices (num_samples, B, T, G) long.

        Where they are NaN any action is drawn: the loss is NaN anyway, and is for whoever trains to judge.
        """
        drawable = probs.flatten(0, -2).nan_to_num(nan=1.0)  # of NaN torch draws nothing, and CUDA ends the process
        flat = torch.multinomial(drawable, num_samples, replacement=True, generator=self.generator)
        return flat.T.reshape(num_samples, *probs.shape[:-1])

    def critic_subset(self, num_critics: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Uniform indices of critics, with replacement, of that shape."""
        return torch.randint(num_critics, shape, generator=self.generator, device=device)

    def gumbel_noise(self, logits: Tensor) -> Tensor:
        """Standard Gumbel noise of the shape of `logits`."""
        return -torch.empty_like(logits).exponential_(generator=self.generator).log()
