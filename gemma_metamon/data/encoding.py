"""A battle file as the arrays that training reads; which files are held out, which had to be set aside.

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
from gemma_metamon.battle.trajectories import observe_trajectory
from gemma_metamon.errors import DataError
from gemma_metamon.strict_json import shown_path
from gemma_metamon.view import BattleView

logger = logging.getLogger(__name__)
_FORMAT = re.compile(r"gen[0-9]+[a-z0-9]+")
_NAME_OR_NUMBER = re.compile(r"'[^']*'|\"[^\"]*\"|-?[0-9][0-9.]*")


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

    @classmethod
    def from_columns(
        cls,
        *,
        text_tokens: npt.NDArray[np.int32],
        numbers: npt.NDArray[np.float32],
        illegal_actions: npt.NDArray[np.bool_],
        chosen: npt.NDArray[np.integer],
        rewards: npt.NDArray[np.float32],
    ) -> "EncodedBattle":
        """From what is not implied by the rest: chosen (T - 1,), -1 where missing, and rewards (T - 1,)."""
        actions = np.eye(illegal_actions.shape[1], dtype=np.float32)[np.maximum(chosen, 0)]
        dones = np.zeros((len(chosen), 1), dtype=bool)
        dones[-1] = True
        rl2s = np.zeros((1 + len(chosen), 1 + actions.shape[1]), dtype=np.float32)
        rl2s[1:, 0], rl2s[1:, 1:] = rewards, actions
        return cls(
            text_tokens=text_tokens,
            numbers=numbers,
            illegal_actions=illegal_actions,
            missing_action_mask=np.append(chosen == MISSING_ACTION, True)[:, None],
            rl2s=rl2s,
            rewards=rewards[:, None],
            dones=dones,
            actions=actions,
        )

    @property
    def chosen(self) -> npt.NDArray[np.int64]:
        """(T - 1,), -1 where the choice was not revealed."""
        return np.where(self.missing_action_mask[:-1, 0], MISSING_ACTION, self.actions.argmax(axis=1))


def encode_battle(path: Path, view: BattleView) -> EncodedBattle:
    """Raises DataError where the file is damaged, or lies in the folder of another format."""
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
    """A battle that has been read."""
    trajectory = observe_trajectory(battle, view.obs_space, view.action_space, view.reward_function)
    return EncodedBattle.from_columns(
        text_tokens=view.vocabulary.encode(trajectory.words),
        numbers=trajectory.numbers,
        illegal_actions=np.concatenate([~trajectory.legal, np.ones((1, view.action_space.n), dtype=bool)]),
        chosen=trajectory.chosen,
        rewards=trajectory.rewards,
    )


@dataclass
class SetAside:
    """Battle files that could not be used, each with its reason; a run goes on unless more than a share of them is bad.

    `check` raises DataError when, of at least 20 files met, more than max_share are set aside, or none can be used.
    `record` is a JSON lines file that they are added to, unless it has them. The first of each kind of reason is
    logged: thousands of files are mostly bad in one way.
    """

    max_share: float
    record: Path | None = None
    reasons: dict[Path, str] = field(default_factory=dict)
    met: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """How many files there are of each kind of reason: a reason without names and numbers."""
    examples: dict[str, str] = field(default_factory=dict)
    """The first reason of each kind."""

    def add(self, path: Path, reason: str) -> None:
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
    """Whether a battle belongs to the held-out share. Both views of a battle always fall on the same side."""
    return hold_out_rank(path.name) < share


def hold_out_rank(file_name: str) -> float:
    """Where a battle stands, in [0, 1), among all battles ordered by a hash of their ids: the first are held out."""
    stem = battle_stem(file_name)
    try:
        name = BattleFileName.parse(stem)
        key = name.battle_id + "".join(sorted((name.player, name.opponent)))
    except DataError:
        key = stem
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8], "big") / 2**64
