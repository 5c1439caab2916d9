"""Folders in object stores, fetched into this user's cache.

An address is one of fsspec's (s3://bucket/battles, gs://, hf://datasets/name/...). All else of this package reads and
writes local folders alone: what is read is fetched first, file by file, and what was fetched before is not fetched
again unless it has changed in the store. What is written is written on this machine, and uploaded by a `Mirror`.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from gemma_metamon.atomic_files import remove_whole, written_whole
from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.object_stores.checkpoints import (
    CHECKPOINTS,
    DESCRIPTION,
    IN_STORE,
    age,
    checkpoint_of,
    is_mark,
    newest_first,
    whole_of,
)
from gemma_metamon.object_stores.journal import Entry, Journal, about, was_moved
from gemma_metamon.object_stores.opening import open_store, speaking_to
from gemma_metamon.strict_json import shown_path
from gemma_metamon.user_cache import cache_folder

_Version: TypeAlias = tuple[int, str]
_CHECKSUMS: Final = ("ETag", "etag", "md5Hash", "crc32c", "blob_id", "xet_hash", "sha256")
_TIMES: Final = ("LastModified", "mtime", "created")
_ADDRESS = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+):/(?P<rest>[^/].*)", re.DOTALL)


def address_of(path: Path) -> str | None:
    """The address that was read as a path, as flags read it: s3://bucket/a. None of a folder of this machine.

    Raises:
        ConfigError: one of a folder of this machine, written as an address.
    """
    match = _ADDRESS.fullmatch(path.as_posix())  # of several slashes a path keeps one
    if match is None or path.exists():
        return None
    if match["protocol"] in ("file", "local"):
        raise ConfigError(
            f"{shown_path(path)} is a folder of this machine; name it without {match['protocol']}://, as in /data/runs"
        )
    return f"{match['protocol']}://{match['rest']}"


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

    def sizes(self) -> dict[str, _Version]:
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

    def ask(self) -> bool:
        """Whether it is there. Raises ServerError where the store does not answer, or refuses us."""
        with self._speaking():
            return bool(self._fs.exists(self._root))

    def whole_checkpoints(self) -> list[str]:
        """The names of the folders in `ckpts` that are there whole, oldest first. Raises as `sizes`.

        Those that this machine has moved aside are left out: they are still there if it was stopped before it said so.
        """
        there, journal = self.sizes(), Journal(self.cached)
        journal.read()
        return _whole(self.cached, there, journal.entries)

    def fetch(
        self,
        wanted: Callable[[str], bool] = lambda name: True,
        *,
        describe: bool = False,
        on_file: Callable[[], Any] | None = None,
    ) -> Path:
        """The folder on this machine, with those of its files that are `wanted`, as they are in the store now.

        A checkpoint that is being uploaded is passed over. A file that has changed here since it was fetched or
        uploaded stays as it is here; one that has changed in both places does so unless the store has a newer
        checkpoint than this machine, and then checkpoints that the store lacks are removed here. So is what it no
        longer has, unless it has changed here.

        Args:
            wanted: of a file's name in the folder, with "/" between folders.
            describe: fetch `checkpoint.json` of the whole checkpoints that are not wanted, too, into `.in_store`, for
                the run to know of them.
            on_file: called after each file, fetched or there before.

        Raises:
            MissingFileError: there is no file in it.
            DataError: as `sizes`.
            ServerError: the store does not answer, or refuses us.
            OSError: this machine's disk.
        """
        place = self.cached
        journal = Journal(place)
        with journal.held() as known:
            there = self.sizes()
            if not there:
                raise MissingFileError(f"{shown_path(self.address)} holds no files; look at its address")
            place.mkdir(parents=True, exist_ok=True)
            _remove_gone(place, journal, there)
            whole = _whole(place, there, known)
            stays = _is_ahead(place, whole)
            for name in sorted(there, key=lambda name: checkpoint_of(name) is not None):  # what was measured first
                checkpoint = checkpoint_of(name)
                if is_mark(name) or not wanted(name) or not (checkpoint is None or checkpoint in whole):
                    continue
                if _is_newer_there(place, name, known, there, stays=stays):
                    self._fetch_file(name, place / name)
                    journal.note(name, there[name], about(place / name))
                if checkpoint is not None:
                    shutil.rmtree(place / IN_STORE / CHECKPOINTS / checkpoint, ignore_errors=True)
                if on_file is not None:
                    on_file()
            if describe:
                shutil.rmtree(place / IN_STORE, ignore_errors=True)
                for checkpoint in whole:
                    files = [name for name in there if checkpoint_of(name) == checkpoint and not is_mark(name)]
                    self._describe(place, {name: there[name] for name in files}, journal, stays=stays)
        return place

    def put(self, name: str, path: Path) -> _Version:
        """Uploads a file; returns what `sizes` says of it then. Raises ServerError."""
        key = f"{self._root}/{name}"
        with self._speaking():
            self._fs.put_file(str(path), key)
            self._fs.invalidate_cache()
            info = self._fs.info(key)
            if not any(info.get(checksum) for checksum in _CHECKSUMS):  # and times it may write otherwise than in lists
                info = self._fs.find(key.rpartition("/")[0], maxdepth=1, detail=True).get(key, info)
        return int(info["size"]), _version(info)

    def put_mark(self, name: str) -> None:
        """Writes one of the files that only say something of others. Raises ServerError."""
        with self._speaking():
            self._fs.pipe_file(f"{self._root}/{name}", b"{}")

    def remove(self, name: str) -> None:
        """Removes a file, if somebody else has not done so. Raises ServerError."""
        with self._speaking():
            if self._fs.exists(f"{self._root}/{name}"):
                self._fs.rm_file(f"{self._root}/{name}")

    def _fetch_file(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target, durable=False) as staged, self._speaking():
            self._fs.get_file(f"{self._root}/{name}", str(staged))

    def _describe(self, place: Path, files: Mapping[str, _Version], journal: Journal, *, stays: bool) -> None:
        """One whole checkpoint, of these files: where it is not here its description is, and nothing else of it."""
        inner = next(iter(files)).rpartition("/")[0]
        description = f"{inner}/{DESCRIPTION}"
        if not any(_is_newer_there(place, one, journal.entries, files, stays=stays) for one in files):
            return
        here = [f"{inner}/{path.name}" for path in (place / inner).glob("*")]
        if stays and any(_has_changed_here(place, one, journal.entries) for one in here):
            return
        if here:  # a fetch of it was cut off, or another machine's took its place
            remove_whole(place / inner)
        if description in files:
            self._fetch_file(description, place / IN_STORE / description)

    def _speaking(self) -> AbstractContextManager[None]:
        return speaking_to(self.address)


def _has_changed_here(place: Path, name: str, known: Mapping[str, Entry]) -> bool:
    """Whether a file is here, and not as it was when it was last fetched or uploaded."""
    here = about(place / name)
    return here is not None and (name not in known or known[name].here != here)


def _is_newer_there(
    place: Path, name: str, known: Mapping[str, Entry], there: Mapping[str, _Version], *, stays: bool
) -> bool:
    """Whether a file is to be fetched. With `stays` one that has changed in both places is not."""
    if about(place / name) is None:
        return True
    has_changed_there = name not in known or known[name].version != there[name]
    return has_changed_there and not (stays and _has_changed_here(place, name, known))


def _remove_gone(place: Path, journal: Journal, there: Collection[str]) -> None:
    """Or a battle that was deleted would be trained on, and a checkpoint that was would be uploaded again."""
    gone = [name for name in journal.entries if name not in there]
    folders = {(place / name).parent for name in gone if checkpoint_of(name) is not None}
    inner = {folder: [path.relative_to(place).as_posix() for path in folder.glob("*")] for folder in folders}
    own = {  # of which this machine has something else: no half of it is removed
        folder for folder in folders if any(_has_changed_here(place, name, journal.entries) for name in inner[folder])
    }
    for name in gone:
        path = place / name
        if path.parent not in own and not _has_changed_here(place, name, journal.entries):
            path.unlink(missing_ok=True)
            with suppress(OSError):  # a folder without files would be taken for a checkpoint
                path.parent.rmdir()
        journal.forget(name)


def _is_ahead(place: Path, whole: list[str]) -> bool:
    """Whether this machine has a checkpoint at least as new as the store; if not, those are removed that it lacks."""
    here = newest_first(child.name for child in (place / CHECKPOINTS).glob("[!.]*") if child.is_dir())
    if here and (not whole or age(here[0]) >= age(whole[-1])):
        return True
    for checkpoint in {*here} - {*whole}:  # another machine's took their place
        remove_whole(place / CHECKPOINTS / checkpoint)
    return False


def _whole(place: Path, there: Mapping[str, _Version], known: Mapping[str, Entry]) -> list[str]:
    """The whole checkpoints, oldest first, without those that were moved aside here."""
    aside = {
        checkpoint_of(name)
        for name, entry in known.items()
        if checkpoint_of(name) is not None and there.get(name) == entry.version and was_moved(place, name, entry)
    }
    return [checkpoint for checkpoint in whole_of(there) if checkpoint not in aside]


def _version(info: dict[str, Any]) -> str:
    return next((str(info[name]) for name in (*_CHECKSUMS, *_TIMES) if info.get(name) is not None), "")
