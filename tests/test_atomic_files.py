"""Files and folders are there whole or not at all: with errors, kills at any moment, and something there before."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gemma_metamon.atomic_files import put_in_order, written_whole

WRITER = """
import sys
from pathlib import Path
from gemma_metamon.atomic_files import written_whole
path = Path(sys.argv[1])
for version in range(10_000_000):
    with written_whole(path) as staged:
        staged.mkdir()
        for name in ("a", "b"):
            (staged / name).write_text(str(version))
    if version == 0:
        print("begun", flush=True)
"""


def write_folder(path: Path, text: str) -> None:
    with written_whole(path) as staged:
        staged.mkdir()
        (staged / "a").write_text(text)
        (staged / "b").write_text(text)


def write_half_a_folder(path: Path) -> None:
    with written_whole(path) as staged:
        (staged / "inside").mkdir(parents=True)
        staged.write_text("a file")  # where the folder is


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_takes_the_place_of_one_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "c").write_text("before")
    write_folder(tmp_path / "kept", "after")
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["a", "b"]


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_a_block_that_raises_leaves_what_was_there(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    if kind == "file":
        path.write_text("before")
    elif kind == "folder":
        write_folder(path, "before")
    before = names(tmp_path)
    with pytest.raises(IsADirectoryError):
        write_half_a_folder(path)
    assert names(tmp_path) == before
    if kind != "nothing":
        assert (path if kind == "file" else path / "b").read_text() == "before"


def test_a_rename_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "kept", "before")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        write_folder(tmp_path / "kept", "after")
    assert names(tmp_path) == ["kept"]
    assert (tmp_path / "kept" / "b").read_text() == "before"


def test_a_file_takes_no_folders_place(tmp_path: Path) -> None:
    write_folder(tmp_path / "kept", "before")
    with pytest.raises(OSError, match="kept"), written_whole(tmp_path / "kept") as staged:
        staged.write_text("a file")
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["a", "b"]


@pytest.mark.parametrize(
    ("there", "left"),
    [
        ({".kept.old": "before", ".kept.part": "after"}, "before"),  # killed between the two renames
        ({".kept.old": "before", "kept": "after"}, "after"),
        ({"kept": "before", ".kept.part": "half"}, "before"),
    ],
)
def test_what_a_killed_process_left_is_put_in_order(there: dict[str, str], left: str, tmp_path: Path) -> None:
    for name, text in there.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(text)
    (tmp_path / ".hidden").write_text("somebody else's")
    put_in_order(tmp_path)
    assert names(tmp_path) == [".hidden", "kept"]
    assert (tmp_path / "kept" / "a").read_text() == left


def test_a_writer_killed_at_any_moment_leaves_one_whole_version(tmp_path: Path) -> None:
    path, newest = tmp_path / "kept", -1
    for round_number in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begun\n"
        time.sleep(0.003 * round_number**2)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        put_in_order(tmp_path)
        assert names(tmp_path) == ["kept"]
        versions = {(path / name).read_text() for name in ("a", "b")}
        assert len(versions) == 1
        newest = max(newest, int(versions.pop()))
    assert newest > 0
