"""Where a registry's files lie: a folder of this machine, or any place that fsspec has an address for (s3://, gs://).

Files are whole or absent. In a folder that is so by renaming; elsewhere an upload appears when it is whole.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from filelock import FileLock, Timeout

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError, MissingDependencyError, MissingFileError
from gemma_metamon.strict_json import on_one_line, shown_path

_LOCK_S: Final = 600.0


class Storage:
    """Files by names such as "models/best/versions/1.json".

    Args:
        place: a folder, or an address such as s3://bucket/models. Nothing is opened or made yet.

    Raises:
        ConfigError: an address that fsspec does not know.
        MissingDependencyError: one that needs a package that is not installed.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._fs: Any = None
        if "://" not in place or place.startswith("file://"):
            self._root = str(Path(place.removeprefix("file://")).expanduser().absolute())
            return
        from fsspec.core import url_to_fs

        try:
            self._fs, self._root = url_to_fs(place)
        except ValueError as error:
            raise ConfigError(f"{shown_path(place)} is no place for a registry ({on_one_line(error)})") from error
        except ImportError as error:
            raise MissingDependencyError(f"{shown_path(place)}: {on_one_line(error)}") from error

    def where(self, name: str) -> str:
        """A file's full name, for messages."""
        return f"{self.place.rstrip('/')}/{name}"

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """The file, open to read. Raises MissingFileError where there is none, DataError where it cannot be read."""
        path = self._path(name)
        try:
            with cast("BinaryIO", path.open("rb") if self._fs is None else self._fs.open(str(path), "rb")) as file:
                yield file
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingFileError(f"no file {shown_path(self.where(name))}") from error
        except OSError as error:
            if isinstance(error, GemmaMetamonError):
                raise
            raise DataError(f"{shown_path(self.where(name))} cannot be read ({on_one_line(error)})") from error

    def read(self, name: str, max_bytes: int) -> bytes:
        """A small file's content. Raises as `reading`, and DataError for a larger one."""
        with self.reading(name) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise DataError(f"{shown_path(self.where(name))} has more than {max_bytes} bytes")
        return content

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        path = self._path(name)
        with self._heard(name):
            return path.is_file() if self._fs is None else bool(self._fs.isfile(str(path)))
        return False

    def names(self, folder: str) -> list[str]:
        """The last parts of the names in a folder, sorted; none where there is no such folder."""
        path = self._path(folder)
        with self._heard(folder):
            if self._fs is None:
                return sorted(child.name for child in path.iterdir() if not child.name.startswith("."))
            return sorted(str(child).rstrip("/").rpartition("/")[2] for child in self._fs.ls(str(path), detail=False))
        return []

    def write(self, name: str, content: bytes) -> None:
        """Puts a small file there, in the place of one of that name. Raises GemmaMetamonError where it cannot."""
        with self._writing(name) as path:
            if self._fs is None:
                with written_whole(Path(path)) as staged:
                    staged.write_bytes(content)
            else:
                self._fs.pipe_file(path, content)

    def put(self, name: str, source: Path) -> None:
        """Copies a file of this machine there. Raises GemmaMetamonError where it cannot be written."""
        with self._writing(name) as path:
            if self._fs is None:
                import shutil

                with written_whole(Path(path)) as staged:
                    shutil.copyfile(source, staged)
            else:
                self._fs.put_file(str(source), path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """For the block, no other process of this machine changes the registry; elsewhere nothing can be held."""
        if self._fs is not None:
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
    def _writing(self, name: str) -> Iterator[str]:
        path = self._path(name)
        try:
            if self._fs is not None:
                self._fs.makedirs(str(path).rpartition("/")[0], exist_ok=True)
            yield str(path)
        except OSError as error:
            if isinstance(error, GemmaMetamonError):
                raise
            said = error.strerror or on_one_line(error)
            raise GemmaMetamonError(
                f"{shown_path(self.where(name))} cannot be written ({said}); make room or get leave there, or name "
                "another --registry"
            ) from error

    def _path(self, name: str) -> Any:
        return Path(self._root, name) if self._fs is None else _Joined(self._root, name)

    @contextmanager
    def _heard(self, name: str) -> Iterator[None]:
        """Takes what is not there for nothing; says what else cannot be looked at."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                yield
            except OSError as error:
                if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                    raise
                raise DataError(f"{shown_path(self.where(name))} cannot be read ({on_one_line(error)})") from error


class _Joined(str):
    """A name of fsspec's: always with "/", whatever this machine parts folders by."""

    __slots__ = ()

    def __new__(cls, root: str, name: str) -> "_Joined":
        return super().__new__(cls, f"{root.rstrip('/')}/{name}".rstrip("/"))


def hashed(file: BinaryIO, out: BinaryIO | None = None) -> tuple[str, int]:
    """The SHA-256 of what is left of a file, as 64 hex digits, and its bytes; copied to `out` on the way."""
    import hashlib

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
