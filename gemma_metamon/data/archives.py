"""Archives of battle files, `<format>.tar.gz` and `<format>.tar.lz4` as the hub has them, read as a stream.

Nothing is unpacked to disk, and no path that an archive names is ever opened. Archives are not trusted: a member that
is not a plain file, or is too large for a battle, is skipped with its reason; an archive that is damaged or cut off is
refused as a whole.
"""

import gzip
import hashlib
import io
import tarfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

import lz4.frame
import numpy as np

from gemma_metamon.battle.archives import archive_format
from gemma_metamon.battle.replays import MAX_FILE_BYTES, is_battle_file
from gemma_metamon.errors import DataError

MAX_SKIPPED_BYTES = 2**30
"""The most bytes of a member that are decompressed to get past it. With a larger one the whole archive is refused."""
_HEADER_BYTES = 2**20  # of what comes before a member: its name in all its forms
_END_BYTES = 2**24  # zeros after the last member
_READ_BYTES = 2**16
_NAME_CHARS = 255
# of gzip, of lz4, of the disk, and what tarfile makes of numbers in headers that are none
_DAMAGE = (tarfile.TarError, EOFError, RuntimeError, zlib.error, OSError, ValueError, LookupError, ArithmeticError)
_UNREADABLE = "\ufffd"  # what tarfile puts for bytes outside UTF-8


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive that is named like a battle file.

    Attributes:
        name: without folders.
        size_bytes: that its header claims.
        read: returns its content, until the next member is asked for.
        complaint: why it cannot be used; None where it can.
    """

    name: str
    size_bytes: int
    read: Callable[[], bytes]
    complaint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What an archive holds.

    Attributes:
        path: the archive.
        battles: how many battle files, those included that cannot be used.
        names: a hash of their names in the archive's order, as `store.hash_lines` makes it.
        repeated: hashes of the names that occur more than once.
        others: how many other members that are no folders: they are not named like battle files.
    """

    path: Path
    battles: int
    names: str
    repeated: frozenset[int]
    others: int


def list_archive(path: Path, on_bytes: Callable[[int], Any] = lambda _: None) -> Listing:
    """Reads an archive to its end, which shows whether it is whole.

    Args:
        path: the archive.
        on_bytes: called with the number of the file's bytes that were read since the last call, for a progress bar.

    Raises:
        DataError: it is damaged, cut off, or claims sizes that cannot be. Names the archive.
    """
    names = hashlib.sha256()
    marks, others = array("Q"), 0
    for member in _members(path, on_bytes):
        if member is None:
            others += 1
            continue
        names.update(f"\n{member.name}".encode() if marks else member.name.encode())
        marks.append(_mark(member.name))
    unique, counts = np.unique(np.frombuffer(marks, np.uint64), return_counts=True)
    repeated = frozenset(unique[counts > 1].tolist())
    return Listing(path=path, battles=len(marks), names=names.hexdigest()[:16], repeated=repeated, others=others)


def read_archive(listing: Listing) -> Iterator[Member]:
    """The battle files of an archive that was listed, in the same order.

    Raises:
        DataError: as `list_archive` does, or the archive has changed since it was listed.
    """
    names, met, count = hashlib.sha256(), set(), 0
    for member in _members(listing.path):
        if member is None:
            continue
        names.update(f"\n{member.name}".encode() if count else member.name.encode())
        count += 1
        if (mark := _mark(member.name)) in listing.repeated:
            if mark in met:
                member = replace(member, complaint=member.complaint or "another member has the same name")
            met.add(mark)
        yield member
    if names.hexdigest()[:16] != listing.names:
        raise DataError(f"{listing.path} has changed while it was read; prepare it again, in a new store")


def _mark(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _members(path: Path, on_bytes: Callable[[int], Any] = lambda _: None) -> Iterator[Member | None]:
    """Battle files; None for a member that is not named like one."""
    battle_format = archive_format(path)
    with _damage_named(path), path.open("rb") as file, _decompressed(path, file) as content:
        counted = _Counted(content)
        counted.allow(_HEADER_BYTES)
        with tarfile.open(
            fileobj=counted, mode="r|", bufsize=_READ_BYTES, tarinfo=_StrictHeader, encoding="utf-8", errors="replace"
        ) as tar:  # fmt: skip
            told = 0
            while (entry := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # they would all be kept
                to_skip = tar.offset - counted.position
                if to_skip > MAX_SKIPPED_BYTES or entry.size < 0:
                    raise DataError(f"its member {entry.name!r} claims {entry.size} bytes")
                counted.allow(max(to_skip, 0) + _HEADER_BYTES)
                if not entry.isdir():
                    yield _judge(entry, tar, battle_format)
                on_bytes(file.tell() - told)
                told = file.tell()
            counted.allow(_END_BYTES)
            _require_end(tar.fileobj)
            on_bytes(file.tell() - told)


def _judge(entry: tarfile.TarInfo, tar: tarfile.TarFile, battle_format: str | None) -> Member | None:
    place = PurePosixPath(entry.name)
    if not is_battle_file(place.name):
        return None

    def read() -> bytes:
        content = tar.extractfile(entry)
        return b"" if content is None else content.read()

    name = "".join(char if char.isprintable() else _UNREADABLE for char in place.name)[:_NAME_CHARS]
    return Member(name, entry.size, read, _complaint(entry, place, name, battle_format))


def _complaint(entry: tarfile.TarInfo, place: PurePosixPath, name: str, battle_format: str | None) -> str | None:
    if not entry.isreg() or entry.issparse():
        return f"a member of type {entry.type!r}, no plain file"
    if place.is_absolute() or ".." in place.parts:
        return f"its path {entry.name!r} leads out of the archive"
    if _UNREADABLE in name or name != place.name:
        return "its name is not UTF-8, not printable or longer than a file's name can be"
    if entry.size > MAX_FILE_BYTES:
        return f"claims {entry.size} bytes; a battle file has at most {MAX_FILE_BYTES}"
    folder = place.parent.name
    if folder != battle_format and archive_format(Path(f"{folder}.tar.gz")) is not None:
        return f"lies in a folder {folder}, in an archive of {battle_format}"
    return None


def _decompressed(path: Path, file: IO[bytes]) -> Any:
    return gzip.GzipFile(fileobj=file) if path.name.endswith(".gz") else lz4.frame.open(file, "rb")


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        words = "".join(char if char.isprintable() else _UNREADABLE for char in str(error)[:200])
        raise DataError(
            f"{path} cannot be read as a whole archive ({words}); get it again, and compare its size with the "
            "place it came from: nothing is made of a part"
        ) from error


class _Counted(io.RawIOBase):
    """A stream that may be read only as far as it is allowed: tarfile takes a header's word for how long a name is."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.position = 0
        self._limit = 0

    def allow(self, further: int) -> None:
        """From here, and a buffer of tarfile's."""
        self._limit = self.position + further + _READ_BYTES

    def read(self, size: int = -1) -> bytes:
        if self.position >= self._limit:
            raise DataError("a header in it claims more than a name can need")
        content: bytes = self._stream.read(size)
        self.position += len(content)
        return content


class _StrictHeader(tarfile.TarInfo):
    """tarfile takes a damaged header, or no header at all, for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictHeader":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # its end
            raise DataError("it is cut off" if not buf else f"a damaged header: {error}") from error


def _require_end(stream: Any) -> None:
    """Reads on, to the checksums of the compression. Zeros alone may follow a tar's end."""
    while content := stream.read(_READ_BYTES):
        if any(content):
            raise DataError("something follows the archive's end")
