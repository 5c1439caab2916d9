"""The files of a prepared store: some hundred encoded battles each, as an Arrow IPC file that is mapped for reading.

A row is a battle: its file's name, its place among the held-out, and its timesteps, or why it has none. The last
timestep is the terminal state: no action (-1), no reward. Text tokens take two bytes where the vocabulary allows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gemma_metamon.battle.replays import MISSING_ACTION
from gemma_metamon.errors import DataError
from gemma_metamon.text.view import BattleView
from gemma_metamon.training.encoding import EncodedBattle, hold_out_rank


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """A finished shard: `damaged` of its battles have a reason in place of timesteps."""

    shard: str
    battles: int
    damaged: int
    timesteps: int
    size_bytes: int
    sha256: str
    unknown_words: dict[str, int]


def write_shard(
    root: Path, shard: str, names: Sequence[str], battles: Sequence[EncodedBattle | str], view: BattleView
) -> ShardRecord:
    """Writes encoded battles (or why one is none) under another name first: a shard that is there is whole.

    Returns its record, with the words that the view's vocabulary has counted as unknown.
    """
    encoded = [battle for battle in battles if isinstance(battle, EncodedBattle)]
    token_type = np.int16 if len(view.vocabulary) <= np.iinfo(np.int16).max else np.int32
    lengths = [0 if isinstance(battle, str) else len(battle.numbers) for battle in battles]
    terminal = np.zeros(1, np.float32)

    def rows(width: int, arrays: Sequence[npt.NDArray[Any]], dtype: type[np.generic]) -> pa.Array:
        joined = np.concatenate([np.empty((0, width), dtype), *arrays]).astype(dtype, copy=False)
        return pa.FixedSizeListArray.from_arrays(pa.array(joined.ravel()), width)

    def scalars(arrays: Sequence[npt.NDArray[Any]], dtype: type[np.generic]) -> pa.Array:
        return pa.array(np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype, copy=False))

    timesteps = {
        "text_tokens": rows(view.obs_space.n_words, [battle.text_tokens for battle in encoded], token_type),
        "numbers": rows(view.obs_space.n_numbers, [battle.numbers for battle in encoded], np.float32),
        "illegal_actions": rows(view.action_space.n, [battle.illegal_actions for battle in encoded], np.uint8),
        "chosen": scalars([np.append(battle.chosen, MISSING_ACTION) for battle in encoded], np.int8),
        "reward": scalars([np.append(battle.rewards[:, 0], terminal) for battle in encoded], np.float32),
    }
    columns = {
        "name": pa.array(names, pa.string()),
        "damage": pa.array([battle if isinstance(battle, str) else None for battle in battles], pa.string()),
        "hold_out_rank": pa.array([hold_out_rank(name) for name in names], pa.float64()),
        "timesteps": pa.ListArray.from_arrays(
            pa.array(np.cumsum([0, *lengths]), pa.int32()),
            pa.StructArray.from_arrays(list(timesteps.values()), list(timesteps)),
        ),
    }
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content = sink.getvalue()
    path = root / shard
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.part")
    staged.write_bytes(content)
    staged.replace(path)
    return ShardRecord(
        shard=shard,
        battles=len(battles),
        damaged=len(battles) - len(encoded),
        timesteps=sum(lengths) - len(encoded),
        size_bytes=content.size,
        sha256=hashlib.sha256(content).hexdigest(),
        unknown_words=dict(view.vocabulary.unknown_counts),
    )


class Shard:
    """A mapped Arrow file. The map ends when this is forgotten; what `battle` returns are copies.

    Raises DataError, naming the file, where it is no shard of a store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pa.memory_map(str(path)) as source:  # the map outlives the file's descriptor
                batch = pa.ipc.open_file(source).get_batch(0)
            timesteps = batch.column("timesteps")
            self.names, self.damage = batch.column("name"), batch.column("damage")
            self.hold_out_ranks: npt.NDArray[np.float64] = batch.column("hold_out_rank").to_numpy()
            self._offsets = timesteps.offsets.to_numpy()
            fields = timesteps.values
            self._chosen, self._rewards = fields.field("chosen").to_numpy(), fields.field("reward").to_numpy()
            self._text_tokens, self._numbers, self._illegal = (
                fields.field(name).values.to_numpy().reshape(-1, fields.field(name).type.list_size)
                for name in ("text_tokens", "numbers", "illegal_actions")
            )
        except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error}); delete it and run the same prepare command again") from error

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_timesteps(self) -> int:
        """Decisions: what the terminal states follow."""
        lengths = np.diff(self._offsets)
        return int(lengths.sum() - (lengths > 0).sum())

    def damage_of(self, row: int) -> str | None:
        """Why a row has no timesteps; None where it has some."""
        reason: str | None = self.damage[row].as_py() if self._offsets[row] == self._offsets[row + 1] else None
        return reason

    def battle(self, row: int) -> EncodedBattle:
        """Raises DataError with the reason where the battle's file was damaged."""
        if (reason := self.damage_of(row)) is not None:
            raise DataError(reason)
        states = slice(self._offsets[row], self._offsets[row + 1])
        decisions = slice(states.start, states.stop - 1)
        return EncodedBattle.from_columns(
            text_tokens=self._text_tokens[states].astype(np.int32),
            numbers=self._numbers[states].copy(),
            illegal_actions=self._illegal[states].astype(bool),
            chosen=self._chosen[decisions],
            rewards=self._rewards[decisions].copy(),
        )


def size_complaint(root: Path, record: ShardRecord) -> str | None:
    path = root / record.shard
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    return None if size == record.size_bytes else f"has {size} bytes, not the {record.size_bytes} it was written with"


def find_damage(root: Path, record: ShardRecord) -> str | None:
    """What is wrong with a shard: it is missing, its bytes or its counts are not those it was written with; or None."""
    if (complaint := size_complaint(root, record)) is not None:
        return complaint
    path = root / record.shard
    if hashlib.sha256(path.read_bytes()).hexdigest() != record.sha256:
        return "does not have the checksum it was written with"
    shard = Shard(path)
    counts = (len(shard), shard.n_timesteps, len(shard) - shard.damage.null_count)
    wanted = (record.battles, record.timesteps, record.damaged)
    return None if counts == wanted else f"holds (battles, timesteps, damaged) {counts}, not {wanted}"
