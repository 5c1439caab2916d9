"""Where the battles of a prepared store come from: for each format a folder of battle files, or an archive of them."""

import logging
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gemma_metamon.battle.archives import find_archives, refuse_archives_in
from gemma_metamon.battle.replays import find_battles, formats_of_files, refuse_logs_in, refuse_one_format
from gemma_metamon.data.archives import Listing, list_archive, read_archive
from gemma_metamon.data.store_files import FormatPlan, hash_lines
from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.progress import progress_bar

logger = logging.getLogger(__name__)
MAX_SHARD_BYTES = 2**28
"""The most that the files of one shard may have together where they come from an archive: they are held in memory."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to make, and the battle files to make it of.

    Attributes:
        root: the store's folder.
        shard: the file to write, relative to it.
        where: the folder or the archive that the battle files are in.
        names: of the battle files.
        contents: for each battle file of an archive its bytes, or the reason why it cannot be used. None where the
            files are in a folder, from which they are read when they are encoded.
    """

    root: Path
    shard: str
    where: Path
    names: Sequence[str]
    contents: Sequence[bytes | str] | None = None


@dataclass(frozen=True)
class FolderSource:
    """A folder of one format.

    Attributes:
        where: the folder.
        names: of the battle files in it, sorted.
    """

    where: Path
    names: Sequence[str]

    def plan(self, shard_battles: int) -> FormatPlan:
        """How these battles are divided into shards of that many."""
        return FormatPlan(battles=len(self.names), shard_battles=shard_battles, names=hash_lines(self.names))

    def tasks(self, root: Path, shards: Sequence[str], size: int, done: Container[str]) -> Iterator[ShardTask]:
        """A task for each shard that is still to make. `shards` are all of the format, of `size` battles each."""
        for i, shard in enumerate(shards):
            if shard not in done:
                yield ShardTask(root, shard, self.where, self.names[i * size : (i + 1) * size])


@dataclass(frozen=True)
class ArchiveSource:
    """An archive of one format, `<format>.tar.gz` or `<format>.tar.lz4`. Its battle files keep the archive's order."""

    listing: Listing

    @property
    def where(self) -> Path:
        """The archive."""
        return self.listing.path

    def plan(self, shard_battles: int) -> FormatPlan:
        """How these battles are divided into shards of that many."""
        return FormatPlan(battles=self.listing.battles, shard_battles=shard_battles, names=self.listing.names)

    def tasks(self, root: Path, shards: Sequence[str], size: int, done: Container[str]) -> Iterator[ShardTask]:
        """A task for each shard that is still to make. `shards` are all of the format, of `size` battles each.

        The archive is read from its beginning; the battles of shards that are done are skipped.
        """
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
    """The formats that a folder has battles of, as files or in archives; or, where root is an archive, its format.

    Raises:
        MissingFileError: no such folder, or one without battles.
    """
    archives = find_archives(root)
    if root.is_file() and archives:
        return list(archives)
    formats = {*formats_of_files(root), *archives}
    if not formats:
        refuse_archives_in(root)
        refuse_logs_in(root)
        refuse_one_format(root)
        raise MissingFileError(f"{root} holds no battles; expected DIR/<format>/*.json.lz4 or DIR/<format>.tar.gz")
    return sorted(formats)


def find_sources(root: Path, formats: Sequence[str], *, progress: bool = False) -> dict[str, BattleSource]:
    """Where the battles of each format are: in a folder of files, or else in an archive.

    An archive is read completely here, so a damaged one is noticed before anything is made of it.

    Args:
        root: a folder with a folder or an archive for each format; or one archive.
        formats: the formats to look for.
        progress: shows a progress bar while an archive is read.

    Raises:
        MissingFileError: a format has no battles.
        ConfigError: there are two archives of one format.
        DataError: an archive is damaged.
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
