"""Where the battles of a format come from when a store is made of them: a folder of files, or an archive."""

import logging
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gemma_metamon.battle.archives import find_archives, refuse_archives_in
from gemma_metamon.battle.replays import find_battles, formats_of_files, refuse_logs_in
from gemma_metamon.data.archives import Listing, list_archive, read_archive
from gemma_metamon.data.store import FormatPlan, hash_lines
from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.progress import progress_bar

logger = logging.getLogger(__name__)
MAX_SHARD_BYTES = 2**28
"""Of an archive's battles in one shard, which are held in memory until they are encoded."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The battles of a shard.

    Attributes:
        root: the store.
        shard: its file in the store.
        where: the folder or the archive that the battles lie in.
        names: of their files.
        contents: of the files of an archive, or why one cannot be used; None where the files are read from the folder.
    """

    root: Path
    shard: str
    where: Path
    names: Sequence[str]
    contents: Sequence[bytes | str] | None = None


@dataclass(frozen=True)
class FolderSource:
    """`<root>/<format>/`, its battle files in order of name."""

    where: Path
    names: Sequence[str]

    def plan(self, shard_battles: int) -> FormatPlan:
        return FormatPlan(battles=len(self.names), shard_battles=shard_battles, names=hash_lines(self.names))

    def tasks(self, root: Path, shards: Sequence[str], size: int, done: Container[str]) -> Iterator[ShardTask]:
        """The shards that are not done, of `size` battles each."""
        for i, shard in enumerate(shards):
            if shard not in done:
                yield ShardTask(root, shard, self.where, self.names[i * size : (i + 1) * size])


@dataclass(frozen=True)
class ArchiveSource:
    """`<format>.tar.gz` or `<format>.tar.lz4`, its battle files in the archive's order."""

    listing: Listing

    @property
    def where(self) -> Path:
        return self.listing.path

    def plan(self, shard_battles: int) -> FormatPlan:
        return FormatPlan(battles=self.listing.battles, shard_battles=shard_battles, names=self.listing.names)

    def tasks(self, root: Path, shards: Sequence[str], size: int, done: Container[str]) -> Iterator[ShardTask]:
        """The shards that are not done, of `size` battles each; the battles of the others are passed over."""
        if all(shard in done for shard in shards):
            return
        members = read_archive(self.listing)
        for shard in shards:
            names: list[str] = []
            contents: list[bytes | str] = []
            left = MAX_SHARD_BYTES
            for member in islice(members, size):
                if shard in done:
                    continue
                complaint = member.complaint
                if complaint is None and member.size_bytes > left:
                    complaint = f"its shard holds {MAX_SHARD_BYTES} bytes already; choose a smaller --shard_battles"
                content = f"{member.name}: {complaint}" if complaint else member.read()
                left -= len(content)
                names.append(member.name)
                contents.append(content)
            if shard not in done:
                yield ShardTask(root, shard, self.where, names, contents)
        for _ in members:  # to its end, where it is compared with the listing
            pass


BattleSource = FolderSource | ArchiveSource


def list_sources(root: Path) -> list[str]:
    """The formats that a folder holds battles of, as files or archives, or that root itself is an archive of.

    Raises MissingFileError for no folder, and where the archives lie one folder deeper.
    """
    archives = find_archives(root)
    if root.is_file() and archives:
        return list(archives)
    formats = {*formats_of_files(root), *archives}
    if not formats:
        refuse_archives_in(root)
        refuse_logs_in(root)
    return sorted(formats)


def find_sources(root: Path, formats: Sequence[str], *, progress: bool = False) -> dict[str, BattleSource]:
    """The battles of each format in a folder, or in the archive that root is; files go before an archive.

    An archive is read through once, and so known to be whole. Raises MissingFileError where a format has none,
    ConfigError where there are two archives of one, DataError where an archive is damaged.
    """
    archives = find_archives(root)
    unpacked = formats_of_files(root) if root.is_dir() else []
    found: dict[str, BattleSource] = {}
    for name in dict.fromkeys(formats):
        if name in unpacked or name not in archives:
            if root.is_file() and archives:
                raise MissingFileError(f"{root} is an archive of {next(iter(archives))}, not of {name!r}")
            found[name] = FolderSource(root / name, [path.name for path in find_battles(root, [name])])
        else:
            found[name] = ArchiveSource(_list(archives[name], progress=progress))
    return found


def _list(archives: Sequence[Path], *, progress: bool) -> Listing:
    path, *others = archives
    if others:
        raise ConfigError(
            f"{path} and {others[0]} are archives of the same format; give --parsed_replay_dir one of them"
        )
    with progress_bar(
        desc=f"listing {path.name}",
        total=path.stat().st_size,
        unit="B",
        unit_scale=True,
        mininterval=0.5,
        disable=not progress,
    ) as bar:
        listing = list_archive(path, bar.update)
    if not listing.battles:
        raise MissingFileError(
            f"{path} holds no battle among {listing.others} members; expected NAME.json.lz4 or NAME.json"
        )
    if listing.others:
        logger.warning("%d members of %s are passed over: they are not named like battle files", listing.others, path)
    return listing
