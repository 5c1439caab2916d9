"""Recorded battles as batches: which battle, which window of it, padded as AMAGO pads.

The windows of a run are numbered. Which one number i is depends on the seed and i alone, so the order is the same
whatever the number of workers or processes, and a resumed run goes on where it stopped.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from cachetools import LRUCache
from torch.utils.data import Dataset, Sampler

from gemma_metamon.battle.actions import rl2_of
from gemma_metamon.battle.replays import MISSING_ACTION
from gemma_metamon.data.encoding import EncodedBattle, SetAside, encode_battle, is_held_out
from gemma_metamon.data.store import StoredBattle, StoredBattles
from gemma_metamon.errors import DataError
from gemma_metamon.nets.batch import PAD_VALUE, Batch
from gemma_metamon.progress import progress_bar
from gemma_metamon.view import BattleView

logger = logging.getLogger(__name__)

Battles: TypeAlias = Sequence[Path] | StoredBattles
"""Battle files, or battles of a prepared store."""


def load_encoded(battle: Path | StoredBattle, view: BattleView) -> EncodedBattle:
    """The encoded battle. Raises DataError where its file is damaged, or was when its store was made."""
    return battle.load() if isinstance(battle, StoredBattle) else encode_battle(battle, view)


def path_of(battle: Path | StoredBattle) -> Path:
    """Of the battle's file; that of a store may be gone, or a name within its folder."""
    return battle.path if isinstance(battle, StoredBattle) else battle


def split_held_out(battles: Battles, share: float) -> tuple[Battles, Battles]:
    """The battles to train on, in order of format and name, and those to hold out.

    Args:
        battles: all of them.
        share: of the battles that is held out, from 0 to 1.
    """
    if isinstance(battles, StoredBattles):
        return battles.split(share)
    held_out = [path for path in battles if is_held_out(path, share)]
    return sorted(set(battles) - set(held_out)), held_out


class Window(NamedTuple):
    """A slice of a battle in the form of a `Batch`, whose fields these are, without its first dimension.

    L decisions, and L + 1 states: those that were decided in, and the one after. `labels` may all be -1.
    """

    obs: dict[str, npt.NDArray[np.generic]]
    rl2s: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float32]
    dones: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.float32]
    time_idxs: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]


def take_window(battle: EncodedBattle, start: int, max_seq_len: int) -> Window:
    """A part of a battle, with the names and the one-hot actions of AMAGO's batches.

    Args:
        battle: the whole one.
        start: the window's first decision.
        max_seq_len: the most decisions of a window. There are fewer where the battle ends.
    """
    stop = min(start + max_seq_len, battle.n_decisions)
    states, before = slice(start, stop + 1), slice(max(start - 1, 0), stop)
    rl2s = rl2_of(battle.rewards[before], battle.actions[before], battle.legal_actions.shape[1])
    if start == 0:  # no decision is before the battle's first state
        rl2s = np.concatenate([np.zeros_like(rl2s[:1]), rl2s])
    dones = np.zeros((stop - start, 1), dtype=bool)
    dones[-1] = stop == battle.n_decisions
    return Window(
        obs={
            "numbers": battle.numbers[states],
            "text_tokens": battle.word_ids[states],
            "missing_action_mask": battle.actions[states, None] == MISSING_ACTION,
            "illegal_actions": ~battle.legal_actions[states],
        },
        rl2s=rl2s,
        rewards=rl2s[1:, :1],  # what a state is told of the decision before is that decision's
        dones=dones,
        actions=rl2s[1:, 1:],
        time_idxs=np.arange(start, stop + 1)[:, None],
        labels=battle.labels[start:stop],
    )


def pick_start(n_decisions: int, max_seq_len: int, rng: np.random.Generator) -> int:
    """The first decision of a random window: all that leave max_seq_len decisions are equally likely, else it is 0."""
    return int(rng.integers(n_decisions - max_seq_len + 1)) if n_decisions > max_seq_len else 0


def collate(windows: Sequence[Window]) -> Batch:
    """A batch of windows, each padded on the right to the longest with AMAGO's 4.0 (True in bool arrays)."""

    def padded(arrays: Sequence[npt.NDArray[np.generic]]) -> torch.Tensor:
        first, longest = arrays[0], max(map(len, arrays))
        batch = np.empty((len(arrays), longest, *first.shape[1:]), dtype=first.dtype)
        for row, array in zip(batch, arrays, strict=True):
            row[: len(array)], row[len(array) :] = array, PAD_VALUE
        return torch.from_numpy(batch)

    labelled = any((window.labels != MISSING_ACTION).any() for window in windows)
    return Batch(
        obs={key: padded([window.obs[key] for window in windows]) for key in windows[0].obs},
        rl2s=padded([window.rl2s for window in windows]),
        rewards=padded([window.rewards for window in windows]),
        dones=padded([window.dones for window in windows]),
        actions=padded([window.actions for window in windows]),
        time_idxs=padded([window.time_idxs for window in windows]),
        labels=padded([window.labels for window in windows]) if labelled else None,
    )


class BattleDataset(Dataset[Window]):
    """Random windows of recorded battles, by number: `dataset[i]` is always the same one.

    Args:
        sources: each is some battle files, or battles of a store. A source is picked by its weight, and a battle of it
            with equal chances.
        weights: a weight for each source.
        view: what the agent is shown.
        max_seq_len: the most decisions of a window.
        seed: with the number of a window decides which one it is.
        cached_battles: how many encoded files are kept in memory (about 20 KB each); the least recently used one is
            forgotten first.
        max_set_aside: the share of damaged files above which training stops.
        set_aside_record: a JSON lines file, to which each damaged file is added with its reason.

    Attributes:
        n_battles: of all sources together, before `keep`.
    """

    def __init__(
        self,
        sources: Sequence[Battles],
        weights: Sequence[float],
        view: BattleView,
        *,
        max_seq_len: int,
        seed: int = 0,
        cached_battles: int = 5000,
        max_set_aside: float = 0.05,
        set_aside_record: Path | None = None,
    ) -> None:
        self.sources = list(sources)
        self.n_battles = sum(map(len, self.sources))
        self.weights = np.array(weights, dtype=np.float64) / np.sum(weights)
        self.view = view
        self.max_seq_len = max_seq_len
        self.seed = seed
        self.cached_battles = cached_battles
        self.set_aside = SetAside(max_set_aside, set_aside_record)
        self._cache: LRUCache[Path, EncodedBattle] = LRUCache(cached_battles)

    def keep(self, chosen: Sequence[npt.NDArray[np.int64]]) -> None:
        """Take windows from some battles alone from now on; none of the numbers of windows changes.

        Args:
            chosen: for each source the places of those in it.
        """
        self.sources = [
            StoredBattles(source.store, source.rows[places])
            if isinstance(source, StoredBattles)
            else [source[place] for place in places]
            for source, places in zip(self.sources, chosen, strict=True)
        ]

    def __getitem__(self, number: int) -> Window:
        _, battle, start = self._pick(number)
        return take_window(battle, start, self.max_seq_len)

    def describe(self, number: int) -> dict[str, str | int]:
        """The file that a window is of, and its first decision there."""
        battle, _, start = self._pick(number)
        return {"file": str(path_of(battle)), "first_decision": start}

    def _pick(self, number: int) -> tuple[Path | StoredBattle, EncodedBattle, int]:
        """Battle and first decision of a window. A damaged battle is passed over for another."""
        rng = np.random.default_rng((self.seed, number))
        while True:
            source = self.sources[rng.choice(len(self.sources), p=self.weights)]
            picked = source[int(rng.integers(len(source)))]
            battle = self.load(picked)
            if battle is not None:
                return picked, battle, pick_start(battle.n_decisions, self.max_seq_len, rng)

    def load(self, battle: Path | StoredBattle) -> EncodedBattle | None:
        """The encoded battle, or None where the file had to be set aside. Raises DataError when too many are."""
        return self._load_stored(battle) if isinstance(battle, StoredBattle) else self._load_file(battle)

    def _load_stored(self, battle: StoredBattle) -> EncodedBattle | None:
        if battle.damage is not None:
            return None
        try:
            return battle.load()
        except DataError as error:
            if (path := battle.path) not in self.set_aside.reasons:
                self.set_aside.add(path, str(error))
                self.set_aside.check()
            return None

    def _load_file(self, path: Path) -> EncodedBattle | None:
        if (known := self._cache.get(path)) is not None:
            return known
        if path in self.set_aside.reasons:
            return None
        self.set_aside.met += 1
        try:
            battle = encode_battle(path, self.view)
        except (DataError, OSError) as error:
            self.set_aside.add(path, str(error))
            self.set_aside.check(complete=self.set_aside.met == self.n_battles)
            return None
        if self.cached_battles:
            self._cache[path] = battle
        return battle

    def preload(self) -> None:
        """Reads all files where the cache can hold them, so that damaged ones are known before training starts.

        Those that were damaged when a store was prepared are known from the store.
        """
        files: list[Path] = []
        for source in self.sources:
            if isinstance(source, StoredBattles):
                self.set_aside.met += len(source)
                for path, reason in source.damaged():
                    self.set_aside.add(path, reason)
            else:
                files += source
        fits = len(files) <= self.cached_battles
        if fits:
            for path in progress_bar(files, desc="reading battles", unit="battle", disable=not files):
                self._load_file(path)
        else:
            logger.info("%d battles: read as they are needed (more than the %d kept)", len(files), self.cached_battles)
        self.set_aside.check(complete=fits)


class WindowNumbers(Sampler[int]):
    """The numbers of windows from start up to, not including, stop. Accelerate divides them among the processes."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start
