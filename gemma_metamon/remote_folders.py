"""Folders in object stores: fetched into this user's cache to be read, and mirrored there as they are written.

An address is one of fsspec's (s3://bucket/battles, gs://, hf://datasets/name/...). All else of this package reads and
writes local folders alone: what is read is fetched first, file by file, and what was fetched before is not fetched
again unless it has changed; what is written is written on this machine, and then uploaded.

    ADDRESS/.../epoch_3/weights.safetensors, ...    uploaded before
    ADDRESS/.../epoch_3/.whole                      says that all of it is there
    ADDRESS/.../last                                and, where there is one, what names it
"""

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import DataError, GemmaMetamonError, MissingFileError, ServerError
from gemma_metamon.object_stores import open_store, speaking_to
from gemma_metamon.strict_json import on_one_line, shown_path
from gemma_metamon.user_cache import cache_folder

logger = logging.getLogger(__name__)

WHOLE: Final = ".whole"
"""In a folder that has been uploaded, when all of it has."""
LAST: Final = "last"
"""What is named so names another folder, and is uploaded after all of those."""
MIRROR_EVERY_S = 20.0
_LOCK_S = 24 * 3600.0
_ADDRESS = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+):/(?P<rest>[^/].*)", re.DOTALL)


def address_of(path: Path) -> str | None:
    """The address that was read as a path, as flags read it: s3://bucket/a. None of a folder of this machine."""
    match = _ADDRESS.fullmatch(path.as_posix())  # of two slashes a path keeps one
    return None if match is None or path.exists() else f"{match['protocol']}://{match['rest']}"


@dataclass(frozen=True)
class RemoteFolder:
    """A folder in an object store.

    Args:
        address: with its protocol, as s3://bucket/folder.

    Raises:
        ConfigError: no protocol that fsspec knows.
        MissingDependencyError: one whose package is not installed.
    """

    address: str
    _fs: Any = field(init=False, repr=False, compare=False)
    _root: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fs, root = open_store(self.address)
        object.__setattr__(self, "_fs", fs)
        object.__setattr__(self, "_root", root)

    @property
    def cached(self) -> Path:
        """Where it is on this machine, or will be. Its last name stays, for it may name a run or a format."""
        digest = hashlib.sha256(self.address.rstrip("/").encode()).hexdigest()[:16]
        return cache_folder() / "remote" / digest / self._root.rpartition("/")[2]

    def sizes(self) -> dict[str, tuple[int, str]]:
        """Each file's size and what it changes by (a checksum or a time), by its name in the folder.

        Raises ServerError where the store does not answer, or refuses us; DataError for a name that leads out of it.
        """
        with self._speaking():
            self._fs.invalidate_cache()
            found = self._fs.find(self._root, detail=True)
        start = f"{self._root}/"
        files = {path.removeprefix(start): info for path, info in sorted(found.items()) if path.startswith(start)}
        for name in files:
            if {"", ".", ".."} & set(name.removesuffix("/").split("/")) or "\\" in name or not name.isprintable():
                raise DataError(f"{shown_path(self.address)} holds {shown_path(name)}, which can be no file here")
        return {name: (int(info["size"]), _version(info)) for name, info in files.items() if not name.endswith("/")}

    def ask(self) -> None:
        """Before long work for it: raises ServerError where the store does not answer, or refuses us."""
        with self._speaking():
            self._fs.exists(self._root)

    def whole_checkpoints(self) -> list[str]:
        """The names of the folders in `ckpts` that are there whole, oldest first. Raises as `sizes`."""
        there = self.sizes()
        half = {name.removesuffix("/") for name in _unfinished(there)}
        inner = {name.rpartition("/")[0] for name in there if _is_in_checkpoint(name)} - half
        names = [folder.rpartition("/")[2] for folder in inner]
        return sorted(names, key=lambda name: [int(digits) for digits in re.findall("[0-9]+", name)])

    def fetch(
        self, wanted: Callable[[str], bool] = lambda name: True, *, on_file: Callable[[], Any] | None = None
    ) -> Path:
        """The folder on this machine, with those of its files that are `wanted`, as they are in the store now.

        A folder of the store that is being uploaded is passed over: one that has no `.whole` where its like have one.
        What was fetched before and is no longer in the store is removed, unless it has changed here.

        Args:
            wanted: of a file's name in the folder, with "/" between folders.
            on_file: called after each file, fetched or there before.

        Raises:
            MissingFileError: there is no file in it.
            DataError: as `sizes`.
            ServerError: the store does not answer, or refuses us.
            OSError: this machine's disk.
        """
        there = self.sizes()
        if not there:
            raise MissingFileError(f"{shown_path(self.address)} holds no files; look at its address")
        half = _unfinished(there)
        place = self.cached
        place.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(place.with_name(f".{place.name}.lock"), timeout=_LOCK_S):
                journal = place.with_name(f".{place.name}.json")
                known = _read_journal(journal)
                try:
                    _remove_gone(place, known, there)
                    for name, about in there.items():
                        if not wanted(name) or name.startswith(half) or _is_mark(name):
                            continue
                        target = place / name
                        if not target.is_file() or known.get(name) != list(about):
                            self._fetch_file(name, target)
                            known[name] = list(about)
                        if on_file is not None:
                            on_file()
                finally:
                    _write_journal(journal, known)
        except Timeout as error:
            raise GemmaMetamonError(f"another process has been fetching {self.address} for a day") from error
        return place

    def upload(self, folder: Path, known: dict[str, tuple[int, int]] | None = None) -> int:
        """Uploads what has changed in a folder of this machine. Files that are being written are left out.

        What is uploaded last: the `.whole` of each folder of `ckpts`, then what is called `last`.

        Args:
            folder: of this machine.
            known: size and time of the files as they were uploaded before, and the `.whole` of finished folders, which
                is brought up to date.

        Returns:
            How many files were uploaded.

        Raises:
            ServerError: the store does not answer, or refuses us.
        """
        known = {} if known is None else known
        files = {path.relative_to(folder).as_posix(): path for path in _whole_files(folder)}
        changed = {}
        for name, path in files.items():
            found = path.stat()
            if known.get(name) != (found.st_size, found.st_mtime_ns):
                changed[name] = (path, (found.st_size, found.st_mtime_ns))
        # not only of what has changed: where the store did not take a mark, the next call tries again
        unmarked = {name.rpartition("/")[0] for name in files if _is_in_checkpoint(name)}
        names_last = {name for name in changed if LAST in name.split("/")}
        for name in sorted(changed, key=lambda name: name in names_last):
            if name in names_last:
                self._put_marks(unmarked, known)
            path, about = changed[name]
            with self._speaking():
                self._fs.put_file(str(path), f"{self._root}/{name}")
            known[name] = about
        self._put_marks(unmarked, known)
        return len(changed)

    def remove_missing(self, folder: Path, known: dict[str, tuple[int, int]]) -> None:
        """Removes what was uploaded from a folder of this machine and is no longer in it; `.whole` first."""
        gone = [name for name in known if not _is_mark(name) and not (folder / name).exists()]
        marks = {f"{name.rpartition('/')[0]}/{WHOLE}" for name in gone if _is_in_checkpoint(name)}
        with self._speaking():
            for name in [*sorted(marks), *gone]:
                if self._fs.exists(f"{self._root}/{name}"):  # somebody else may have removed it
                    self._fs.rm_file(f"{self._root}/{name}")
                known.pop(name, None)

    def _put_marks(self, folders: Iterable[str], known: dict[str, tuple[int, int]]) -> None:
        for name in sorted(f"{inner}/{WHOLE}" for inner in folders):
            if name not in known:
                with self._speaking():
                    self._fs.pipe_file(f"{self._root}/{name}", b"{}")
                known[name] = (2, 0)

    def _fetch_file(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target, durable=False) as staged, self._speaking():
            self._fs.get_file(f"{self._root}/{name}", str(staged))

    def _speaking(self) -> AbstractContextManager[None]:
        return speaking_to(self.address)


class Mirror:
    """Uploads a folder of this machine while it is written, in a thread of its own, and once more at the end.

    Work does not wait for it, and goes on where the store does not answer: that is said, and tried again.

    Args:
        folder: of this machine.
        remote: where it goes.
        every_s: seconds between two looks at the folder.
    """

    def __init__(self, folder: Path, remote: RemoteFolder, *, every_s: float = MIRROR_EVERY_S) -> None:
        self.folder, self.remote = folder, remote
        self._every_s = every_s
        self._known: dict[str, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> "Mirror":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Raises ServerError where the last upload fails: everything is still on this machine."""
        self._ended.set()
        self._thread.join()
        try:
            self.bring_up_to_date()
        except ServerError as error:
            raise ServerError(f"{error}; all of it is in {self.folder}: run the same command again") from error

    def bring_up_to_date(self) -> None:
        """One look at the folder."""
        self.remote.upload(self.folder, self._known)
        self.remote.remove_missing(self.folder, self._known)

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self.bring_up_to_date()
            except (ServerError, OSError) as error:
                logger.warning("%s; it is tried again in %.0f s", on_one_line(error), self._every_s)


def _remove_gone(place: Path, known: dict[str, list[Any]], there: Collection[str]) -> None:
    """Or a battle that was deleted would be trained on, and a checkpoint that was would be uploaded again."""
    for name in [name for name in known if name not in there]:
        fetched = place / name
        if fetched.is_file() and fetched.stat().st_size == known[name][0]:
            fetched.unlink()
        del known[name]


def _is_mark(name: str) -> bool:
    return name.endswith(f"/{WHOLE}")


def _is_in_checkpoint(name: str) -> bool:
    """Whether a file is in a folder that is either whole or worthless."""
    parts = name.split("/")
    return len(parts) >= 3 and parts[-3] == "ckpts" and parts[-2] != LAST


def _unfinished(there: Iterable[str]) -> tuple[str, ...]:
    """The beginnings of the names of files in checkpoints without their `.whole`."""
    names = set(there)
    inner = {name.rpartition("/")[0] for name in names if _is_in_checkpoint(name)}
    marked = {folder for folder in inner if f"{folder}/{WHOLE}" in names}
    return tuple(f"{folder}/" for folder in inner - marked) if marked else ()


def _whole_files(folder: Path) -> list[Path]:
    """Those that nobody is writing: of atomic_files all names of what is begun have a dot before them."""
    found = []
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in inner):
            found.append(path)
    return found


def _version(info: dict[str, Any]) -> str:
    for name in (
        "ETag",
        "etag",
        "md5Hash",
        "crc32c",
        "blob_id",
        "xet_hash",
        "sha256",
        "LastModified",
        "mtime",
        "created",
    ):
        if info.get(name) is not None:
            return str(info[name])
    return ""


def _read_journal(path: Path) -> dict[str, list[Any]]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # of a cache that was deleted in part: all is fetched anew
        return {}
    return read if isinstance(read, dict) else {}


def _write_journal(path: Path, known: dict[str, list[Any]]) -> None:
    with written_whole(path, durable=False) as staged:
        staged.write_text(json.dumps(known), encoding="utf-8")
