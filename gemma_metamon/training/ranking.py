"""Which recorded battles are worth imitating, by what an agent's critics say of the decisions in them.

Weights in the loss could do the same, and upstream's ISAdvantageFilter does; but where a quarter of the battles has
nearly all the weight, three quarters of each batch teach nothing. Here batches are filled with that quarter.
"""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.data.dataset import BattleDataset, Battles, collate, load_encoded, path_of, take_window
from gemma_metamon.errors import DataError
from gemma_metamon.nets.batch import countable_actions
from gemma_metamon.progress import progress_bar
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint, checksum
from gemma_metamon.runs.loading import load_weights
from gemma_metamon.runs.run_folder import JUDGED
from gemma_metamon.training.diagnostics import MOST_PLAYERS, player_of
from gemma_metamon.view import BattleView

logger = logging.getLogger(__name__)

HELD_AGAINST = 0.5
"""The share of a state's own worth that a player is held against.

With all of it, who plays well is punished for the good states that this leads to; with nothing, whoever met weak
players seems strong.
"""


@dataclass(frozen=True)
class Played:
    """How one battle was played, by critics: means over its player's known decisions, multiplied as in training.

    Attributes:
        worth: Q(h, a), of what was done.
        of_state: V, the baseline: with `baseline = "state"`, what others get in the same states.
    """

    worth: float
    of_state: float

    def score(self, held_against: float = HELD_AGAINST) -> float:
        """What the decisions were worth, less that share of the baseline."""
        return self.worth - held_against * self.of_state


def is_judged(judge: Checkpoint, dataset: BattleDataset) -> bool:
    """Whether RUN/judged.jsonl is of this checkpoint and these battles already. Raises MissingFileError without one."""
    Checkpoint.find(judge.run_dir, judge.epoch)
    known = _read(judge.run_dir / JUDGED)
    return known is not None and known[:2] == (_hash_of(judge), _names_of(dataset))


def judge_battles(
    agent: Any, judge: Checkpoint, dataset: BattleDataset, max_seq_len: int, *, write: bool = True
) -> None:
    """Write RUN/judged.jsonl: how well the battles of a dataset were played, by the critics of a checkpoint.

    The agent is left with the checkpoint's weights.

    Args:
        agent: that the checkpoint is of.
        judge: the checkpoint of the run that trains on these battles.
        dataset: all of them.
        max_seq_len: the agent's memory, in decisions.
        write: False where another process, which judges at the same time, writes the file.
    """
    load_weights(agent, judge)
    lines = [json.dumps({"judge": _hash_of(judge)})]
    for number, (source, own) in enumerate(zip(dataset.sources, _names_of(dataset), strict=True)):
        for name, played in zip(own, judge_all(agent, source, dataset.view, max_seq_len), strict=True):
            means = {"worth": None, "of_state": None} if played is None else asdict(played)
            lines.append(json.dumps({"source": number, "file": name, **means}))
    if write:
        with written_whole(judge.run_dir / JUDGED) as staged:
            staged.write_text("\n".join(lines) + "\n", encoding="utf-8")


def keep_best(dataset: BattleDataset, run_dir: Path, share: float) -> str:
    """Train on the best of a dataset's battles alone, as RUN/judged.jsonl has them. Returns a line to log.

    Args:
        dataset: whose battles were judged.
        run_dir: the run.
        share: of each source, at least one battle.

    Raises DataError where the file is not there whole, or a source has no battle that could be judged.
    """
    names, played = read_judged(run_dir)
    scores = [[None if one is None else one.score() for one in of_source] for of_source in played]
    chosen = [best_places(of_source, share) for of_source in scores]
    if not all(map(len, chosen)):
        raise DataError("no battle could be judged: all are damaged, or show none of their player's choices")
    players = Counter(
        player_of(of_source[place]) for of_source, places in zip(names, chosen, strict=True) for place in places
    )
    n_chosen, n_all = sum(map(len, chosen)), sum(map(len, names))
    dataset.keep(chosen)
    said = f"from here on {n_chosen} of {n_all} battles are trained on, those that the critics call best played"
    if None in players or len(players) > MOST_PLAYERS:
        return said
    return said + " (" + ", ".join(f"{who} {n / n_chosen:.0%}" for who, n in players.most_common()) + ")"


def best_places(scores: Sequence[float | None], share: float) -> npt.NDArray[np.int64]:
    """The places, in order, of the largest numbers; of equal ones the first. At least one, but none of None."""
    values = np.array([np.nan if score is None else score for score in scores])
    known = np.flatnonzero(~np.isnan(values))
    best = known[np.argsort(-values[known], kind="stable")[: max(1, round(share * len(known)))]]
    return np.sort(best)


def read_judged(run_dir: Path) -> tuple[list[list[str]], list[list[Played | None]]]:
    """Of each source, its battles' file names and how they were played. Raises DataError for a file not there whole."""
    judged = _read(run_dir / JUDGED)
    if judged is None:
        raise DataError(f"{run_dir / JUDGED} is damaged; remove it, and it is written again")
    return judged[1], judged[2]


def _hash_of(judge: Checkpoint) -> str:
    return checksum(judge.folder / WEIGHTS)


def _names_of(dataset: BattleDataset) -> list[list[str]]:
    return [[path_of(battle).name for battle in source] for source in dataset.sources]


def _read(path: Path) -> tuple[str, list[list[str]], list[list[Played | None]]] | None:
    """Whose judgement the file is, and what `read_judged` gives; None where it is not there whole."""
    try:
        first, *rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        names: list[list[str]] = [[] for _ in range(1 + max(row["source"] for row in rows))]
        played: list[list[Played | None]] = [[] for _ in names]
        for row in rows:
            names[row["source"]].append(str(row["file"]))
            means = row["worth"], row["of_state"]
            played[row["source"]].append(None if None in means else Played(*map(float, means)))
        return str(first["judge"]), names, played
    except (OSError, ValueError, KeyError, TypeError):
        return None


def judge_all(
    agent: Any, battles: Battles, view: BattleView, max_seq_len: int, batch_size: int = 32
) -> list[Played | None]:
    """How each battle was played; None of a damaged one, or where no decision is known.

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
    played: list[Played | None] = []
    for first in progress_bar(range(0, len(battles), batch_size), desc="judging", unit="batch"):
        windows, rows = [], []
        for row, battle in enumerate(battles[first : first + batch_size]):
            played.append(None)
            with suppress(DataError):
                windows.append(take_window(load_encoded(battle, view), 0, max_seq_len))
                rows.append(first + row)
        if not windows:
            continue
        batch = collate(windows).to(device)
        counted = countable_actions(batch)  # (B, L)
        recorded = agent.judge_recorded(batch)  # (B, L) each
        sums = [torch.where(counted, one, 0.0).sum(1) for one in (recorded.worth, recorded.worth - recorded.advantage)]
        counts = counted.sum(1)
        means = [(total / counts).tolist() for total in sums]
        for row, count, worth, of_state in zip(rows, counts.tolist(), *means, strict=True):
            played[row] = Played(worth, of_state) if count else None
    agent.train(was_training)
    return played
