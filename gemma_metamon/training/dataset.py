"""Recorded battles as batches: which battle, which slice of it, padded as AMAGO pads.

Battle number i of a run depends on the seed and i alone, so the order is the same whatever the number of workers or
processes, and a resumed run goes on where it stopped.
"""

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from gemma_metamon.battle.replays import BattleFileName, battle_stem, load_battle
from gemma_metamon.battle.trajectories import observe_trajectory
from gemma_metamon.errors import DataError
from gemma_metamon.nets.batch import PAD_VALUE, Batch
from gemma_metamon.text.view import BattleView

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncodedBattle:
    """A battle as the arrays of AMAGO's batches: T states, T - 1 decisions, W words, N numbers, A actions.

    Attributes:
        text_tokens: (T, W) int32, ids of the vocabulary, -1 unknown.
        numbers: (T, N) float32.
        illegal_actions: (T, A) bool, True where illegal; all True in the terminal state.
        missing_action_mask: (T, 1) bool, True where the choice was not revealed, and in the terminal state.
        rl2s: (T, 1 + A) float32, the reward and one-hot action of the decision before; zeros at first.
        rewards: (T - 1, 1) float32.
        dones: (T - 1, 1) bool.
        actions: (T - 1, A) float32 one-hot; a missing action's is that of action 0.
    """

    text_tokens: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float32]
    illegal_actions: npt.NDArray[np.bool_]
    missing_action_mask: npt.NDArray[np.bool_]
    rl2s: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float32]
    dones: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.float32]


def encode_battle(path: Path, view: BattleView) -> EncodedBattle:
    """Raises DataError where the file is damaged."""
    trajectory = observe_trajectory(load_battle(path), view.obs_space, view.action_space, view.reward_function)
    actions = np.eye(view.action_space.n, dtype=np.float32)[np.maximum(trajectory.chosen, 0)]
    rewards = trajectory.rewards[:, None]
    return EncodedBattle(
        text_tokens=view.vocabulary.encode(trajectory.words),
        numbers=trajectory.numbers,
        illegal_actions=np.concatenate([~trajectory.legal, np.ones((1, view.action_space.n), dtype=bool)]),
        missing_action_mask=np.append(trajectory.missing, True)[:, None],
        rl2s=np.pad(np.concatenate([rewards, actions], axis=1), ((1, 0), (0, 0))),
        rewards=rewards,
        dones=trajectory.dones[:, None],
        actions=actions,
    )


class Window(NamedTuple):
    """A slice of a battle, before padding: obs, rl2s and time_idxs have one entry more than the rest."""

    obs: dict[str, npt.NDArray[np.generic]]
    rl2s: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float32]
    dones: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.float32]
    time_idxs: npt.NDArray[np.int64]


def take_window(battle: EncodedBattle, start: int, max_seq_len: int) -> Window:
    """At most max_seq_len decisions from `start` on. time_idxs count from the battle's start, not the slice's."""
    stop = min(start + max_seq_len, len(battle.rewards))
    states, decisions = slice(start, stop + 1), slice(start, stop)
    return Window(
        obs={
            "numbers": battle.numbers[states],
            "text_tokens": battle.text_tokens[states],
            "missing_action_mask": battle.missing_action_mask[states],
            "illegal_actions": battle.illegal_actions[states],
        },
        rl2s=battle.rl2s[states],
        rewards=battle.rewards[decisions],
        dones=battle.dones[decisions],
        actions=battle.actions[decisions],
        time_idxs=np.arange(start, stop + 1)[:, None],
    )


def draw_start(n_decisions: int, max_seq_len: int, rng: np.random.Generator) -> int:
    """Uniform over the starts of a whole window; 0 where the battle is no longer than one."""
    return int(rng.integers(n_decisions - max_seq_len + 1)) if n_decisions > max_seq_len else 0


def collate(windows: Sequence[Window]) -> Batch:
    """Right-pads to the longest window with AMAGO's 4.0 (True in bool arrays)."""

    def padded(arrays: Sequence[npt.NDArray[np.generic]]) -> torch.Tensor:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PAD_VALUE)

    return Batch(
        obs={key: padded([window.obs[key] for window in windows]) for key in windows[0].obs},
        rl2s=padded([window.rl2s for window in windows]),
        rews=padded([window.rewards for window in windows]),
        dones=padded([window.dones for window in windows]),
        actions=padded([window.actions for window in windows]),
        time_idxs=padded([window.time_idxs for window in windows]),
    )


@dataclass
class SetAside:
    """Battle files that could not be used, each with its reason; a run goes on unless more than a share of them is bad.

    `check` raises DataError when, of at least 20 files met, more than max_share are set aside, or none can be used.
    `record` is a JSON lines file that they are added to.
    """

    max_share: float
    record: Path | None = None
    reasons: dict[Path, str] = field(default_factory=dict)
    met: int = 0

    def add(self, path: Path, reason: str) -> None:
        self.reasons[path] = reason
        logger.warning("set aside: %s", reason)
        if self.record is not None:  # appended, because every loader process has a list of its own
            with self.record.open("a", encoding="utf-8") as record:
                record.write(json.dumps({"file": str(path), "reason": reason}) + "\n")

    def check(self, *, complete: bool = False) -> None:
        bad = len(self.reasons)
        enough = self.met >= 20 or complete
        if bad and enough and (bad / self.met > self.max_share or bad == self.met):
            raise DataError(
                f"{bad} of {self.met} battle files are damaged: {bad / self.met:.0%}, and --max_set_aside allows "
                f"{self.max_share:.0%}; the first: {next(iter(self.reasons.values()))}"
            )


def is_held_out(path: Path, share: float) -> bool:
    """Whether a battle belongs to the held-out share. Both views of a battle always fall on the same side."""
    stem = battle_stem(path.name)
    try:
        name = BattleFileName.parse(stem)
        key = name.battle_id + "".join(sorted((name.player, name.opponent)))
    except DataError:
        key = stem
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 < share


class BattleDataset(Dataset[Window]):
    """Windows of recorded battles, drawn by number.

    Args:
        sources: lists of battle files; a battle is drawn from a source by its weight, then uniformly within it.
        weights: one weight per source.
        view: what the agent is shown.
        max_seq_len: the most decisions of a window.
        seed: with the number of a draw, decides battle and slice.
        cached_battles: encoded battles kept in memory (about 30 KB each), least recently used dropped first.
        max_set_aside: the share of damaged files above which training stops.
        set_aside_record: a JSON lines file that receives each damaged file with its reason.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Path]],
        weights: Sequence[float],
        view: BattleView,
        *,
        max_seq_len: int,
        seed: int = 0,
        cached_battles: int = 5000,
        max_set_aside: float = 0.05,
        set_aside_record: Path | None = None,
    ) -> None:
        self.sources = [list(source) for source in sources]
        self.weights = np.array(weights, dtype=np.float64) / np.sum(weights)
        self.view = view
        self.max_seq_len = max_seq_len
        self.seed = seed
        self.cached_battles = cached_battles
        self.set_aside = SetAside(max_set_aside, set_aside_record)
        self._cache: OrderedDict[Path, EncodedBattle] = OrderedDict()

    @property
    def n_battles(self) -> int:
        return sum(len(source) for source in self.sources)

    def __getitem__(self, number: int) -> Window:
        rng = np.random.default_rng((self.seed, number))
        while True:
            source = self.sources[rng.choice(len(self.sources), p=self.weights)]
            battle = self.load(source[rng.integers(len(source))])
            if battle is not None:
                return take_window(battle, draw_start(len(battle.rewards), self.max_seq_len, rng), self.max_seq_len)

    def load(self, path: Path) -> EncodedBattle | None:
        """The encoded battle, or None where the file had to be set aside. Raises DataError when too many are."""
        if path in self._cache:
            self._cache.move_to_end(path)
            return self._cache[path]
        if path in self.set_aside.reasons:
            return None
        self.set_aside.met += 1
        try:
            battle = encode_battle(path, self.view)
        except (DataError, OSError) as error:
            self.set_aside.add(path, str(error))
            self.set_aside.check(complete=self.set_aside.met == self.n_battles)
            return None
        self._cache[path] = battle
        if len(self._cache) > self.cached_battles:
            self._cache.popitem(last=False)
        return battle

    def preload(self) -> None:
        """Reads everything once where the cache can hold it, so that damaged files show before training starts."""
        if self.n_battles > self.cached_battles:
            logger.info(
                "%d battles: read as they are drawn (more than the %d kept)", self.n_battles, self.cached_battles
            )
            return
        for source in self.sources:
            for path in tqdm(source, desc="reading battles", unit="battle"):
                self.load(path)
        self.set_aside.check(complete=True)


class DrawNumbers(Sampler[int]):
    """The draw numbers from start up to, not including, stop. Accelerate deals them out among the processes."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start
