"""A prepared store: battle files that were parsed and encoded once, so that training only has to copy arrays.

    STORE/
        store.json, words.json, shards.jsonl            see `store_files`
        <format>/00000.arrow    a shard (see `shards`): a row for each battle file, in the order of their names

The shards are memory-mapped, a few at a time, so a store may be larger than memory. They are Arrow files, because one
row can be read without decoding the others, because pandas, DuckDB and many others open them, and because metamon
needs pyarrow anyway. A damaged battle file has a row, too, so that row numbers are the same as positions in the folder:
with the same seed, training picks the same battles from the store as from the folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from gemma_metamon.data.encoding import EncodedBattle
from gemma_metamon.data.shards import ArrayPlace, Shard, ShardForm, find_damage, size_complaint
from gemma_metamon.data.store_files import STORE, WORDS, hash_lines, read_plan, read_records
from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.view import BattleView

MAPPED_SHARDS = 32
"""How many shards are mapped at a time. This bounds the memory that a store takes, whatever its size."""


@dataclass(frozen=True, slots=True)
class StoredBattle:
    """One battle of a store, which `load` reads."""

    store: "BattleStore"
    row: int

    @property
    def path(self) -> Path:
        """A path that names the battle: the store's folder and the battle file's name. There is no such file."""
        shard, row = self.store.find(self.row)
        return shard.path.parent / str(shard.names[row].as_py())

    @property
    def damage(self) -> str | None:
        """Why the battle's file could not be used; None where it could."""
        shard, row = self.store.find(self.row)
        return shard.damage_of(row)

    def load(self) -> EncodedBattle:
        """The battle. Raises DataError where its file could not be used, or a value in the store is out of range."""
        shard, row = self.store.find(self.row)
        return shard.battle(row)


class StoredBattles(Sequence[StoredBattle]):
    """Some battles of a store. Only their row numbers are kept, eight bytes a battle."""

    def __init__(self, store: "BattleStore", rows: npt.NDArray[np.int64]) -> None:
        self.store = store
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return StoredBattles(self.store, self.rows[index])
        return StoredBattle(self.store, int(self.rows[index]))

    def split(self, share: float) -> "tuple[StoredBattles, StoredBattles]":
        """The battles to train on, in the order of format and name, and those to hold out, in the order they have here.

        Args:
            share: of the battles that is held out, from 0 to 1.
        """
        ranks = self.store.hold_out_ranks(self.rows)
        trained_on = np.zeros(len(self.store), dtype=bool)
        trained_on[self.rows[ranks >= share]] = True
        held_out = self.rows[ranks < share]
        return StoredBattles(self.store, np.flatnonzero(trained_on)), StoredBattles(self.store, held_out)

    def damaged(self) -> "list[tuple[Path, str]]":
        """The battles whose files could not be used, each with the reason."""
        battles = (StoredBattle(self.store, row) for row in self.store.damaged_rows(self.rows))
        return [(battle.path, battle.damage or "") for battle in battles]


class BattleStore:
    """A prepared store, for reading. Its rows are numbered from 0, in the order of formats and of names within one.

    Args:
        root: the store's folder.
        mapped_shards: how many shards are mapped at a time; the least recently used one is forgotten first.

    Raises:
        MissingFileError: the folder is no store.
        DataError: store.json, words.json or shards.jsonl is damaged.
    """

    def __init__(self, root: Path, *, mapped_shards: int = MAPPED_SHARDS) -> None:
        self.root = root
        self.mapped_shards = mapped_shards
        self.identity, self.plans = read_plan(root)
        self.form = self._read_form()
        self.records = read_records(root)
        self._shards = [
            (shard, plan.shard_size(i))
            for name, plan in sorted(self.plans.items())
            for i, shard in enumerate(plan.shards(name))
        ]
        self._starts = np.cumsum([0] + [size for _, size in self._shards])
        self._mapped: LRUCache[int, Shard] = LRUCache(mapped_shards)
        self._places: dict[int, Mapping[str, ArrayPlace]] = {}

    def _read_form(self) -> ShardForm:
        try:
            vocabulary = Vocabulary.from_file(self.root / WORDS)
        except MissingFileError as error:
            raise DataError(f"{self.root} is damaged (it has no {WORDS}); prepare the store again") from error
        if hash_lines(vocabulary.words) != self.identity.vocabulary:
            raise DataError(
                f"{self.root / WORDS} holds other words than {self.root} was prepared with; prepare it again"
            )
        try:
            view = BattleView.from_names(
                obs_space=self.identity.obs_space,
                action_space=self.identity.action_space,
                reward_function=self.identity.reward_function,
                vocabulary=vocabulary,
            )
        except ConfigError as error:
            raise DataError(f"{self.root / STORE} is damaged ({error}); prepare the store again") from error
        return ShardForm.of(view)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": LRUCache(self.mapped_shards)}  # for loader processes, which map their own

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def formats(self) -> list[str]:
        """The formats that the store has battles of, or is to have."""
        return sorted(self.plans)

    def battles(self, formats: Sequence[str]) -> StoredBattles:
        """The battles of these formats, in that order.

        Raises:
            MissingFileError: the store has no such format.
            DataError: a shard of it is not finished, missing, or not of the size that it was written with.
        """
        rows = []
        for name in formats:
            if name not in self.plans:
                raise MissingFileError(
                    f"{self.root} holds no battle of format {name!r} (formats there: {', '.join(self.formats)}); "
                    f"prepare it with --formats {name} --out {self.root}"
                )
            self._require_whole(name)
            first = next(i for i, (shard, _) in enumerate(self._shards) if shard.startswith(f"{name}/"))
            rows.append(self._starts[first] + np.arange(self.plans[name].battles))
        return StoredBattles(self, np.concatenate(rows))

    def _require_whole(self, battle_format: str) -> None:
        shards = self.plans[battle_format].shards(battle_format)
        done = [shard for shard in shards if shard in self.records]
        if len(done) < len(shards):
            raise DataError(
                f"{self.root} is unfinished: {len(done)} of {len(shards)} shards of {battle_format} are there; "
                "run the same prepare command again, it goes on where it stopped"
            )
        for shard in shards:
            complaint = size_complaint(self.root, self.records[shard])
            if complaint is not None:
                raise DataError(
                    f"{self.root / shard} {complaint}; run the same prepare command again, it makes it anew"
                )

    @property
    def n_shards(self) -> int:
        """How many shards the store has, unfinished ones included."""
        return len(self._shards)

    def check_shards(self) -> Iterator[tuple[str, str | None]]:
        """The name of each shard, and what is wrong with it, or None. Reads every file completely."""
        for shard, _ in self._shards:
            record = self.records.get(shard)
            yield shard, "is not finished" if record is None else find_damage(self.root, record, self.form)

    def find(self, row: int) -> tuple[Shard, int]:
        """The shard that a row of the store is in, and its row there."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._map(index), row - int(self._starts[index])

    def hold_out_ranks(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The `hold_out_rank` of each of these rows. Maps each of their shards once."""
        ranks = np.empty(len(self))
        for index in self._shards_of(rows):
            ranks[self._starts[index] : self._starts[index + 1]] = self._map(index).hold_out_ranks
        return ranks[rows]

    def damaged_rows(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """Those of these rows whose battle files could not be used."""
        damaged = [
            self._starts[index] + np.flatnonzero(self._map(index).damage.is_valid())
            for index in self._shards_of(rows)
            if self.records[self._shards[index][0]].damaged
        ]
        found: list[int] = np.intersect1d(np.concatenate(damaged), rows).tolist() if damaged else []
        return found

    def _shards_of(self, rows: npt.NDArray[np.int64]) -> list[int]:
        indices: list[int] = np.flatnonzero(np.bincount(np.searchsorted(self._starts, rows, side="right") - 1)).tolist()
        return indices

    def _map(self, index: int) -> Shard:
        shard: Shard | None = self._mapped.get(index)
        if shard is None:
            name, size = self._shards[index]
            shard = Shard(self.root / name, self.form, size, self._places.get(index))
            self._places[index], self._mapped[index] = shard.places, shard
        return shard
