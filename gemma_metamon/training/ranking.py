"""Which recorded battles are worth imitating, by what an agent's critics say of the decisions in them."""

from contextlib import suppress
from typing import Any

import torch

from gemma_metamon.data.dataset import Battles, collate, load_encoded, take_window
from gemma_metamon.errors import DataError
from gemma_metamon.nets.batch import countable_actions
from gemma_metamon.view import BattleView


def mean_advantages(
    agent: Any, battles: Battles, view: BattleView, max_seq_len: int, batch_size: int = 32
) -> list[float | None]:
    """Of each battle the mean advantage of its player's decisions; None of a damaged one, or where none is known.

    With `baseline = "state"` it says how much more this player is expected to get than others in the same states, with
    `"policy"` how much better the player could have done.

    Args:
        agent: a MultiTaskAgent or Agent whose critics have learnt; it is left in the mode it was in.
        battles: battle files, or battles of a store.
        view: what the agent is shown.
        max_seq_len: the agent's memory, in decisions: so many of each battle are looked at, from its first on.
        batch_size: battles that are read at once.
    """
    was_training = agent.training
    agent.eval()
    device = next(agent.parameters()).device
    means: list[float | None] = []
    for first in range(0, len(battles), batch_size):
        windows, rows = [], []
        for row, battle in enumerate(battles[first : first + batch_size]):
            means.append(None)
            with suppress(DataError):
                windows.append(take_window(load_encoded(battle, view), 0, max_seq_len))
                rows.append(first + row)
        if not windows:
            continue
        batch = collate(windows).to(device)
        counted = countable_actions(batch)  # (B, L)
        advantages, _ = agent.judge_recorded(batch)  # (B, L)
        sums, counts = torch.where(counted, advantages, 0.0).sum(1).tolist(), counted.sum(1).tolist()
        for row, total, count in zip(rows, sums, counts, strict=True):
            means[row] = total / count if count else None
    agent.train(was_training)
    return means
