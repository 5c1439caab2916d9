"""`gemma-metamon prepare` of archives: the store of the unpacked folder, and nothing of a stranger's tricks."""

import gzip
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_agent import BATTLES

from gemma_metamon.battle.replays import find_battles
from gemma_metamon.commands import main
from gemma_metamon.data import battle_sources
from gemma_metamon.data.archives import list_archive, read_archive
from gemma_metamon.data.store import BattleStore
from gemma_metamon.data.store_files import hash_lines
from gemma_metamon.errors import DataError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "lz4": lz4.frame.compress}
GEN1 = {path.name: path.read_bytes() for path in find_battles(BATTLES, ["gen1ou"])}
ANY = next(iter(GEN1.values()))


def tar_of(members: Iterable[tuple[str | tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            header = tarfile.TarInfo(member) if isinstance(member, str) else member
            if header.isreg() and not header.size:
                header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def archive(folder: Path, members: Iterable[tuple[str | tarfile.TarInfo, bytes]], kind: str = "gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"gen1ou.tar.{kind}"
    path.write_bytes(COMPRESS[kind](tar_of(members)))
    return path


def command(source: Path, out: Path, *extra: str) -> list[str]:
    flags = ["--parsed_replay_dir", str(source), "--out", str(out), "--workers", "1", "--shard_battles", "2"]
    return ["prepare", *flags, *extra]


def whole_store(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


def failure(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    assert main(arguments) == 1
    return str(capsys.readouterr().err.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("unpacked") / "store"
    assert main(command(BATTLES, store, "--formats", "gen1ou")) == 0
    return store


# --- the same store ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("prefix", ["", "gen1ou/", "./", "data/replays/gen1ou/"])
def test_an_archive_gives_the_store_of_its_folder_byte_for_byte(
    kind: str, prefix: str, unpacked: Path, tmp_path: Path
) -> None:
    path = archive(tmp_path, [(prefix + name, content) for name, content in sorted(GEN1.items())], kind)
    assert main(command(path, tmp_path / "store", "--verify")) == 0
    assert whole_store(tmp_path / "store") == whole_store(unpacked)


def test_a_folder_of_archives_and_files_is_prepared_together(tmp_path: Path, unpacked: Path) -> None:
    archive(tmp_path / "in", sorted(GEN1.items()), "lz4")
    (tmp_path / "in" / "gen9ou").symlink_to((BATTLES / "gen9ou").absolute())
    assert main(command(tmp_path / "in", tmp_path / "store")) == 0
    assert main(command(BATTLES, tmp_path / "both", "--formats", "gen1ou", "gen9ou")) == 0
    assert whole_store(tmp_path / "store") == whole_store(tmp_path / "both")


@pytest.mark.parametrize("workers", ["1", "3"])
def test_an_archive_in_another_order_gives_the_same_battles(workers: str, unpacked: Path, tmp_path: Path) -> None:
    members = list(GEN1.items())
    random.Random(3).shuffle(members)
    raw = [(name.removesuffix(".lz4"), lz4.frame.decompress(content)) for name, content in members]
    path = archive(tmp_path, raw)
    assert main(command(path, tmp_path / "store", "--workers", workers)) == 0
    one, two = (BattleStore(root).battles(["gen1ou"]) for root in (tmp_path / "store", unpacked))
    assert [battle.path.name for battle in one] == [name for name, _ in raw]
    rows = {battle.path.name: battle.load() for battle in two}
    for battle in one:
        ours, theirs = battle.load(), rows[f"{battle.path.name}.lz4"]
        assert all((getattr(ours, name) == getattr(theirs, name)).all() for name in ours.__slots__)


def test_a_listing_hashes_names_as_the_store_does(tmp_path: Path) -> None:
    listing = list_archive(archive(tmp_path, GEN1.items()))
    assert (listing.battles, listing.names) == (len(GEN1), hash_lines(list(GEN1)))
    contents = {member.name: member.read() for member in read_archive(listing)}
    assert contents == GEN1


@pytest.mark.slow
def test_what_was_made_before_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    members = [(f"{i:03d}.json.lz4", ANY if i != 7 else b"no battle") for i in range(40)]
    path, out = archive(tmp_path, members), tmp_path / "store"
    assert main(command(path, out, "--json")) == 0
    whole = whole_store(out)
    assert json.loads(capsys.readouterr().out)["set_aside"] == 1
    for name in ("gen1ou/00003.arrow", "gen1ou/00011.arrow"):
        (out / name).unlink()
    times = {file: file.stat().st_mtime_ns for file in out.rglob("*.arrow")}
    assert main(command(path, out, "--json", "--verify")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["done_before"], printed["battles"], printed["set_aside"]) == (36, 39, 1)
    again = whole_store(out)
    assert {name: content for name, content in again.items() if name != "shards.jsonl"} == {
        name: content for name, content in whole.items() if name != "shards.jsonl"
    }
    assert all(file.stat().st_mtime_ns == when for file, when in times.items())


def test_nothing_is_written_but_the_store_and_memory_is_bounded(tmp_path: Path) -> None:
    """2,000 members of 64 KiB, 128 MiB in all: a process that held them would show it."""
    noise = random.Random(0).randbytes(2**16)
    path = archive(tmp_path / "in", ((f"{i:04d}.json", noise) for i in range(2000)), "lz4")
    code = (
        "import resource, sys; from pathlib import Path; from gemma_metamon.data.battle_sources import *\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"(source,) = find_sources(Path({str(path)!r}), ['gen1ou']).values()\n"
        "shards = source.plan(64).shards('gen1ou')\n"
        "print(sum(len(task.names) for task in source.tasks(Path('x'), shards, 64, set())))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    battles, kilobytes = map(int, done.stdout.split())
    assert battles == 2000
    assert kilobytes < 40 * 1024
    assert [item.name for item in tmp_path.iterdir()] == ["in"]


# --- a stranger's members ------------------------------------------------------------------------------------------


def special(name: str, **fields: Any) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(header, field, value)
    return header


BAD_MEMBERS: dict[str, tuple[str | tarfile.TarInfo, bytes, str]] = {
    "parent": ("../../bad.json.lz4", ANY, r"leads out of the archive"),
    "deep parent": ("a/../../bad.json.lz4", ANY, r"leads out of the archive"),
    "absolute": ("/tmp/bad.json.lz4", ANY, r"leads out of the archive"),
    "symbolic link": (special("bad.json.lz4", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"", "no plain file"),
    "hard link": (special("bad.json.lz4", type=tarfile.LNKTYPE, linkname="good.json.lz4"), b"", "no plain file"),
    "device": (special("bad.json.lz4", type=tarfile.CHRTYPE, devmajor=1, devminor=5), b"", "no plain file"),
    "pipe": (special("bad.json.lz4", type=tarfile.FIFOTYPE), b"", "no plain file"),
    "large": ("bad.json", b" " * (2**25 + 1), r"claims 33554433 bytes; a battle file has at most 33554432"),
    "another format": ("gen9ou/bad.json.lz4", ANY, "lies in a folder gen9ou, in an archive of gen1ou"),
    "control characters": ("bad\x1b[31m.json.lz4", ANY, "its name is not UTF-8, not printable"),
    "surrogates": ("bad\udcff.json.lz4", ANY, "its name is not UTF-8, not printable"),
    "long name": ("b" * 300 + ".json.lz4", ANY, "longer than a file's name can be"),
    "name again": ("x/good.json.lz4", ANY, "another member has the same name"),
    "no lz4": ("bad.json.lz4", b"bad", "not a whole lz4 frame"),
    "no JSON": ("bad.json", b"bad", "not JSON"),
    "empty": ("bad.json", b"", "not JSON"),
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
@pytest.mark.parametrize("workers", ["1"])
def test_a_member_that_is_no_battle_file_is_set_aside_with_its_reason(
    name: str, workers: str, tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    bad, content, reason = BAD_MEMBERS[name]
    path = archive(tmp_path / "in", [("good.json.lz4", ANY), (bad, content), ("last.json.lz4", ANY)], "lz4")
    flags = ["--json", "--max_set_aside", "0.5", "--workers", workers]
    for done_before in (0, 3):
        caplog.clear()
        assert main(command(path, tmp_path / "store", *flags)) == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["battles"], printed["set_aside"], printed["done_before"]) == (2, 1, done_before)
        assert reason in caplog.text
        assert "\x1b" not in caplog.text
    battles = BattleStore(tmp_path / "store").battles(["gen1ou"])
    assert [battle.damage is None for battle in battles] == [True, False, True]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in", "store"]


def test_other_members_are_passed_over_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = ["README.md", ".hidden.json", "gen1ou/._a.json.lz4", "index.csv", "bad.json.lz4.part"]
    folder = special("gen1ou/folder.json", type=tarfile.DIRTYPE)
    path = archive(tmp_path, [*((name, b"x") for name in others), (folder, b""), *GEN1.items()])
    assert main(command(path, tmp_path / "store")) == 0
    assert "5 members of" in caplog.text
    assert len(BattleStore(tmp_path / "store").battles(["gen1ou"])) == len(GEN1)


def test_one_shard_holds_no_more_than_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(battle_sources, "MAX_SHARD_BYTES", 2 * len(ANY))
    path = archive(tmp_path, [(f"{i}.json.lz4", ANY) for i in range(6)])
    assert main(command(path, tmp_path / "store", "--shard_battles", "3", "--max_set_aside", "0.5")) == 0
    battles = BattleStore(tmp_path / "store").battles(["gen1ou"])
    assert [battle.damage is None for battle in battles] == [True, True, False] * 2
    assert "choose a smaller --shard_battles" in caplog.text


# --- archives that are not whole -----------------------------------------------------------------------------------


def raw_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    return special(name, size=size, type=kind).tobuf(tarfile.GNU_FORMAT)


def pax(fields: dict[str, str]) -> bytes:
    body = b""
    for field, value in fields.items():
        length = len(field) + len(value) + 3
        length += len(str(length + len(str(length))))
        body += f"{length} {field}={value}\n".encode()
    return raw_header("x", len(body), tarfile.XHDTYPE) + body + bytes(-len(body) % 512)


WHOLE = tar_of(sorted(GEN1.items()))
BATTLE = raw_header("a.json.lz4", len(ANY)) + ANY + bytes(-len(ANY) % 512)
END = bytes(1024)
BAD_TARS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is cut off"),
    "no tar": (b"hello " * 1000, "a damaged header"),
    "cut in a header": (WHOLE[:700][:512] + WHOLE[512:700], "unexpected end of data|cut off"),
    "cut in a member": (BATTLE[: 512 + 100], "unexpected end of data"),
    "cut between members": (BATTLE, "it is cut off"),
    "damaged header": (BATTLE + b"\xff" * 512 + BATTLE + END, "a damaged header"),
    "something behind": (BATTLE + END + BATTLE + END, "something follows the archive's end"),
    "claims a terabyte": (raw_header("a.json", 2**40) + bytes(2**12), "claims 1099511627776 bytes"),
    "claims less than nothing": (raw_header("a.json", -512) + END, "claims -512 bytes"),
    "a name of a gigabyte": (raw_header("././@LongLink", 2**30, tarfile.GNUTYPE_LONGNAME) + bytes(2**23), "a header"),
    "fields of a gigabyte": (raw_header("a", 2**30, tarfile.XHDTYPE) + bytes(2**23), "a header"),
    "fields that are no numbers": (pax({"GNU.sparse.size": "1,2,3"}) + BATTLE + END, "invalid literal"),
    "fields of 5,000 digits": (pax({"GNU.sparse.map": "9" * 5000}) + BATTLE + END, "4300 digits"),
    "fields below nothing": (pax({"size": "-1"}) + BATTLE + END, "claims -1 bytes"),
    "zeros without end": (BATTLE + bytes(2**25), "a header in it claims more"),
}


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("name", BAD_TARS)
def test_an_archive_that_is_not_whole_is_one_sentence_before_anything_is_written(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content, words = BAD_TARS[name]
    path = tmp_path / f"gen1ou.tar.{kind}"
    path.write_bytes(COMPRESS[kind](content))
    started = time.monotonic()
    with pytest.raises(DataError, match=words):
        list_archive(path)
    assert time.monotonic() - started < 20
    said = failure(command(path, tmp_path / "store"), capsys)
    assert f"gemma-metamon prepare: {path} cannot be read as a whole archive" in said
    assert "get it again" in said
    assert not (tmp_path / "store").exists()


@settings(max_examples=60)
@given(st.sampled_from(sorted(COMPRESS)), st.booleans(), st.data())
def test_damage_anywhere_is_named_or_changes_nothing_that_is_used(
    tmp_path_factory: pytest.TempPathFactory, kind: str, inside: bool, data: st.DataObject
) -> None:
    """Bytes changed or cut off, in the compressed file or in the tar before it is compressed."""
    content = bytearray(WHOLE if inside else COMPRESS[kind](WHOLE))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, 2048) | st.integers(0, len(content) - 1)) % len(content)
        content[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.getbasetemp() / f"gen1ou.tar.{kind}"
    path.write_bytes(COMPRESS[kind](bytes(content)) if inside else bytes(content))
    said = ""
    try:
        listing = list_archive(path)
        for member in read_archive(listing):
            assert member.complaint or len(member.read()) == member.size_bytes
    except DataError as error:
        said = str(error)
    assert not said or said.startswith(f"{path} cannot be read as a whole archive")


def test_an_lz4_header_that_claims_the_world_claims_it_in_vain(tmp_path: Path) -> None:
    path = archive(tmp_path, GEN1.items(), "lz4")
    with lz4.frame.LZ4FrameCompressor(auto_flush=True) as compressor:
        path.write_bytes(compressor.begin(source_size=2**62) + compressor.compress(WHOLE) + bytes(4))
    with pytest.raises(DataError, match="cannot be read as a whole archive"):
        list_archive(path)


def test_an_archive_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    listing = list_archive(archive(tmp_path, GEN1.items()))
    archive(tmp_path, [(f"other-{name}", content) for name, content in GEN1.items()])
    with pytest.raises(DataError, match="has changed while it was read"):
        list(read_archive(listing))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a file that its reader may not read")
def test_an_archive_that_may_not_be_read_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = archive(tmp_path, GEN1.items())
    path.chmod(0)
    assert "Permission denied" in failure(command(path, tmp_path / "store"), capsys)


# --- what people type ----------------------------------------------------------------------------------------------


def test_prepare_says_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, out = archive(tmp_path / "in", GEN1.items()), tmp_path / "store"
    assert "is an archive of gen1ou, not of 'gen9ou'" in failure(command(path, out, "--formats", "gen9ou"), capsys)
    assert "no battle of format 'gen9ou'" in failure(command(path.parent, out, "--formats", "gen9ou"), capsys)
    assert f"give --parsed_replay_dir {path.parent}" in failure(command(tmp_path, out), capsys)
    archive(tmp_path / "in", GEN1.items(), "lz4")
    said = failure(command(path.parent, out), capsys)
    assert "gen1ou.tar.gz and " in said
    assert "are archives of the same format" in said
    other = path.rename(tmp_path / "battles.tar.gz")
    assert "is a file; expected a folder of battles" in (said := failure(command(other, out), capsys))
    assert "<format>.tar.lz4 or <format>.tar.gz" in said
    nothing = archive(tmp_path / "nothing", [("README", b"x")])
    assert "holds no battle among 1 members" in failure(command(nothing, out), capsys)
    assert not out.exists()


def test_files_of_a_format_go_before_its_archive(tmp_path: Path) -> None:
    archive(tmp_path, [("only.json.lz4", ANY)])
    (tmp_path / "gen1ou").symlink_to((BATTLES / "gen1ou").absolute())
    (source,) = battle_sources.find_sources(tmp_path, ["gen1ou"]).values()
    assert list(source.names) == sorted(GEN1)  # type: ignore[union-attr]


@pytest.mark.parametrize("formats", [[], ["--formats", "gen1ou"]])
@pytest.mark.parametrize("whole_folder", [False, True])
def test_training_on_an_archive_names_the_command_that_makes_a_store(
    formats: list[str], whole_folder: bool, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = archive(tmp_path / "my data", GEN1.items())
    wanted = f"gemma-metamon prepare --parsed_replay_dir '{path}' --out '{path.parent / 'gen1ou_store'}'"
    source = path.parent if whole_folder else path
    config = ["--model_gin_config", "gemma_tiny_entity.gin", "--train_gin_config", "quick.gin"]
    said = failure(
        [
            "train",
            "--run_name",
            "x",
            "--save_dir",
            str(tmp_path),
            "--parsed_replay_dir",
            str(source),
            *config,
            *formats,
        ],
        capsys,
    )
    assert wanted in said
    assert main(["prepare", "--parsed_replay_dir", str(path), "--out", str(path.parent / "gen1ou_store")]) == 0


def test_inspecting_an_archive_names_the_command_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = archive(tmp_path, GEN1.items())
    assert "is an archive of battles; make a store of it once" in failure(["inspect", str(path)], capsys)
