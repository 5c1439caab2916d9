"""How often an agent would have chosen what was recorded, on battles it was not trained on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gemma_metamon.battle.observation_space import BLANK
from gemma_metamon.data.dataset import Battles, collate, load_encoded, take_window
from gemma_metamon.errors import DataError
from gemma_metamon.nets.batch import countable_actions
from gemma_metamon.view import BattleView


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Shares of the `decisions` recorded choices that were also the policy's most likely action.

    `majority` is the share that always taking the most frequent of these recorded actions would have.
    """

    agreement: float
    majority: float
    decisions: int


def measure_agreement(
    agent: Any,
    battles: Battles,
    view: BattleView,
    max_seq_len: int,
    *,
    blank_text: bool,
    batch_size: int = 16,
) -> Agreement | None:
    """Reads the first max_seq_len decisions of each battle; damaged files and missing choices are left out.

    Args:
        agent: a MultiTaskAgent; left in the mode it was in.
        battles: battle files, or battles of a store.
        view: what the agent is shown.
        max_seq_len: the agent's memory, in decisions.
        blank_text: replaces every word by `<blank>`, to see how much the text matters.
        batch_size: battles read at once.

    Returns:
        None where no file holds a known choice.
    """
    windows = []
    for battle in battles:
        try:
            windows.append(take_window(load_encoded(battle, view), 0, max_seq_len))
        except DataError:
            continue
    was_training = agent.training
    agent.eval()
    device = next(agent.parameters()).device
    agreed, recorded = [], []
    for first in range(0, len(windows), batch_size):
        batch = collate(windows[first : first + batch_size]).to(device)
        countable = countable_actions(batch)
        if blank_text:
            blank = int(view.vocabulary.encode(np.array([BLANK]))[0])
            batch.obs["text_tokens"].fill_(blank)
        with torch.no_grad():
            probs = agent.action_probs(batch)[:, :-1]
        chosen = batch.actions.argmax(-1)
        agreed.append((probs.argmax(-1) == chosen)[countable].cpu())
        recorded.append(chosen[countable].cpu())
    agent.train(was_training)
    if not recorded or not len(all_recorded := torch.cat(recorded)):
        return None
    return Agreement(
        agreement=float(torch.cat(agreed).float().mean()),
        majority=float(torch.bincount(all_recorded).max() / len(all_recorded)),
        decisions=len(all_recorded),
    )
