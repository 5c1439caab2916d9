"""Files and folders that cannot be used: one sentence before anything slow, and nothing lost that was there."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.disks import disk_with_room, fill, read_only_disk
from support.node import needs_node
from support.paths import BATTLE_FILES
from support.small_agent import TINY, train_command

from gemma_metamon.atomic_files import append_whole
from gemma_metamon.commands import main
from gemma_metamon.commands._file_errors import explain_os_error
from gemma_metamon.results.schema import LadderRow
from gemma_metamon.showdown.ladder.results import BattleLog, Results
from gemma_metamon.strict_json import shown_path
from gemma_metamon.user_cache import VARIABLE

ROW = LadderRow(
    log="battle-gen1ou-1.log",
    player=None,
    battle="battle-gen1ou-1",
    username="A",
    format="gen1ou",
    opponent="B",
    result="won",
    reason="",
    rating_before=None,
    rating_after=None,
    turns=1,
    began_at="2026-01-01T00:00:00+00:00",
    seconds=1.0,
    decisions=1,
    fallbacks=0,
    fallback_reasons={},
    refused=0,
    reconnects=0,
    rejoins=0,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_dir = tmp_path_factory.mktemp("runs")
    assert main(train_command(save_dir, "--formats", "gen1ou")) == 0
    return save_dir / "run"


def amago_file(run: Path) -> str:
    """That run, as metamon would have written it."""
    folder = run.parent / "amago"
    if not folder.exists():
        assert main(["export", "--run_dir", str(run), "--to", "amago", "--out", str(folder)]) == 0
    (path,) = folder.rglob("policy_epoch_1.pt")
    return str(path)


def gates_file(run: Path) -> str:
    path = run.parent / "gates.toml"
    path.write_text('[[opponents]]\nplayer = "RandomPlayer"\nbattles = 1\nabove = 0.0\n')
    return str(path)


WRITERS = {
    "evaluate": lambda run, out: ["evaluate", "--players", "RandomPlayer", "--opponents", "TypeTrainer", "--out", out],
    "collect": lambda run, out: [
        *("collect", "--format", "gen1ou", "--battles", "1", "--players", "RandomPlayer", "--out", out),
    ],
    "ladder": lambda run, out: ["ladder", "--username", "Anna", "--player", "RandomPlayer", "--out", out],
    "improve": lambda run, out: [
        *("improve", "--run_dir", str(run), "--format", "gen1ou", "--rounds", "1", "--battles_per_round", "1"),
        *("--steps_per_round", "1", "--out", out),
    ],
    "explain": lambda run, out: ["explain", str(BATTLE_FILES[0]), "--run_dir", str(run), "--out", out],
    "watch": lambda run, out: [
        *("evaluate", "--run_dir", str(run), "--opponents", "RandomPlayer", "--device", "cpu", "--watch", out),
    ],
    "merged": lambda run, out: ["export", "--run_dir", str(run), "--to", "merged", "--out", out],
    "amago": lambda run, out: ["export", "--run_dir", str(run), "--to", "amago", "--out", out],
    "install": lambda run, out: ["configs", "install", "--to", out],
    "import": lambda run, out: ["import", amago_file(run), "--from", "amago", "--run_name", "again", "--save_dir", out],
    "register": lambda run, out: ["registry", "register", str(run), "--name", "best", "--registry", out],
    "release": lambda run, out: ["release", str(run), "--gates", gates_file(run), "--out", out],
    "monitor": lambda run, out: ["monitor", "--server_url", "http://127.0.0.1:9", "--out", out],
    "find-batch-size": lambda run, out: ["find-batch-size", *train_command(run.parent)[1:], "--out", out],
}


def said_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that the command ends with."""
    capsys.readouterr()
    assert main(arguments) == 1
    said = capsys.readouterr().err.strip().splitlines()
    sentences = [line for line in said if line.startswith("gemma-metamon ")]
    assert len(sentences) == 1, said
    assert sentences[0] == said[-1]
    assert not any(line.startswith("Traceback") for line in said)
    return sentences[0]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("file/out", "File exists|no folder|[Nn]ot a directory"),
        ("x" * 300, "[Ff]ile name too long|no folder"),
        ("caf\udce9", r"caf\\xe9 is not UTF-8; name another folder or file"),
        ("a\nb", r"a\\nb: a file or folder of such a name is neither read nor made"),
        ("zero\0byte", "holds a zero byte"),
        ("", "'' is empty; give a value"),
    ],
)
@needs_node
def test_a_place_that_cannot_be_written_to_is_one_sentence(
    writer: str, place: str, complaint: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("whole")
    out = f"{tmp_path}/{place}" if place else ""
    assert re.search(complaint, said_of(WRITERS[writer](run, out), capsys))
    assert (tmp_path / "file").read_text() == "whole"


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("disk", [lambda place: disk_with_room(place, 0), read_only_disk], ids=["full", "read-only"])
@needs_node
def test_a_full_or_read_only_disk_is_one_sentence(
    writer: str, disk: object, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk(tmp_path / "disk") as place:  # type: ignore[operator]
        out = place if writer == "install" else place / "out"
        said = said_of(WRITERS[writer](run, str(out)), capsys)
    assert "o space left on device" in said or "ead-only file system" in said


def test_the_report_of_a_folder_that_takes_nothing_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk_with_room(tmp_path / "disk", 1 << 16) as place:
        (place / "metrics.jsonl").write_text(json.dumps({"update": 1, "loss/total": 1.0}) + "\n")
        (place / "report.html").write_text("the one before")
        fill(place, 0)
        assert "cannot be written to (No space left on device)" in said_of(["report", str(place)], capsys)
        assert (place / "report.html").read_text() == "the one before"


def test_a_page_that_does_not_fit_on_the_disk_leaves_the_one_before(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk_with_room(tmp_path / "disk", 1 << 14) as place:
        (place / "page.html").write_text("the one before")
        said = said_of(WRITERS["explain"](run, str(place / "page.html")), capsys)
        assert "no space left on device; make room there" in said
        assert (place / "page.html").read_text() == "the one before"
        assert {path.name for path in place.iterdir()} == {"page.html", "filler"}


@pytest.mark.parametrize("form", ["merged", "amago", "import"])
def test_what_does_not_fit_on_the_disk_leaves_nothing(
    form: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk_with_room(tmp_path / "disk", 1 << 13) as place:
        assert "o space left on device" in said_of(WRITERS[form](run, str(place / "out")), capsys)
        assert [path for path in place.rglob("*") if path.is_file() and path.name != "filler"] == []


def test_a_registry_whose_disk_fills_up_has_no_version_of_what_does_not_fit(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk_with_room(tmp_path / "disk", 1 << 13) as place:
        registry = str(place / "registry")
        said = said_of(WRITERS["register"](run, registry), capsys)
        assert "cannot be written (No space left on device); make room or get leave there, or name another" in said
        kept = [path for path in place.rglob("*") if path.is_file() and path.name not in ("filler", ".lock")]
        assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in kept)
        (place / "filler").unlink()
        assert main(WRITERS["register"](run, registry)) == 0
        assert main(["registry", "show", "best@1", "--registry", registry]) == 0


def test_the_page_of_a_release_that_does_not_fit_is_not_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk_with_room(tmp_path / "disk", 1 << 12) as place:
        arguments = WRITERS["release"](damaged(run, tmp_path), str(place / "out"))
        assert "o space left on device" in said_of(arguments, capsys)
        assert not list(place.rglob("*.part"))
        assert not list(place.rglob("*.html"))


def damaged(run: Path, folder: Path) -> Path:
    """A copy that cannot be loaded: its release has one gate, and nothing is played."""
    shutil.copytree(run, folder / "damaged")
    (folder / "damaged/ckpts/epoch_1/weights.safetensors").write_bytes(b"")
    return folder / "damaged"


@pytest.mark.slow
@pytest.mark.server
@needs_node
@pytest.mark.parametrize("writer", ["evaluate", "collect"])
def test_a_disk_that_fills_up_leaves_whole_files(writer: str, run: Path, tmp_path: Path) -> None:
    with disk_with_room(tmp_path / "disk", 1 << 16) as place:
        arguments = [*WRITERS[writer](run, str(place / "out")), "--battles", "40", "--concurrency", "2"]
        command = [sys.executable, "-m", "gemma_metamon", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 1
        said = done.stderr.splitlines()
        assert said[-1].startswith(f"gemma-metamon {writer}: ")
        assert "o space left on device" in said[-1]
        assert "Traceback" not in done.stderr
        found = [path for path in place.rglob("*") if path.is_file() and path.name != "filler"]
        assert found
        assert not any(path.name.endswith(".part") for path in found)
        if writer == "collect":
            for path in found:
                assert main(["inspect", str(path), "--json"]) == 0
        else:
            battles = [json.loads(line) for line in (place / "out" / "battles.jsonl").read_text().splitlines()]
            assert all("|win|" in (place / "out" / battle["log"]).read_text() for battle in battles)


@needs_node
@pytest.mark.parametrize("cache", ["a file", "full", "read-only"])
def test_a_cache_that_takes_nothing_is_one_sentence(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("whole")
    disks = {
        "a file": lambda: nullcontext(tmp_path / "file"),
        "full": lambda: disk_with_room(tmp_path / "disk", 0),
        "read-only": lambda: read_only_disk(tmp_path / "disk"),
    }
    with disks[cache]() as place:
        monkeypatch.setenv(VARIABLE, str(place / "cache"))
        for command in (["showdown", "start"], ["ladder", "--username", "Anna", "--player", "RandomPlayer"]):
            monkeypatch.chdir(tmp_path)
            assert str(place) in said_of(command, capsys)


@pytest.mark.parametrize("command", [["inspect", "{}"], ["explain", "{}", "--run_dir", "{}"], ["report", "{}/x"]])
def test_an_input_that_is_a_folder_or_too_long_is_one_sentence(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (tmp_path, tmp_path / ("x" * 300)):
        said_of([part.format(place) for part in command], capsys)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="closed to all but root; not run as root")
@pytest.mark.parametrize("writer", WRITERS)
@needs_node
def test_a_folder_without_permission_is_one_sentence(
    writer: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    out = tmp_path / "closed" if writer == "install" else tmp_path / "closed" / "out"
    assert "ermission denied" in said_of(WRITERS[writer](run, str(out)), capsys)


def test_output_that_the_disk_does_not_take_is_one_sentence(tmp_path: Path) -> None:
    with disk_with_room(tmp_path / "disk", 0) as place, (place / "derived.gin").open("w") as out:
        command = [sys.executable, "-m", "gemma_metamon", "configs", "derive", TINY]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "gemma-metamon configs: no space left on device; make room there, or name a place that has some, and run the "
        "command again\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="names there are no bytes")
def test_a_name_outside_utf8_is_told_as_bytes() -> None:
    command = [sys.executable.encode(), b"-m", b"gemma_metamon", b"inspect", b"caf\xe9.json"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (b"gemma-metamon inspect: caf\\xe9.json is not UTF-8; name another folder or file\n")


@pytest.mark.parametrize("command", ["collect", "evaluate", "improve"])
@pytest.mark.parametrize("name", ["../gen0ou", "nowhere\n", "*"])
def test_a_format_that_is_part_of_a_path_is_one_of_the_simulators(
    command: str, name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of([*WRITERS[command](run, str(tmp_path / "out")), "--format", name], capsys)
    assert f"--format {name!r}: the simulator has no such format" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", " ", "..", "../there", "a\nb", "a/b", "a\\b"])
def test_an_imported_run_has_a_name(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--from", "amago", "--save_dir", str(tmp_path), "--run_name", name]
    assert "--run_name " in said_of(["import", "policy_epoch_1.pt", *flags], capsys)
    assert list(tmp_path.iterdir()) == []


# --- the last resort -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR])
def test_what_the_machine_says_is_told_with_path_and_mend(number: int) -> None:
    said = explain_os_error(OSError(number, os.strerror(number), "some/file"))
    assert said is not None
    assert said.startswith(f"some/file: {os.strerror(number)[0].lower()}")
    assert "; " in said


def test_an_error_of_our_own_keeps_its_traceback() -> None:
    assert explain_os_error(OSError(errno.EBADF, "Bad file descriptor")) is None
    assert explain_os_error(OSError("no number")) is None


@given(st.text() | st.binary())
def test_whatever_a_name_holds_can_be_printed(name: str | bytes) -> None:
    said = shown_path(name)
    assert said.isprintable()
    said.encode("utf-8")


# --- what is added to a file ---------------------------------------------------------------------------------------


def test_a_line_for_which_there_is_no_room_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    with disk_with_room(tmp_path / "disk", 8192) as place:
        path = place / "lines"
        append_whole(path, "first\n")
        with pytest.raises(OSError, match="No space left"):
            append_whole(path, "x" * 20_000 + "\n")
        assert path.read_text() == "first\n"
        append_whole(path, "second\n")
        assert path.read_text() == "first\nsecond\n"


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with disk_with_room(tmp_path / "disk", 1 << 16) as place:
        results = Results(place / "ladder")
        yield results
        results.close()


def test_a_ladders_result_is_kept_until_the_disk_takes_it(results: Results, caplog: pytest.LogCaptureFixture) -> None:
    disk = results.folder.parent
    log = results.new_log("battle-gen1ou-1")
    assert log.path is not None
    assert results.write(log, replace(ROW, log=log.path.name))
    fill(disk, 0)
    more = BattleLog(results.logs / "battle-gen1ou-2.log")
    long = replace(ROW, log="battle-gen1ou-2.log", reason="x" * 5000)
    assert not results.write(more, long)
    assert "the result of battle-gen1ou-2 is not written down yet: No space left on device" in caplog.text
    with pytest.raises(OSError, match="No space left"):
        results.write_rest()
    assert results.finished == 2  # it was played
    (disk / "filler").unlink()
    results.write_rest()
    results.close()
    again = Results(results.folder)
    assert {name: row.reason for name, row in again.rows.items()} == {
        log.path.stem: "",
        "battle-gen1ou-2": long.reason,
    }
    again.close()


def test_a_full_disk_costs_no_battle_its_log(results: Results, caplog: pytest.LogCaptureFixture) -> None:
    disk = results.folder.parent
    log = results.new_log("battle-gen1ou-1")
    assert log.path is not None
    log.add(["|player|p1|A", "|request|secret"])
    fill(disk, 0)
    for turn in range(3):
        log.add([f"|turn|{turn}{'x' * 3000}"])
    assert caplog.text.count("lacks some lines for now: No space left on device") == 1
    (disk / "filler").unlink()
    log.add(["|win|A"])
    assert log.path.read_text().splitlines() == log.lines
    assert len(log.lines) == 5
