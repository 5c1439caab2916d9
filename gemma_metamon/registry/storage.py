"""Where a registry's files lie: a folder of this machine, or any place that fsspec has an address for (s3://, gs://).

Files are whole or absent. In a folder that is so by renaming; elsewhere an upload appears when it is whole.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from filelock import FileLock, Timeout

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError, MissingFileError
from gemma_metamon.object_stores.opening import open_store, require_writable_store, speaking_to
from gemma_metamon.strict_json import on_one_line, shown_path

_LOCK_S: Final = 600.0
_ABSENT: Final = (FileNotFoundError, NotADirectoryError)


class Readable(Protocol):
    """What can be read on."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


class Storage:
    """Files by names such as "models/best/versions/1.json".

    Args:
        place: a folder, or an address such as s3://bucket/models. Nothing is opened or made yet.

    Raises:
        ConfigError: an address that fsspec does not know, or a name with a line break or the like.
        MissingDependencyError: one that needs a package that is not installed.
    """

    def __init__(self, place: str) -> None:
        if not place.isprintable():
            raise ConfigError(f"{shown_path(place)}: a file or folder of such a name is neither read nor made")
        self.place = place
        self._fs: Any = None
        if "://" not in place or place.startswith("file://"):
            self._root = str(Path(place.removeprefix("file://")).expanduser().absolute())
        else:
            self._fs, self._root = open_store(place)

    def where(self, name: str) -> str:
        """A file's full name, for messages."""
        return f"{self.place.rstrip('/')}/{name}"

    @contextmanager
    def reading(self, name: str) -> Iterator[Readable]:
        """The file, open to read. Raises MissingFileError where there is none.

        Opening and reading raise DataError in a folder, and ServerError in a store, where they fail.
        """
        with self._looking(name):
            opened = self._open(name)
        with opened:
            yield _Looked(opened, self, name)

    def read(self, name: str, max_bytes: int) -> bytes:
        """A small file's content. Raises as `reading`, and DataError for a larger one."""
        with self.reading(name) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise DataError(f"{shown_path(self.where(name))} has more than {max_bytes} bytes")
        return content

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        with contextlib.suppress(MissingFileError), self._looking(name):
            return Path(self._root, name).is_file() if self._fs is None else bool(self._fs.isfile(self._key(name)))
        return False

    def names(self, folder: str) -> list[str]:
        """The last parts of the names in a folder, sorted; none where there is no such folder."""
        with contextlib.suppress(MissingFileError), self._looking(folder):
            if self._fs is None:
                found = [child.name for child in Path(self._root, folder).iterdir()]
            else:
                found = [str(child).rstrip("/").rpartition("/")[2] for child in self._fs.ls(self._key(folder), False)]
            return sorted(name for name in found if not name.startswith("."))
        return []

    def write(self, name: str, content: bytes) -> None:
        """Puts a small file there, in the place of one of that name. Raises GemmaMetamonError where it cannot."""
        with self._writing(name):
            if self._fs is None:
                with written_whole(Path(self._root, name)) as staged:
                    staged.write_bytes(content)
            else:
                self._fs.pipe_file(self._key(name), content)

    def put(self, name: str, source: Path) -> None:
        """Copies a file of this machine there. Raises GemmaMetamonError where it cannot be written."""
        with self._writing(name):
            if self._fs is None:
                with written_whole(Path(self._root, name)) as staged:
                    shutil.copyfile(source, staged)
            else:
                self._fs.put_file(str(source), self._key(name))

    @contextmanager
    def held(self) -> Iterator[None]:
        """For the block, no other process of this machine changes the registry; elsewhere nothing can be held.

        Raises ConfigError where nothing can be written to, as in a repository of the hub.
        """
        if self._fs is not None:
            require_writable_store(self.place)
            yield
            return
        root = Path(self._root)
        with self._writing(""):
            root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(root / ".lock", timeout=_LOCK_S):
                yield
        except Timeout as error:
            raise GemmaMetamonError(
                f"another process has been changing {self.place} for {_LOCK_S:.0f} s; wait for it, or end it"
            ) from error

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            with self._speaking(name):
                if self._fs is not None:
                    self._fs.makedirs(self._key(name).rpartition("/")[0], exist_ok=True)
                yield
        except OSError as error:
            if isinstance(error, GemmaMetamonError):
                raise
            said = error.strerror or on_one_line(error)
            raise GemmaMetamonError(
                f"{shown_path(self.where(name))} cannot be written ({said}); make room or get leave there, or name "
                "another --registry"
            ) from error

    @contextmanager
    def _looking(self, name: str) -> Iterator[None]:
        """Raises MissingFileError where there is nothing of this name; says what else keeps it from being read."""
        try:
            with self._speaking(name):
                yield
        except _ABSENT as error:
            raise MissingFileError(f"no file {shown_path(self.where(name))}") from error
        except OSError as error:
            if isinstance(error, GemmaMetamonError):
                raise
            raise DataError(f"{shown_path(self.where(name))} cannot be read ({on_one_line(error)})") from error

    def _open(self, name: str) -> BinaryIO:
        if self._fs is None:
            return Path(self._root, name).open("rb")
        opened: BinaryIO = self._fs.open(self._key(name), "rb")
        return opened

    def _speaking(self, name: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self._fs is None else speaking_to(self.where(name), passes=_ABSENT)

    def _key(self, name: str) -> str:
        """A name of fsspec's: always with "/", whatever this machine parts folders by."""
        return f"{self._root}/{name}"


class _Looked:
    """A file whose reading fails in a sentence. What else its user does fails as it does: a full disk is no such."""

    def __init__(self, file: BinaryIO, storage: Storage, name: str) -> None:
        self._file, self._storage, self._name = file, storage, name

    def read(self, size: int, /) -> bytes:
        with self._storage._looking(self._name):
            return self._file.read(size)


def hashed(file: Readable, out: BinaryIO | None = None) -> tuple[str, int]:
    """The SHA-256 of what is left of a file, as 64 hex digits, and its bytes; copied to `out` on the way."""
    digest, size = hashlib.sha256(), 0
    while block := file.read(2**20):
        digest.update(block)
        size += len(block)
        if out is not None:
            out.write(block)
    if out is not None:
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest(), size
