"""Small disks of the tests' own, mounted where that is allowed: full ones, and ones that nothing can be written to."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """A disk in memory at this folder, which is made. Skips the test where this process may not mount."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk (root on Linux)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def disk_with_room(place: Path, room_bytes: int, *, size_mib: int = 4) -> Iterator[Path]:
    """A disk of some MiB that has so many bytes left."""
    with mounted(place, f"size={size_mib}m") as disk:
        fill(disk, room_bytes)
        yield disk


@contextmanager
def read_only_disk(place: Path) -> Iterator[Path]:
    with mounted(place, "size=64k", "ro") as disk:
        yield disk


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A file or folder that is there and, for the block, takes nothing: what root writes no permission would stop."""
    for options in (["--bind", str(path), str(path)], ["-o", "remount,bind,ro", str(path)]):
        command = ["mount", *options]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a disk (root on Linux)")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path, room_bytes: int) -> None:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / "filler").open("ab") as filler:
        filler.write(bytes(max(free - room_bytes, 0)))
