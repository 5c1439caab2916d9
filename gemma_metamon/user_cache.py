"""Where this user's machine keeps what was unpacked or installed once: the battle server, the bundled battles.

Everything in it can be deleted at any time and is then made again. GEMMA_METAMON_CACHE names another folder.
"""

import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from gemma_metamon.errors import GemmaMetamonError

logger = logging.getLogger(__name__)

VARIABLE = "GEMMA_METAMON_CACHE"


def cache_folder() -> Path:
    """$GEMMA_METAMON_CACHE, else the platform's place for caches (XDG, macOS, Windows)."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return user_cache_path("gemma_metamon", appauthor=False, opinion=False)  # on Windows without "Cache" behind it


def make_once(
    folder: Path, make: Callable[[Path], None], *, timeout_s: float, is_whole: Callable[[Path], bool] = Path.is_dir
) -> Path:
    """`folder`, filled by `make` on first use: into a folder beside it that is renamed when whole.

    Two processes at once wait for each other, up to timeout_s. What `make` raises leaves nothing behind.

    Args:
        folder: to be there.
        make: fills the folder that it is given.
        timeout_s: to wait for another process that makes it.
        is_whole: whether the folder that is there may stay; else it is removed, and made again.
    """
    if folder.is_dir() and is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        with FileLock(lock, timeout=timeout_s):
            if folder.is_dir():
                if is_whole(folder):  # made by another process while this one waited
                    return folder
                logger.warning("%s is damaged, and is made again", folder)
                shutil.rmtree(folder)
            for left in folder.parent.glob(f".{glob.escape(folder.name)}-*"):  # by one that was killed
                shutil.rmtree(left)
            staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                make(staged)
                staged.chmod(0o755)  # mkdtemp's folder is closed to others
                staged.rename(folder)
            except OSError as error:
                if error.errno is not None and error.filename is None:  # a full disk's does not say where
                    error.filename = str(folder)
                raise
            finally:
                shutil.rmtree(staged, ignore_errors=True)
    except Timeout as error:
        raise GemmaMetamonError(
            f"another process has been making {folder} for {timeout_s:.0f} s; wait for it, or delete {lock}"
        ) from error
    return folder
