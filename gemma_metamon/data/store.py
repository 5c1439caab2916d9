"""Recorded battles made ready for training once: observations in Arrow files, mapped into memory and never held there.

    STORE/
        store.json              what the observations are, and how the battles of each format are dealt into shards
        words.json              the vocabulary: a text token is a position in this list, -1 a word that is not in it
        shards.jsonl            a line per finished shard: its counts, size and checksum
        <format>/00000.arrow    an Arrow IPC file: a row per battle file, in the order of their names

Arrow, because a row of a mapped file is read without decoding or copying the others, everything from pandas to DuckDB
opens it, and metamon already brings pyarrow along. A damaged battle keeps its row, with its reason and no timesteps,
so that the same seed draws the same battles from the store as from the folder that it was made of.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from gemma_metamon import __version__
from gemma_metamon.atomic_files import written_whole
from gemma_metamon.data.encoding import EncodedBattle
from gemma_metamon.data.shards import ArrayPlace, Shard, ShardForm, ShardRecord, find_damage, size_complaint
from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.strict_json import (
    MAX_BYTES,
    Count,
    on_one_line,
    parse_json,
    parse_json_object,
    read_bounded,
    read_dataclass,
    shown,
)
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.view import BattleView

STORE, WORDS, SHARDS = "store.json", "words.json", "shards.jsonl"
SET_ASIDE = "set_aside.jsonl"
LAYOUT = 1
MAX_SHARDS = 1_000_000
"""Of a format: some 500 million battles. A plan of more is no plan."""
_SHARD = re.compile(r"(?P<format>.+)/[0-9]{5,9}\.arrow")
MAPPED_SHARDS = 32
"""Shards that are mapped at a time: the bound of what a store of any size takes of memory."""


@dataclass(frozen=True, kw_only=True)
class StoreIdentity:
    """What the observations of a store mean something for; `vocabulary` is a hash of its words."""

    obs_space: str
    action_space: str
    reward_function: str
    vocabulary: str

    @classmethod
    def of(cls, view: BattleView) -> "StoreIdentity":
        return cls(
            obs_space=view.obs_space.name,
            action_space=view.action_space.name,
            reward_function=view.reward_function.name,
            vocabulary=hash_lines(view.vocabulary.words),
        )

    def require(self, view: BattleView, root: Path) -> None:
        """Raises ConfigError with both values and the mend where this run would see the battles differently."""
        for name, asked in asdict(StoreIdentity.of(view)).items():
            prepared = getattr(self, name)
            if prepared != asked:
                flag = f"--tokenizer {root / WORDS}" if name == "vocabulary" else f"--{name} {on_one_line(prepared)}"
                raise ConfigError(
                    f"{root} was prepared with {name} {prepared!r}, but this run uses {asked!r}; "
                    f"use {flag}, or prepare another store"
                )


@dataclass(frozen=True, kw_only=True)
class FormatPlan:
    """The battle files of a format when preparing began (their names as a hash), dealt out in order of name."""

    battles: Count
    shard_battles: Count
    names: str

    def require_sound(self, battle_format: str) -> None:
        """Raises DataError for a format that names no folder of the store, or more shards than a store can have."""
        if not _names_folder(battle_format):
            raise DataError(f"{shown(battle_format)} names no format")
        if not self.battles or not self.shard_battles or self.battles > MAX_SHARDS * self.shard_battles:
            raise DataError(
                f"{battle_format} has {self.battles} battles in shards of {self.shard_battles}; expected 1 or more, "
                f"and at most {MAX_SHARDS} shards"
            )

    def shards(self, battle_format: str) -> list[str]:
        return [f"{battle_format}/{i:05d}.arrow" for i in range(-(-self.battles // self.shard_battles))]

    def shard_size(self, index: int) -> int:
        return min(self.shard_battles, self.battles - index * self.shard_battles)


@dataclass(frozen=True, kw_only=True)
class StorePlan:
    """store.json: the layout of the store's files, the version that wrote it, and what it holds by format."""

    layout: int
    version: str
    identity: StoreIdentity
    formats: dict[str, FormatPlan]


def _names_folder(name: str) -> bool:
    """Whether it is the name of a folder of the store, and nothing beside or above it."""
    return 0 < len(name) <= 100 and name.isprintable() and name not in (".", "..") and not {"/", "\\"} & set(name)


def hash_lines(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()[:16]


def is_store(root: Path) -> bool:
    return (root / STORE).is_file()


@dataclass(frozen=True, slots=True)
class StoredBattle:
    """A battle of a store, read when it is asked for."""

    store: "BattleStore"
    row: int

    @property
    def path(self) -> Path:
        """The battle file's name, in the store's folder in place of the one it came from."""
        shard, row = self.store.find(self.row)
        return shard.path.parent / str(shard.names[row].as_py())

    @property
    def damage(self) -> str | None:
        """Why the battle has no timesteps; None where it has some."""
        shard, row = self.store.find(self.row)
        return shard.damage_of(row)

    def load(self) -> EncodedBattle:
        """Raises DataError with the reason where the battle's file was damaged."""
        shard, row = self.store.find(self.row)
        return shard.battle(row)


class StoredBattles(Sequence[StoredBattle]):
    """Some battles of a store, as their row numbers: eight bytes each."""

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
        """Those to train on, in order of format and name, and the held-out, in the order of these."""
        ranks = self.store.hold_out_ranks(self.rows)
        trained_on = np.zeros(len(self.store), dtype=bool)
        trained_on[self.rows[ranks >= share]] = True
        held_out = self.rows[ranks < share]
        return StoredBattles(self.store, np.flatnonzero(trained_on)), StoredBattles(self.store, held_out)

    def damaged(self) -> "list[tuple[Path, str]]":
        """The battles that have no timesteps, each with its reason."""
        battles = (StoredBattle(self.store, row) for row in self.store.damaged_rows(self.rows))
        return [(battle.path, battle.damage or "") for battle in battles]


class BattleStore:
    """A prepared store, for reading. Its battles are numbered through, by format and name.

    Args:
        root: the store.
        mapped_shards: files that are mapped at a time, least recently used dropped first.

    Raises DataError where store.json is damaged, a shard is missing, or one is not of the size it was written with.
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
        return sorted(self.plans)

    def battles(self, formats: Sequence[str]) -> StoredBattles:
        """The battles of these formats, in that order.

        Raises MissingFileError for a format that is not there, DataError where its shards are not all as written.
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
        return len(self._shards)

    def check_shards(self) -> Iterator[tuple[str, str | None]]:
        """Each shard's name, and what is wrong with its file, if anything is: reads them all."""
        for shard, _ in self._shards:
            record = self.records.get(shard)
            yield shard, "is not finished" if record is None else find_damage(self.root, record, self.form)

    def find(self, row: int) -> tuple[Shard, int]:
        """The shard of a battle, mapped, and the battle's row in it."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._map(index), row - int(self._starts[index])

    def hold_out_ranks(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Of these battles. Maps each of their shards once."""
        ranks = np.empty(len(self))
        for index in self._shards_of(rows):
            ranks[self._starts[index] : self._starts[index + 1]] = self._map(index).hold_out_ranks
        return ranks[rows]

    def damaged_rows(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """Those among these battles that have a reason in place of timesteps."""
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


def read_plan(root: Path) -> tuple[StoreIdentity, dict[str, FormatPlan]]:
    """What store.json says. Raises MissingFileError where there is none, DataError where it is damaged."""
    path = root / STORE
    if not path.is_file():
        raise MissingFileError(f"{root} is no prepared store: it has no {STORE}; make one with gemma-metamon prepare")
    content = read_bounded(path, MAX_BYTES)
    try:
        data = parse_json_object(content)
        if data["layout"] == LAYOUT:
            read = read_dataclass(StorePlan, data)
            if not read.formats:
                raise DataError("it has no formats")
            for name, plan in read.formats.items():
                plan.require_sound(name)
            return read.identity, read.formats
        layout, version = shown(data["layout"]), shown(data["version"])
    except KeyError as error:
        raise DataError(f"{path} is damaged (it has no {error}); prepare the store again") from error
    except DataError as error:
        raise DataError(f"{path} is damaged ({error}); prepare the store again") from error
    raise DataError(
        f"{root} has layout {layout} (gemma_metamon {version}), this version reads {LAYOUT}; prepare it again"
    )


def write_plan(root: Path, view: BattleView, plans: Mapping[str, FormatPlan]) -> None:
    """Writes store.json and words.json, each whole or not at all. Raises DataError for a format that is no folder."""
    for name, plan in plans.items():
        plan.require_sound(name)
    _replace_text(root / WORDS, json.dumps(view.vocabulary.words))
    identity, formats = StoreIdentity.of(view), dict(sorted(plans.items()))
    whole = StorePlan(layout=LAYOUT, version=__version__, identity=identity, formats=formats)
    _replace_text(root / STORE, json.dumps(asdict(whole), indent=1))


def read_records(root: Path) -> dict[str, ShardRecord]:
    """The finished shards by name. A last line that was cut off by a crash counts as not written."""
    path = root / SHARDS
    if not path.is_file():
        return {}
    records: dict[str, ShardRecord] = {}
    for number, line in enumerate(read_bounded(path, MAX_BYTES).split(b"\n")[:-1], start=1):
        try:
            record = read_dataclass(ShardRecord, parse_json(line))
            match = _SHARD.fullmatch(record.shard)
            if match is None or not _names_folder(match["format"]):
                raise DataError(f"{shown(record.shard)} names no shard")
        except DataError as error:
            raise DataError(f"line {number} of {path} is damaged ({error}); prepare the store again") from error
        records[record.shard] = record
    return records


def write_records(root: Path, records: Iterable[ShardRecord]) -> None:
    """In place of those there are."""
    _replace_text(root / SHARDS, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def _replace_text(path: Path, text: str) -> None:
    with written_whole(path) as staged:
        staged.write_text(text, encoding="utf-8")
