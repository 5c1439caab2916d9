"""A battle file as columns of numbers; which battles are held out; which files could not be used.

No torch here: the processes of `gemma-metamon prepare` start in a fraction of a second.
"""

import functools
import hashlib
import json
import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.battle.replays import MISSING_ACTION, BattleFileName, RecordedBattle, battle_stem, load_battle
from gemma_metamon.errors import DataError
from gemma_metamon.strict_json import shown_path
from gemma_metamon.view import BattleView

logger = logging.getLogger(__name__)
_FORMAT = re.compile(r"gen[0-9]+[a-z0-9]+")
_NAME_OR_NUMBER = re.compile(r"'[^']*'|\"[^\"]*\"|-?[0-9][0-9.]*")


@dataclass(frozen=True, slots=True)
class EncodedBattle:
    """A battle as columns: what an agent sees in each state, may do, did, and got for it.

    T states, of which the last is the end: nothing is decided there. W words, N numbers, A actions.

    Attributes:
        word_ids: (T, W) int32, positions in the vocabulary, -1 for a word that is not in it.
        numbers: (T, N) float32.
        legal_actions: (T, A) bool, True where the recorded state allows the action; all False at the end.
        actions: (T,) int64, in the action space's numbering; -1 where the choice was not recorded, and at the end.
        rewards: (T,) float32, of the decision made in each state; 0 at the end.
        labels: (T,) int64, what an expert would have chosen, -1 where it was not asked, and at the end.
    """

    word_ids: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float32]
    legal_actions: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @property
    def n_decisions(self) -> int:
        """T - 1."""
        return len(self.actions) - 1


def encode_battle(path: Path, view: BattleView) -> EncodedBattle:
    """A battle file as the agent sees it. Raises DataError where it is damaged, or in the folder of another format."""
    battle = load_battle(path)
    require_format(battle, path.name, path.parent.name)
    return encode_recorded(battle, view)


def require_format(battle: RecordedBattle, name: str, folder: str) -> None:
    """Raises DataError, naming the file, for a battle that lies in a folder named like another format than its own."""
    found = battle.states[0].format
    if _FORMAT.fullmatch(folder) and found != folder:
        raise DataError(
            f"{shown_path(name)}: is a battle of {found}, among those of {folder}; move it, or leave it out"
        )


def encode_recorded(battle: RecordedBattle, view: BattleView) -> EncodedBattle:
    """A battle that has been read, as the agent sees it."""
    words, numbers = view.obs_space.observe_battle(battle.states)
    space = view.action_space
    labels = battle.labels or (MISSING_ACTION,) * len(battle.actions)
    return EncodedBattle(
        word_ids=view.vocabulary.encode(words),
        numbers=numbers,
        legal_actions=np.stack([*map(space.legal, battle.states[:-1]), np.zeros(space.n_actions, dtype=bool)]),
        actions=np.array([space.from_recorded(action) for action in battle.actions]),
        rewards=np.append(view.reward_function.of_battle(battle.states), np.float32(0)),
        labels=np.array([space.from_recorded(label) for label in labels]),
    )


@dataclass
class SetAside:
    """The battle files that could not be used. A run goes on without them, unless they are too large a share.

    Attributes:
        max_share: of the files that were read; with a larger share `check` raises.
        record: a JSON lines file, to which each is added that it does not have yet.
        reasons: the files, each with its reason.
        met: how many files were read, good ones included.
        kinds: how many files there are of each kind of reason. A kind is a reason without its names and numbers: of
            thousands of bad files most are bad in one way, so only the first of a kind is logged.
        examples: the first reason of each kind.
    """

    max_share: float
    record: Path | None = None
    reasons: dict[Path, str] = field(default_factory=dict)
    met: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path, reason: str) -> None:
        """Notes a file that could not be used."""
        self.reasons[path] = reason
        kind = _NAME_OR_NUMBER.sub("...", reason.removeprefix(f"{shown_path(path.name)}: ").split(": ")[-1])
        self.kinds[kind] += 1
        if kind not in self.examples:
            self.examples[kind] = reason
            logger.warning("set aside: %s", reason)
        line = _as_line(path, reason)
        if self.record is not None and line not in self._recorded:
            # appended, because every loader process has a list of its own
            with self.record.open("a", encoding="utf-8") as record:
                record.write(f"{line}\n")

    def write(self, path: Path) -> None:
        """All files with their reasons, as JSON lines; no file where there are none."""
        if not self.reasons:
            path.unlink(missing_ok=True)
            return
        with written_whole(path) as staged:
            staged.write_text("".join(f"{_as_line(*entry)}\n" for entry in self.reasons.items()), encoding="utf-8")

    @functools.cached_property
    def _recorded(self) -> set[str]:
        """The lines that are in `record` already: of an earlier training of the run."""
        if self.record is None or not self.record.is_file():
            return set()
        return set(self.record.read_text(encoding="utf-8").splitlines())

    def check(self, *, complete: bool = False) -> None:
        """Raises DataError where more than `max_share` of the files are bad, or all of them.

        Args:
            complete: all files have been read. Before that, fewer than 20 are too few to judge by.
        """
        bad = len(self.reasons)
        enough = self.met >= 20 or complete
        if bad and enough and (bad / self.met > self.max_share or bad == self.met):
            raise DataError(
                f"{bad} of {self.met} battle files are damaged: {bad / self.met:.0%}, and --max_set_aside allows "
                f"{self.max_share:.0%}; the first: {next(iter(self.reasons.values()))}"
            )


def _as_line(path: Path, reason: str) -> str:
    return json.dumps({"file": shown_path(path), "reason": reason})


def is_held_out(path: Path, share: float) -> bool:
    """Whether a battle is among the share that is held out. Either both players' views of a battle are, or none is."""
    return hold_out_rank(path.name) < share


def hold_out_rank(file_name: str) -> float:
    """A number in [0, 1) that a battle has by a hash of its id; with a share s, battles below s are held out."""
    stem = battle_stem(file_name)
    try:
        name = BattleFileName.parse(stem)
        key = name.battle_id + "".join(sorted((name.player, name.opponent)))
    except DataError:
        key = stem
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8], "big") / 2**64
