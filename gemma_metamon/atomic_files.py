"""Files and folders that are there whole or not at all, whenever the process or the machine stops.

What is written has a name beside its own, ".NAME.part", until it is whole and on the disk; a folder that it replaces
is ".NAME.old" meanwhile. Neither is ever read. What a killed process left of them is put in order by whoever writes
the same name next, or by `put_in_order`.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STAGED, _REPLACED = ".part", ".old"


@contextmanager
def written_whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A free name beside `path` to write a file or folder under; when the block is done, it becomes `path`.

    A reader, or whoever starts again after a crash, never meets half of it. What was at `path` before stays until the
    new one is on the disk. A block that raises leaves nothing.

    Args:
        path: what it is to be.
        durable: wait until it is on the disk. False spares milliseconds: a process that is killed still leaves all or
            nothing, but a machine that loses its power may leave an empty file. For what can be made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _put_in_order(path)
    staged, replaced = _beside(path, _STAGED), _beside(path, _REPLACED)
    try:
        yield staged
        if durable:
            sync(staged)
        if staged.is_dir() and path.is_dir():  # no rename replaces a folder that holds something
            path.rename(replaced)
        staged.replace(path)
    except BaseException as error:
        _name_file(error, path)
        _put_in_order(path)
        raise
    if durable:
        _sync_one(path.parent)
    _remove(replaced)


def remove_whole(folder: Path) -> None:
    """Removes a folder, of which a process that is killed meanwhile leaves nothing under its name."""
    staged = _beside(folder, _STAGED)
    _remove(staged)
    folder.rename(staged)
    _remove(staged)


def append_whole(path: Path, text: str, *, durable: bool = True) -> None:
    """Adds text to a file, which is made if need be, and waits until it is on the disk: all of it, or none.

    Raises OSError where there is no room for it; the file is then as it was before.

    Args:
        path: of the file.
        text: to be added.
        durable: as of `written_whole`.
    """
    content = memoryview(text.encode("utf-8"))
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while content:
                content = content[file.write(content) :]
            if durable:
                os.fsync(file.fileno())
        except OSError as error:
            _name_file(error, path)
            file.truncate(size)
            raise


@contextmanager
def as_os_errors(path: Path) -> Iterator[None]:
    """What a library in Rust or C++ says of a disk that takes nothing more, as Python says it.

    safetensors and tokenizers say "... (os error 28)"; torch says only that it has not written what it should have, so
    that the disk is asked for the reason.

    Args:
        path: of the file or folder that the block writes, for the sentence.

    Raises OSError for what the disk has refused; everything else as it comes.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is not None:
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        if isinstance(error, RuntimeError) and _TORCH_WRITES.search(str(error)):
            _try_room(path)
        raise


_TORCH_WRITES = re.compile("PytorchStreamWriter|inline_container|iostream error")
_TRIED_BYTES = 1 << 30  # a single tensor that was not written may be as large


def _try_room(path: Path) -> None:
    """Raises OSError where there is no room beside this path, or no leave to write."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as trial:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(trial.fileno(), 0, _TRIED_BYTES)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync(path: Path) -> None:
    """Waits until a file, or a folder with all that is in it, is on the disk."""
    if path.is_dir():
        for inside in path.iterdir():
            sync(inside)
    _sync_one(path)


def put_in_order(folder: Path) -> None:
    """Removes what killed processes left in a folder, and puts back what they had taken away and not yet replaced.

    For whoever alone writes there: what another process is writing would be taken for left over.
    """
    for suffix in (_STAGED, _REPLACED):
        for left in sorted(folder.glob(f".*{suffix}")):
            _put_in_order(left.with_name(left.name[1 : -len(suffix)]))


def _put_in_order(path: Path) -> None:
    staged, replaced = _beside(path, _STAGED), _beside(path, _REPLACED)
    _remove(staged)
    if replaced.exists() and not path.exists():
        replaced.rename(path)
    _remove(replaced)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def _name_file(error: BaseException, path: Path) -> None:
    """What a full disk says names no file, and neither does what a user knows of a file's other name."""
    if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(_beside(path, _STAGED))):
        error.filename = str(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_one(path: Path) -> None:
    if os.name == "nt":  # it syncs nothing that was opened to read
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
