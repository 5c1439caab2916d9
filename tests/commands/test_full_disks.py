"""A disk that fills up under a command that writes data: one sentence, nothing half, and the rest with more room."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.disks import disk_with_room, read_only_disk
from support.paths import GOLDENS, TESTS

from gemma_metamon.commands import main

SERVER_LOG = TESTS / "replay_logs" / "server_gen9randombattle.log.json.gz"
MARKS = {
    "chat": ("poke_env", "battle"),
    "chat, arrow": ("poke_env", "battle"),
    "scenes": ("PIL", "vision"),
    "vlm": ("PIL", "vision"),
}
WRITERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "prepare": lambda battles, out: [
        *("prepare", "--parsed_replay_dir", str(battles), "--out", str(out / "store")),
        *("--workers", "1", "--shard_battles", "1"),
    ],
    "chat": lambda battles, out: ["chat", "export", "--parsed_replay_dir", str(battles), "--out", str(out / "x.jsonl")],
    "chat, arrow": lambda battles, out: [
        *("chat", "export", "--parsed_replay_dir", str(battles), "--out", str(out / "x.arrow")),
    ],
    "scenes": lambda battles, out: ["scenes", str(sorted(battles.rglob("*.lz4"))[0]), "--out", str(out / "scenes")],
    "vlm": lambda battles, out: ["vlm", "export", "--parsed_replay_dir", str(battles), "--out", str(out / "vlm")],
    "import-replays": lambda battles, out: ["import-replays", str(SERVER_LOG), "--out", str(out / "imported")],
}


@pytest.fixture(scope="module")
def battles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of them."""
    folder = tmp_path_factory.mktemp("battles")
    (folder / "gen1ou").mkdir()
    for path in sorted((GOLDENS / "battles" / "gen1ou").glob("*.lz4"))[:2]:
        shutil.copyfile(path, folder / "gen1ou" / path.name)
    return folder


def require(writer: str) -> None:
    if writer in MARKS:
        package, extra = MARKS[writer]
        pytest.importorskip(package, reason=f"needs {package}: pip install 'gemma-metamon[{extra}]'")


def sizes(folder: Path) -> dict[str, int]:
    """Of what a user would find, by name within the folder."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "filler"
    }


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_fills_up_costs_nothing_but_time(
    writer: str, battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(writer)
    (tmp_path / "roomy").mkdir()
    assert main(WRITERS[writer](battles, tmp_path / "roomy")) == 0
    whole = sizes(tmp_path / "roomy")
    page = 4096  # a file takes whole pages of such a disk, and so does a folder's trial file
    needed = sum(-(-size // page) * page for size in whole.values())
    with disk_with_room(tmp_path / "disk", max(needed // 2, 2 * page), size_mib=32) as place:
        capsys.readouterr()
        assert main(WRITERS[writer](battles, place)) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert "Traceback" not in "\n".join(said)
        assert said[-1].startswith(f"gemma-metamon {writer.partition(',')[0]}: ")
        assert "o space left on device" in said[-1]
        assert not [path for path in place.rglob("*") if path.name.endswith(".part")]
        for name, size in sizes(place).items():  # what has its name is whole; records may have fewer lines
            if name in whole and not name.endswith((".jsonl", ".json")):
                assert size == whole[name], name
        lines = [line for path in place.rglob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
        assert all(isinstance(json.loads(line), dict) for line in lines if line.startswith("{"))
        (place / "filler").unlink()
        assert main(WRITERS[writer](battles, place)) == 0
        assert sizes(place) == whole


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("disk", [lambda place: disk_with_room(place, 0), read_only_disk], ids=["full", "read-only"])
def test_a_full_or_read_only_disk_is_one_sentence(
    writer: str,
    disk: Callable[[Path], disk_with_room],  # type: ignore[valid-type]
    battles: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    require(writer)
    with disk(tmp_path / "disk") as place:  # type: ignore[attr-defined]
        assert main(WRITERS[writer](battles, place)) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert "o space left on device" in said[-1] or "ead-only file system" in said[-1]
        assert not any(line.startswith("Traceback") for line in said)
        assert sizes(place) == {}
