"""What a folder of this machine and one in an object store had in common when they were last the same, file by file.

A file that differs from that here, and not there, is newer here, and the other way round. It lies beside the folder, as
`.NAME.jsonl`, and a line is added to it after each file that was fetched or uploaded.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from stat import S_ISREG
from typing import Final, NamedTuple

from filelock import FileLock, Timeout

from gemma_metamon.atomic_files import append_whole, written_whole
from gemma_metamon.errors import GemmaMetamonError

_LOCK_S: Final = 24 * 3600.0
_SPARE_LINES: Final = 1000


class Entry(NamedTuple):
    """How a file was: its size in the store and what it changes by there, and its size and time (ns) here.

    `here` is None of what only the store has.
    """

    version: tuple[int, str]
    here: tuple[int, int] | None


class Journal:
    """The entries of one folder, by the files' names in it.

    Args:
        folder: of this machine; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.entries: dict[str, Entry] = {}
        self._path = folder.with_name(f".{folder.name}.jsonl")
        self._lock = folder.with_name(f".{folder.name}.lock")

    @contextmanager
    def held(self) -> Iterator[dict[str, Entry]]:
        """The entries as they are now; for the block, no other process of this machine fetches or uploads the folder.

        Raises GemmaMetamonError where another one has done so for a day.
        """
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._lock, timeout=_LOCK_S):
                self.read()
                yield self.entries
        except Timeout as error:
            raise GemmaMetamonError(f"another process has held {self._lock} for a day") from error

    def note(self, name: str, version: tuple[int, str], here: tuple[int, int] | None) -> None:
        """After a file was fetched or uploaded."""
        self.entries[name] = Entry(version, here)
        append_whole(self._path, _as_line(name, self.entries[name]), durable=False)

    def forget(self, name: str) -> None:
        """Of a file that is no longer in the store."""
        if self.entries.pop(name, None) is not None:
            append_whole(self._path, f"{json.dumps([name])}\n", durable=False)

    def read(self) -> None:
        """Takes the entries from the disk. A line that was cut off is left out: of its file nothing is known."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # of a cache that was deleted
            lines = []
        self.entries = {}
        for line in lines:
            _take(self.entries, line)
        if len(lines) > 2 * len(self.entries) + _SPARE_LINES:
            with written_whole(self._path, durable=False) as staged:
                text = "".join(_as_line(name, entry) for name, entry in self.entries.items())
                staged.write_text(text, encoding="utf-8")


def about(path: Path) -> tuple[int, int] | None:
    """Size and time of a file here; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if S_ISREG(found.st_mode) else None


def was_moved(folder: Path, name: str, entry: Entry) -> bool:
    """Whether a file is no longer where it was, but further down in the folder: in discarded/1, with the same name."""
    if entry.here is None or about(folder / name) == entry.here:
        return False
    return any(about(path) == entry.here for path in folder.glob(f"*/*/{escape(name)}"))


def _as_line(name: str, entry: Entry) -> str:
    return f"{json.dumps([name, *entry.version, entry.here])}\n"


def _take(entries: dict[str, Entry], line: str) -> None:
    try:
        read = json.loads(line)
    except ValueError:
        return
    match read:
        case [str(name)]:
            entries.pop(name, None)
        case [str(name), int(size), str(version), None]:
            entries[name] = Entry((size, version), None)
        case [str(name), int(size), str(version), [int(here), int(time)]]:
            entries[name] = Entry((size, version), (here, time))
