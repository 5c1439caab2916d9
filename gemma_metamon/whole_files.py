"""Files and folders that are there whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A free name beside `path` to write a file or folder under; when the block is done, it becomes `path`.

    A reader, or whoever starts again after a crash, never meets half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.part")
    if staged.is_dir():
        shutil.rmtree(staged)
    yield staged
    staged.replace(path)
