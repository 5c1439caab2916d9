"""How often an agent would have chosen what was recorded, on battles it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gemma_metamon.data.dataset import Window, collate
from gemma_metamon.nets.batch import countable_actions


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often a policy's most probable action was the recorded one.

    Attributes:
        agreement: the share of decisions in which it was.
        majority: the share that one would have who always takes the most frequent of the recorded actions.
        decisions: how many there are.
    """

    agreement: float
    majority: float
    decisions: int


def measure_agreement(
    agent: Any, windows: Sequence[Window], *, blank: int | None = None, batch_size: int = 16
) -> Agreement | None:
    """How often the agent would choose what was recorded. Choices that were not recorded are left out.

    Args:
        agent: a MultiTaskAgent or Agent; left in the mode it was in.
        windows: battles, of each its beginning.
        blank: the id of a word that every word is replaced by, to see how much the text matters; None leaves them.
        batch_size: windows that are read at once.

    Returns:
        None where no recorded choice is known.
    """
    was_training = agent.training
    agent.eval()
    device = next(agent.parameters()).device
    agreed, recorded = [], []
    for first in range(0, len(windows), batch_size):
        batch = collate(windows[first : first + batch_size]).to(device)
        countable = countable_actions(batch)
        if blank is not None:
            batch.obs["text_tokens"].fill_(blank)
        with torch.no_grad():
            probs = agent.action_probs(batch)[:, :-1]
        actions = batch.actions.argmax(-1)
        agreed.append((probs.argmax(-1) == actions)[countable].cpu())
        recorded.append(actions[countable].cpu())
    agent.train(was_training)
    if not recorded or not len(all_recorded := torch.cat(recorded)):
        return None
    return Agreement(
        agreement=float(torch.cat(agreed).float().mean()),
        majority=float(torch.bincount(all_recorded).max() / len(all_recorded)),
        decisions=len(all_recorded),
    )
