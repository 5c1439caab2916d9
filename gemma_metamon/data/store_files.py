"""The files beside the shards of a prepared store: for what it was prepared, how its battles are divided, what is done.

STORE/
store.json              what the observations are, and into how many shards the battles of a format are divided
words.json              the vocabulary: the id of a word is its position in this list, -1 if it is not there
shards.jsonl            a line for each finished shard: its counts, size and checksum
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gemma_metamon import __version__
from gemma_metamon.atomic_files import written_whole
from gemma_metamon.data.shards import ShardRecord
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
from gemma_metamon.view import BattleView

STORE, WORDS, SHARDS = "store.json", "words.json", "shards.jsonl"
SET_ASIDE = "set_aside.jsonl"
LAYOUT = 1
MAX_SHARDS = 1_000_000
"""The most shards of a format: with the usual shards, 500 million battles. A plan for more is damaged."""
_SHARD = re.compile(r"(?P<format>.+)/[0-9]{5,9}\.arrow")


@dataclass(frozen=True, kw_only=True)
class StoreIdentity:
    """What a store was prepared for. A run with another view cannot use it.

    Attributes:
        obs_space: name of the observation space.
        action_space: name of the action space.
        reward_function: name of the reward function.
        vocabulary: a hash of the vocabulary's words in their order.
    """

    obs_space: str
    action_space: str
    reward_function: str
    vocabulary: str

    @classmethod
    def of(cls, view: BattleView) -> "StoreIdentity":
        """The identity of a store that is prepared for this view."""
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
    """How the battle files of a format are divided into shards: in the order of their names, a fixed number to each.

    Attributes:
        battles: how many files there were when preparing began.
        shard_battles: how many go into a shard; the last one may have fewer.
        names: a hash of the names of the files, by which a folder that has changed since then is noticed.
    """

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
        """The files of the format's shards, relative to the store's folder."""
        return [f"{battle_format}/{i:05d}.arrow" for i in range(-(-self.battles // self.shard_battles))]

    def shard_size(self, index: int) -> int:
        """How many battles the shard of this number has."""
        return min(self.shard_battles, self.battles - index * self.shard_battles)


@dataclass(frozen=True, kw_only=True)
class StorePlan:
    """store.json: the layout of the store's files, the version that wrote it, and what it holds by format."""

    layout: int
    version: str
    identity: StoreIdentity
    formats: dict[str, FormatPlan]


def _names_folder(name: str) -> bool:
    """Whether a format's name can be that of a folder in the store, and does not lead out of it."""
    return 0 < len(name) <= 100 and name.isprintable() and name not in (".", "..") and not {"/", "\\"} & set(name)


def hash_lines(lines: Sequence[str]) -> str:
    """A short hash (16 hexadecimal digits) of some strings in their order."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()[:16]


def is_store(root: Path) -> bool:
    """Whether a folder is a prepared store, finished or not."""
    return (root / STORE).is_file()


def read_plan(root: Path) -> tuple[StoreIdentity, dict[str, FormatPlan]]:
    """What store.json says: what the store is for, and how each format is divided.

    Raises:
        MissingFileError: there is none.
        DataError: it is damaged, or of a layout that this version does not read.
    """
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
    """Writes store.json and words.json, each whole or not at all.

    Args:
        root: the store's folder.
        view: what the store is prepared for.
        plans: how each format is divided.

    Raises:
        DataError: a format cannot be a folder's name, or has too many shards.
    """
    for name, plan in plans.items():
        plan.require_sound(name)
    _replace_text(root / WORDS, json.dumps(view.vocabulary.words))
    identity, formats = StoreIdentity.of(view), dict(sorted(plans.items()))
    whole = StorePlan(layout=LAYOUT, version=__version__, identity=identity, formats=formats)
    _replace_text(root / STORE, json.dumps(asdict(whole), indent=1))


def read_records(root: Path) -> dict[str, ShardRecord]:
    """The finished shards by name. A last line that a crash has cut off is ignored.

    Raises:
        DataError: a line is damaged.
    """
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
    """Writes shards.jsonl anew, with these records alone."""
    _replace_text(root / SHARDS, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def _replace_text(path: Path, text: str) -> None:
    with written_whole(path) as staged:
        staged.write_text(text, encoding="utf-8")
