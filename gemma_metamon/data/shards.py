"""A shard: one file of a prepared store, which holds a few hundred encoded battles.

It is an uncompressed Arrow IPC file with one record batch, so that a memory-mapped array can be read where it lies in
the file. Each battle file has a row:

    name            string     of the battle file
    damage          string     why the battle file could not be used; null where it could
    hold_out_rank   float64    from 0 to 1; the battle is held out where this is below the share to hold out
    timesteps       list       an entry for each state of the battle; none where there is damage:
        text_tokens        W x int16   ids of the words; int32 where the vocabulary has more than 32,767 words
        numbers            N x float32
        illegal_actions    A x uint8   1 where the action is illegal
        chosen             int8        the action; -1 where it was not recorded
        reward             float32     of that action
        label              int8        what an expert would have chosen; -1 where it was not asked. Only in a shard that
                                       has such a battle

In the last state, the battle's end, all actions are illegal, `chosen` is -1 and `reward` 0. The columns keep their
names so that older stores can be read; in memory they are the fields of `EncodedBattle`.
"""

import hashlib
import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.battle.replays import MISSING_ACTION
from gemma_metamon.data.encoding import EncodedBattle, hold_out_rank
from gemma_metamon.errors import DataError
from gemma_metamon.strict_json import Count, on_one_line, shown_path
from gemma_metamon.text.vocabulary import UNKNOWN_ID
from gemma_metamon.view import BattleView

MAX_NUMBER = 1e6
"""The most that a number of an observation or a reward may be, plus or minus: with far more a loss is not finite."""
_DTYPES: Final = {
    pa.int8(): np.int8,
    pa.uint8(): np.uint8,
    pa.int16(): np.int16,
    pa.int32(): np.int32,
    pa.float32(): np.float32,
    pa.float64(): np.float64,
}


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What shards.jsonl says of a finished shard, by which a later reader can tell that the file is still the same.

    Attributes:
        shard: the file, relative to the store's folder.
        battles: its rows.
        damaged: how many of them have a reason in place of timesteps.
        timesteps: decisions of all battles together.
        size_bytes: of the file.
        sha256: of the file's content, in hexadecimal.
        unknown_words: the words that the vocabulary does not have, and how often each occurred.
    """

    shard: str
    battles: Count
    damaged: Count
    timesteps: Count
    size_bytes: Count
    sha256: str
    unknown_words: dict[str, Count]


@dataclass(frozen=True, kw_only=True)
class ShardForm:
    """How wide the arrays of a store's shards are.

    Attributes:
        n_words: W, the words of a turn.
        vocabulary_size: how many different words have an id.
        n_numbers: N, the numbers of a turn.
        n_actions: A.
    """

    n_words: int
    vocabulary_size: int
    n_numbers: int
    n_actions: int

    @classmethod
    def of(cls, view: BattleView) -> "ShardForm":
        """The widths of what this view shows."""
        return cls(
            n_words=view.obs_space.n_words,
            vocabulary_size=len(view.vocabulary),
            n_numbers=view.obs_space.n_numbers,
            n_actions=view.action_space.n,
        )

    def schema(self, *, labelled: bool = False) -> pa.Schema:
        """The columns of a shard, each with its type; `labelled` says whether it has labels."""
        tokens = pa.int16() if self.vocabulary_size <= np.iinfo(np.int16).max else pa.int32()
        columns = {
            "text_tokens": pa.list_(tokens, self.n_words),
            "numbers": pa.list_(pa.float32(), self.n_numbers),
            "illegal_actions": pa.list_(pa.uint8(), self.n_actions),
            "chosen": pa.int8(),
            "reward": pa.float32(),
        }
        timestep = pa.struct(columns | ({"label": pa.int8()} if labelled else {}))
        return pa.schema(
            {"name": pa.string(), "damage": pa.string(), "hold_out_rank": pa.float64(), "timesteps": pa.list_(timestep)}
        )


def write_shard(
    root: Path, shard: str, names: Sequence[str], battles: Sequence[EncodedBattle | str], view: BattleView
) -> ShardRecord:
    """Writes a shard. The file appears under its name only when it is whole.

    Args:
        root: the store's folder.
        shard: the file to write, relative to it.
        names: of the battle files.
        battles: for each of them the encoded battle, or the reason why it could not be used.
        view: that the battles were encoded for. What its vocabulary has counted as unknown goes into the record.

    Returns:
        The line for shards.jsonl.
    """
    encoded = [battle for battle in battles if isinstance(battle, EncodedBattle)]
    labelled = any((battle.labels != MISSING_ACTION).any() for battle in encoded)
    schema = ShardForm.of(view).schema(labelled=labelled)
    timestep_type = schema.field("timesteps").type.value_type
    lengths = [0 if isinstance(battle, str) else len(battle.numbers) for battle in battles]

    def rows(column: str, arrays: Sequence[npt.NDArray[Any]]) -> pa.Array:
        column_type = timestep_type.field(column).type
        dtype = _dtype_of(column_type.value_type)
        joined = np.concatenate([np.empty((0, column_type.list_size), dtype), *arrays]).astype(dtype, copy=False)
        return pa.FixedSizeListArray.from_arrays(pa.array(joined.ravel()), column_type.list_size)

    def scalars(arrays: Sequence[npt.NDArray[Any]], dtype: type[np.generic]) -> pa.Array:
        return pa.array(np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype, copy=False))

    timesteps = {
        "text_tokens": rows("text_tokens", [battle.word_ids for battle in encoded]),
        "numbers": rows("numbers", [battle.numbers for battle in encoded]),
        "illegal_actions": rows("illegal_actions", [~battle.legal_actions for battle in encoded]),
        "chosen": scalars([battle.actions for battle in encoded], np.int8),
        "reward": scalars([battle.rewards for battle in encoded], np.float32),
    }
    if labelled:
        timesteps["label"] = scalars([battle.labels for battle in encoded], np.int8)
    columns = {
        "name": pa.array([shown_path(Path(name)) for name in names], pa.string()),
        "damage": pa.array([battle if isinstance(battle, str) else None for battle in battles], pa.string()),
        "hold_out_rank": pa.array([hold_out_rank(name) for name in names], pa.float64()),
        "timesteps": pa.ListArray.from_arrays(
            pa.array(np.cumsum([0, *lengths]), pa.int32()),
            pa.StructArray.from_arrays(list(timesteps.values()), list(timesteps)),
        ),
    }
    batch = pa.record_batch(columns, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content = sink.getvalue()
    path = root / shard
    with written_whole(path) as staged:
        staged.write_bytes(content)
    return ShardRecord(
        shard=shard,
        battles=len(battles),
        damaged=len(battles) - len(encoded),
        timesteps=sum(lengths) - len(encoded),
        size_bytes=content.size,
        sha256=hashlib.sha256(content).hexdigest(),
        unknown_words=dict(view.vocabulary.unknown_counts),
    )


class ArrayPlace(NamedTuple):
    """Where an array lies in a file; `offset` is in bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int


class Shard:
    """A shard, memory-mapped for reading. What `battle` returns are copies, which outlive the map.

    Args:
        path: the file.
        form: the widths that the store says its arrays have.
        battles: the rows that the store says it has.
        places: the `places` of an earlier Shard of the same file. With them the file is not parsed and checked again.

    Raises:
        DataError: the file is damaged, or has other columns or rows than the store says. Names the file.
    """

    def __init__(
        self, path: Path, form: ShardForm, battles: int, places: Mapping[str, ArrayPlace] | None = None
    ) -> None:
        self.path = path
        self.form = form
        try:
            with path.open("rb", buffering=0) as file:
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.places = self._find_arrays() if places is None else places
            arrays = {
                name: np.ndarray(shape, dtype, self._mapped, at) for name, (dtype, shape, at) in self.places.items()
            }
            self.hold_out_ranks: npt.NDArray[np.float64] = arrays["hold_out_rank"]
            self._starts = arrays["starts"]
            if places is None:
                self._require_rows(battles)
        # Arrow's reader raises nearly any of these for a byte that is wrong
        except (pa.ArrowException, OSError, LookupError, ValueError, AttributeError, TypeError, MemoryError) as error:
            reason = on_one_line(error) or type(error).__name__
            raise DataError(
                f"{path} is damaged ({reason}); delete it and run the same prepare command again"
            ) from error
        self._text_tokens, self._numbers = arrays["text_tokens"], arrays["numbers"]
        self._illegal, self._chosen, self._rewards = arrays["illegal_actions"], arrays["chosen"], arrays["reward"]
        self._labels = arrays.get("label")

    def __len__(self) -> int:
        return len(self.hold_out_ranks)

    @property
    def names(self) -> pa.Array:
        """Strings, the names of the battle files."""
        return self._parse().column("name")

    @property
    def damage(self) -> pa.Array:
        """Strings, why a battle file could not be used; null where it could."""
        return self._parse().column("damage")

    @property
    def n_timesteps(self) -> int:
        """How many decisions all battles have together: their states without the last one of each."""
        lengths = np.diff(self._starts)
        return int(lengths.sum() - (lengths > 0).sum())

    def damage_of(self, row: int) -> str | None:
        """Why the battle file of a row could not be used; None where it could."""
        return None if self._starts[row] < self._starts[row + 1] else str(self.damage[row].as_py())

    def battle(self, row: int) -> EncodedBattle:
        """The battle of a row.

        Raises:
            DataError: its file could not be used when the store was made (with that reason), or a value in the shard
                is out of range.
        """
        if (reason := self.damage_of(row)) is not None:
            raise DataError(reason)
        states = slice(self._starts[row], self._starts[row + 1])
        chosen, labels = self._chosen[states].astype(np.int64), self._labels
        battle = EncodedBattle(
            word_ids=self._text_tokens[states].astype(np.int32),
            numbers=self._numbers[states].copy(),
            legal_actions=self._illegal[states] == 0,
            actions=chosen,
            rewards=self._rewards[states].copy(),
            labels=np.full_like(chosen, MISSING_ACTION) if labels is None else labels[states].astype(np.int64),
        )
        self._require_range("chosen", battle.actions, MISSING_ACTION, self.form.n_actions - 1)
        self._require_range("label", battle.labels, MISSING_ACTION, self.form.n_actions - 1)
        self._require_range("text_tokens", battle.word_ids, UNKNOWN_ID, self.form.vocabulary_size - 1)
        self._require_range("numbers", battle.numbers, -MAX_NUMBER, MAX_NUMBER)
        self._require_range("reward", battle.rewards, -MAX_NUMBER, MAX_NUMBER)
        if (last := battle.actions[-1]) != MISSING_ACTION:
            raise DataError(f"{self.path}: chosen ends with {last}; the last state of a battle has no action (-1)")
        return battle

    def _require_range(self, column: str, values: npt.NDArray[Any], low: float, high: float) -> None:
        """Raises DataError where a value is not in low ... high; NaN never is."""
        if not (low <= values.min() and values.max() <= high):  # both are NaN where one value is
            wrong = values[~((values >= low) & (values <= high))].flat[0]
            raise DataError(f"{self.path}: {column} holds {wrong}; expected {low:g} to {high:g}")

    def _require_rows(self, battles: int) -> None:
        """Raises ValueError unless each row has a hold_out_rank, and either two or more timesteps or a reason."""
        if len(self) != battles:
            raise ValueError(f"it holds {len(self)} battles, not {battles}")
        if not ((self.hold_out_ranks >= 0) & (self.hold_out_ranks < 1)).all():
            raise ValueError("a hold_out_rank is not in [0, 1)")
        lengths = np.diff(self._starts)
        if self._starts[0] < 0 or self._starts[-1] > self.places["chosen"].shape[0] or not (lengths >= 0).all():
            raise ValueError("its battles do not lie one after the other")
        if (lengths == 1).any():
            raise ValueError("a battle has one timestep; it needs a decision and the state after it")
        if [length == 0 for length in lengths.tolist()] != [reason is not None for reason in self.damage.to_pylist()]:
            raise ValueError("a battle has neither timesteps nor a reason for having none, or both")

    def _parse(self) -> pa.RecordBatch:
        return pa.ipc.open_file(pa.py_buffer(self._mapped)).get_batch(0)

    def _find_arrays(self) -> dict[str, ArrayPlace]:
        base = pa.py_buffer(self._mapped).address
        batch = self._parse()
        labelled = batch.schema == self.form.schema(labelled=True)
        if not labelled and batch.schema != self.form.schema():
            raise ValueError("its columns are not those of the store's observations")
        batch.validate(full=True)
        timesteps = batch.column("timesteps")
        fields = timesteps.values
        columns: dict[str, tuple[pa.Array, tuple[int, ...]]] = {
            "hold_out_rank": (batch.column("hold_out_rank"), ()),
            "starts": (timesteps.offsets, ()),
            "chosen": (fields.field("chosen"), ()),
            "reward": (fields.field("reward"), ()),
        }
        if labelled:
            columns["label"] = (fields.field("label"), ())
        for name in ("text_tokens", "numbers", "illegal_actions"):
            rows = fields.field(name)
            columns[name] = (rows.values, (rows.type.list_size,))
        nullable = [batch.column("name"), timesteps, fields, *(fields.field(i) for i in range(fields.type.num_fields))]
        if any(column.null_count for column in (*nullable, *(column for column, _ in columns.values()))):
            raise ValueError("a value is missing")
        places = {}
        for name, (column, width) in columns.items():
            dtype, values = _dtype_of(column.type), column.buffers()[1]
            offset = values.address - base + column.offset * dtype.itemsize if len(column) else 0
            if not 0 <= offset <= len(self._mapped) - len(column) * dtype.itemsize:
                raise ValueError("its arrays are not in the file as they are: it is compressed")
            places[name] = ArrayPlace(dtype, (len(column) // math.prod(width), *width), offset)
        return places


def _dtype_of(arrow: pa.DataType) -> np.dtype[Any]:
    """As NumPy has it. Raises ValueError for one that no shard has.

    Not by to_numpy or to_pandas_dtype: these import pandas where it is installed, for 40 MB in each process that reads.
    Where it is not, pyarrow's to_pandas_dtype fails, until version 25.
    """
    if arrow not in _DTYPES:
        raise ValueError(f"it has values of the type {arrow}")
    return np.dtype(_DTYPES[arrow])


def size_complaint(root: Path, record: ShardRecord) -> str | None:
    """What is wrong with a shard as far as its file's size tells: it is missing, or has another. None if nothing."""
    path = root / record.shard
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    return None if size == record.size_bytes else f"has {size} bytes, not the {record.size_bytes} it was written with"


def find_damage(root: Path, record: ShardRecord, form: ShardForm) -> str | None:
    """What is wrong with a shard, found by reading all of it: see `size_complaint`, then checksum, form and counts."""
    if (complaint := size_complaint(root, record)) is not None:
        return complaint
    path = root / record.shard
    if hashlib.sha256(path.read_bytes()).hexdigest() != record.sha256:
        return "does not have the checksum it was written with"
    try:
        shard = Shard(path, form, record.battles)
    except DataError as error:
        return f"is none: {error}"
    counts = (shard.n_timesteps, len(shard) - shard.damage.null_count)
    wanted = (record.timesteps, record.damaged)
    return None if counts == wanted else f"holds (timesteps, damaged) {counts}, not {wanted}"
