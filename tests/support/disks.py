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
    """A disk in memory at this folder, which is made. Skips the test where nobody may mount."""
    place.mkdir()
    own = (f"uid={os.getuid()}", f"gid={os.getgid()}") if hasattr(os, "getuid") else ()
    with _mounted(place, ["-t", "tmpfs", "-o", ",".join((*options, *own)), "tmpfs", str(place)]):
        yield place


@contextmanager
def _mounted(place: Path, *every: list[str]) -> Iterator[None]:
    """Mounts with each of these arguments, as this process or by a sudo that asks for no password, and undoes it."""
    for before in ([], ["sudo", "-n"]):
        commands = [[*before, "mount", *arguments] for arguments in every]
        if shutil.which(commands[0][0]) and not any(
            subprocess.run(command, capture_output=True, check=False).returncode for command in commands
        ):
            break
    else:
        pytest.skip("needs the right to mount a disk: root on Linux, or sudo without a password")
    try:
        yield
    finally:
        subprocess.run([*before, "umount", "--lazy", str(place)], check=True)


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
    with _mounted(path, ["--bind", str(path), str(path)], ["-o", "remount,bind,ro", str(path)]):
        yield


def fill(disk: Path, room_bytes: int) -> None:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / "filler").open("ab") as filler:
        filler.write(bytes(max(free - room_bytes, 0)))
