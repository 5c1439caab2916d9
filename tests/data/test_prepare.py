"""`gemma-metamon prepare`: parallel, resumable, verified; damaged battles are set aside, another store is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from filelock import FileLock
from support.small_agent import BATTLES

from gemma_metamon.battle.replays import find_battles
from gemma_metamon.commands import main
from gemma_metamon.data.preparing import LOCK
from gemma_metamon.data.store import BattleStore
from gemma_metamon.data.store_files import SHARDS, read_records

FORMATS = ["gen1ou", "gen9ou"]


def command(folder: Path, out: Path, *extra: str) -> list[str]:
    flags = ["--parsed_replay_dir", str(folder), "--out", str(out), "--workers", "1", "--shard_battles", "2"]
    return ["prepare", *flags, *extra]


def copies(folder: Path, count: int) -> Path:
    """A folder of gen1ou battles, all of them one, under names of their own."""
    (folder / "gen1ou").mkdir(parents=True)
    source = find_battles(BATTLES, ["gen1ou"])[0]
    for i in range(count):
        shutil.copy(source, folder / "gen1ou" / f"{i:04d}.json.lz4")
    return folder


def report(capsys: pytest.CaptureFixture) -> dict[str, Any]:
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    """Each shard's bytes, and when it was written."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(root.glob("*/*.arrow"))
    }


def test_a_folder_is_prepared_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(command(BATTLES, tmp_path / "store", "--formats", *FORMATS, "--verify", "--json")) == 0
    printed = report(capsys)
    battles = BattleStore(tmp_path / "store").battles(FORMATS)
    assert printed["battles"] == len(battles) == len(find_battles(BATTLES, FORMATS))
    assert printed["timesteps"] == sum(battle.load().n_decisions for battle in battles)
    assert printed["shards"] == printed["verified_shards"] == len(files(tmp_path / "store"))
    assert (printed["done_before"], printed["set_aside"], printed["unknown_words"]) == (0, 0, 0)


def test_people_get_sentences(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = tmp_path / "words.json"
    words.write_text('["tauros"]')
    out = tmp_path / "store"
    assert main(command(BATTLES, out, "--formats", "gen9ou", "--tokenizer", str(words), "--verify")) == 0
    battles, unknown, verified = capsys.readouterr().out.splitlines()
    assert battles.startswith("4 battles of 4 files (0 were there before), 108 timesteps, 2 shards, ")
    assert "words were in no vocabulary; the most frequent: [('<blank>'" in unknown
    assert verified == "2 shards have the checksums they were written with"


def test_processes_write_the_same_bytes(tmp_path: Path) -> None:
    for workers in ("1", "2"):
        assert main(command(BATTLES, tmp_path / workers, "--formats", *FORMATS, "--workers", workers)) == 0
    one, two = files(tmp_path / "1"), files(tmp_path / "2")
    assert {name: content for name, (content, _) in one.items()} == {
        name: content for name, (content, _) in two.items()
    }
    assert read_records(tmp_path / "1") == read_records(tmp_path / "2")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_does_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, out = copies(tmp_path / "folder", 120), tmp_path / "store"
    running = subprocess.Popen(
        [sys.executable, "-m", "gemma_metamon", *command(folder, out, "--workers", "2")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not ((out / SHARDS).is_file() and (out / SHARDS).read_text().count("\n") >= 5):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)  # its workers get no signal: they must notice
    running.wait()
    while alive_in(running.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = read_records(out)
    assert 5 <= len(done) < 60
    before = {name: content for name, content in files(out).items() if name in done}

    assert main(command(folder, out, "--json", "--verify")) == 0
    printed = report(capsys)
    assert printed["done_before"] == 2 * len(done)
    assert (printed["battles"], printed["verified_shards"]) == (120, 60)
    after = files(out)
    assert {name: after[name] for name in done} == before
    assert not list(out.rglob("*.part"))


def alive_in(session: int) -> list[str]:
    found = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(session)], capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if "Z" not in line]


def test_a_line_that_was_cut_off_counts_as_not_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "store"
    assert main(command(BATTLES, out, "--formats", "gen1ou")) == 0
    whole = read_records(out)
    text = (out / SHARDS).read_text()
    (out / SHARDS).write_text(text[:-30])
    assert len(read_records(out)) == len(whole) - 1
    capsys.readouterr()
    assert main(command(BATTLES, out, "--formats", "gen1ou", "--json", "--verify")) == 0
    assert report(capsys)["done_before"] == 2 * (len(whole) - 1)
    assert read_records(out) == whole


def test_formats_can_be_added_later(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "store"
    assert main(command(BATTLES, out, "--formats", "gen9ou")) == 0
    before = files(out)
    assert main(command(BATTLES, out, "--formats", "gen1ou", "--shard_battles", "3")) == 0
    assert before.items() <= files(out).items()
    assert BattleStore(out).formats == FORMATS
    assert main(["prepare", "--out", str(out), "--verify"]) == 0


def test_a_damaged_shard_is_named_and_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "store"
    assert main(command(BATTLES, out, "--formats", *FORMATS)) == 0
    before = files(out)
    shard = out / "gen1ou" / "00001.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert main(["prepare", "--out", str(out), "--verify"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 5 shards" in said
    assert "gen1ou/00001.arrow does not have the checksum it was written with" in said
    assert "delete them and run the same prepare command again" in said
    shard.unlink()
    assert main(command(BATTLES, out, "--formats", *FORMATS, "--verify")) == 0
    after = files(out)
    assert {name for name in before if before[name] != after[name]} == {"gen1ou/00001.arrow"}
    assert before["gen1ou/00001.arrow"][0] == after["gen1ou/00001.arrow"][0]


def test_an_unfinished_store_does_not_verify(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "store"
    assert main(command(BATTLES, out, "--formats", "gen9ou")) == 0
    (out / SHARDS).write_text("")
    assert main(["prepare", "--out", str(out), "--verify"]) == 1
    assert "2 of 2 shards" in (said := capsys.readouterr().err.splitlines()[-1])
    assert "gen9ou/00000.arrow is not finished" in said


def test_damaged_battles_are_set_aside_with_their_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copies(tmp_path / "folder", 24)
    (folder / "gen1ou" / "0007.json.lz4").write_text("no battle")
    for done_before in (0, 24):  # counted the same when it was there before
        caplog.clear()
        assert main(command(folder, tmp_path / "store", "--json", "--shard_battles", "10")) == 0
        printed = report(capsys)
        assert (printed["battles"], printed["files"], printed["done_before"]) == (23, 24, done_before)
        assert "set aside: 0007.json.lz4: not a whole lz4 frame" in caplog.text
        (kind,) = printed["set_aside_kinds"]
        assert kind["files"] == printed["set_aside"] == 1
        (line,) = Path(printed["set_aside_list"]).read_text().splitlines()
        assert json.loads(line) == {"file": str(folder / "gen1ou" / "0007.json.lz4"), "reason": kind["example"]}
    battles = BattleStore(tmp_path / "store").battles(["gen1ou"])
    assert [(path.name, "lz4 frame" in reason) for path, reason in battles.damaged()] == [("0007.json.lz4", True)]
    assert [i for i, battle in enumerate(battles) if battle.damage is not None] == [7]


def test_damage_is_told_by_kind_with_an_example_each(
    tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copies(tmp_path / "folder", 30)
    for i in range(12):
        (folder / "gen1ou" / f"{i:04d}.json.lz4").write_text("no battle")
    for i in range(12, 15):
        (folder / "gen1ou" / f"{i:04d}.json.lz4").write_bytes(lz4.frame.compress(b"[]" * i))
    assert main(command(folder, tmp_path / "store", "--max_set_aside", "0.9")) == 0
    first, second, *kinds = capsys.readouterr().out.splitlines()
    assert first.startswith("15 battles of 30 files (0 were there before), ")
    assert second == f"15 files set aside, all with their reasons in {tmp_path / 'store' / 'set_aside.jsonl'}:"
    assert [line.split()[:3] for line in kinds] == [["12", "as", "0000.json.lz4:"], ["3", "as", "0012.json.lz4:"]]
    assert caplog.text.count("set aside: ") == 2
    assert len((tmp_path / "store" / "set_aside.jsonl").read_text().splitlines()) == 15


def test_a_battle_in_the_folder_of_another_format_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = copies(tmp_path / "folder", 24)
    stray = find_battles(BATTLES, ["gen9ou"])[0]
    (folder / "gen1ou" / "0003.json.lz4").write_bytes(stray.read_bytes())
    assert main(command(folder, tmp_path / "store", "--json")) == 0
    printed = report(capsys)
    assert (printed["battles"], printed["set_aside"]) == (23, 1)
    assert printed["set_aside_kinds"][0]["example"] == (
        "0003.json.lz4: is a battle of gen9ou, among those of gen1ou; move it, or leave it out"
    )


def test_too_many_damaged_battles_stop_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = copies(tmp_path / "folder", 40)
    for i in range(0, 40, 10):
        (folder / "gen1ou" / f"{i:04d}.json.lz4").write_text("no battle")
    assert main(command(folder, tmp_path / "store")) == 1
    assert "battle files are damaged: 10%, and --max_set_aside allows 5%" in capsys.readouterr().err
    assert main(command(folder, tmp_path / "store", "--max_set_aside", "0.2", "--json")) == 0
    assert report(capsys)["set_aside"] == 4


def test_unknown_words_are_counted_over_all_shards(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = tmp_path / "words.json"
    words.write_text('["tauros", "<blank>"]')
    counts = []
    for name, workers in (("one", "1"), ("two", "2")):
        flags = ["--formats", *FORMATS, "--tokenizer", str(words), "--workers", workers, "--json"]
        assert main(command(BATTLES, tmp_path / name, *flags)) == 0
        printed = report(capsys)
        counts.append((printed["unknown_words"], printed["most_frequent"]))
    assert counts[0] == counts[1]
    assert counts[0][0] > 1000


REFUSALS = {
    "another space": (
        ["--obs_space", "DefaultObservationSpace"],
        "was prepared with obs_space 'TeamPreviewObservationSpace', but this run uses 'DefaultObservationSpace'",
    ),
    "another reward": (["--reward_function", "BinaryReward"], "use --reward_function DefaultShapedReward, or"),
    "unknown space": (["--obs_space", "Nope"], "unknown observation space 'Nope'"),
    "no such format": (["--formats", "gen3ou"], "no battle of format 'gen3ou'"),
    "no folder": (["--parsed_replay_dir", "nowhere"], "no such folder: nowhere"),
    "no workers": (["--workers", "0"], "--workers 0; it must be at least 1"),
    "no share": (["--max_set_aside", "2"], "--max_set_aside 2.0; it is a share"),
    "no word list": (["--tokenizer", "words.json"], "no word list words.json"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_work_is_one_sentence_and_changes_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags, complaint = REFUSALS[name]
    out = tmp_path / "store"
    assert main(command(BATTLES, out, "--formats", "gen9ou")) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(command(BATTLES, out, "--formats", "gen9ou", *flags)) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("gemma-metamon prepare: ")
    assert complaint in said[-1]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_folder_that_has_changed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = copies(tmp_path / "folder", 3)
    assert main(command(folder, tmp_path / "store")) == 0
    shutil.copy(folder / "gen1ou" / "0000.json.lz4", folder / "gen1ou" / "0009.json.lz4")
    assert main(command(folder, tmp_path / "store")) == 1
    assert "was begun with 3 battle files of gen1ou, and now there are 4" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(command(BATTLES, tmp_path)) == 1
    assert "is neither empty nor a prepared store; give --out a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert main(["prepare", "--out", str(tmp_path), "--verify"]) == 1
    assert "is no prepared store: it has no store.json" in capsys.readouterr().err
    assert main(["prepare", "--out", str(tmp_path)]) == 1
    assert "nothing to do: give --parsed_replay_dir" in capsys.readouterr().err


def test_two_runs_at_once_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with FileLock(tmp_path / LOCK):
        (tmp_path / "store.json").write_text("{}")
        assert main(command(BATTLES, tmp_path)) == 1
    assert "another process is preparing" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert main(command(BATTLES, tmp_path / "file" / "store")) == 1
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_workers_import_no_torch() -> None:
    code = "import sys, gemma_metamon.data.preparing; print({'torch', 'gin'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
