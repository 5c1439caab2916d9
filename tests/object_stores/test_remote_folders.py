"""Folders in object stores: what is fetched and what is uploaded.

In S3 (moto's server), in Google's (its emulator), in fsspec's own memory, and read from the hub (a stand-in).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hub_stand_in import Hub, hub_stand_in
from support.processes import free_port
from support.small_agent import BATTLES, train_command
from support.text_folders import contents, write

from gemma_metamon.commands import main
from gemma_metamon.commands._arguments import make_folder
from gemma_metamon.errors import ConfigError, DataError, MissingFileError, ServerError
from gemma_metamon.object_stores.checkpoints import WHOLE
from gemma_metamon.object_stores.folders import RemoteFolder, address_of
from gemma_metamon.object_stores.mirrors import Mirror


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket/a b/c", "s3://bucket/a b/c"),
        ("hf://datasets/somebody/battles", "hf://datasets/somebody/battles"),
        ("runs/first", None),
        ("/runs/first", None),
        ("c:/runs", None),
    ],
)
def test_an_address_is_known_from_a_path(text: str, address: str | None) -> None:
    assert address_of(Path(text)) == address


@pytest.mark.parametrize("flag", ["--save_dir", "--parsed_replay_dir"])
def test_a_folder_of_this_machine_is_no_address(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train_command(tmp_path, flag, "file:///nowhere/data")) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("file:/nowhere/data is a folder of this machine; name it without file://, as in /data/runs")


def test_a_folder_that_is_called_like_an_address_is_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s3:/bucket").mkdir(parents=True)
    assert address_of(Path("s3://bucket")) is None


def test_what_was_uploaded_is_fetched_and_again_only_where_it_changed(store: str, tmp_path: Path) -> None:
    write(tmp_path / "a", x="1", inner__y="2")
    remote = RemoteFolder(f"{store}/folder")
    assert Mirror(tmp_path / "a", remote).bring_up_to_date() == 2
    place = remote.fetch()
    assert place.name == "folder"
    assert contents(place) == {"x": "1", "inner/y": "2"}
    times = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    write(tmp_path / "a", x="3")
    assert Mirror(tmp_path / "a", RemoteFolder(f"{store}/folder")).bring_up_to_date() == 1
    assert contents(RemoteFolder(f"{store}/folder").fetch()) == {"x": "3", "inner/y": "2"}
    assert [path.name for path, time in times.items() if path.stat().st_mtime_ns != time] == ["x"]


def test_a_checkpoint_that_is_half_uploaded_is_not_fetched(store: str, tmp_path: Path) -> None:
    write(tmp_path / "run", ckpts__epoch_1__weights="1", ckpts__epoch_2__weights="2", config="c")
    remote = RemoteFolder(f"{store}/run")
    Mirror(tmp_path / "run", remote).bring_up_to_date()
    assert remote.whole_checkpoints() == ["epoch_1", "epoch_2"]
    assert {f"ckpts/epoch_1/{WHOLE}", f"ckpts/epoch_2/{WHOLE}"} < set(remote.sizes())
    remote._fs.rm_file(f"{remote._root}/ckpts/epoch_2/{WHOLE}")
    assert remote.whole_checkpoints() == ["epoch_1"]
    assert contents(remote.fetch()) == {"ckpts/epoch_1/weights": "1", "config": "c"}


def test_what_the_store_has_no_more_is_not_read_any_more(store: str, tmp_path: Path) -> None:
    write(tmp_path / "a", x="1", inner__y="2", log="a")
    remote = RemoteFolder(f"{store}/folder")
    Mirror(tmp_path / "a", remote).bring_up_to_date()
    place = remote.fetch()
    (place / "log").write_text("ab")  # goes on here
    (place / "own").write_text("made here")
    for name in ("inner/y", "log"):
        remote._fs.rm_file(f"{remote._root}/{name}")
    assert contents(RemoteFolder(f"{store}/folder").fetch()) == {"x": "1", "log": "ab", "own": "made here"}


def test_what_cannot_be_reached_is_a_sentence(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"^nothing://a is no address of a folder \(Protocol not known: nothing"):
        RemoteFolder("nothing://a")
    # fsspec connects to such a server before anything is asked of it
    assert main(["registry", "list", "--registry", f"ftp://127.0.0.1:{free_port()}/models"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("gemma-metamon registry: ftp://127.0.0.1:")
    assert "could not be reached or read (ConnectionRefusedError" in said
    remote = RemoteFolder(f"{store}/nothing")
    with pytest.raises(MissingFileError, match=r"/nothing holds no files; look at its address$"):
        remote.fetch()

    def full(*arguments: object) -> None:
        raise OSError("no such bucket")

    monkeypatch.setattr(remote._fs, "put_file", full)
    write(tmp_path / "a", x="1")
    with (
        pytest.raises(ServerError, match=r"could not be reached or read \(OSError: no such bucket\); all of it is in "),
        Mirror(tmp_path / "a", remote, every_s=600),
    ):
        pass


def test_a_store_that_does_not_answer_is_said_before_anything_is_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("s3fs", reason="needs the extra: pip install 'gemma-metamon[s3]'")
    monkeypatch.setenv("GEMMA_METAMON_CACHE", str(tmp_path / "cache"))
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_MAX_ATTEMPTS")
    for name, value in zip(names, ("nobody", "nothing", "us-east-1", "1"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    command = ["prepare", "--parsed_replay_dir", str(BATTLES), "--formats", "gen1ou", "--workers", "1"]
    assert main([*command, "--out", "s3://bucket/store"]) == 1
    assert "s3://bucket/store could not be reached or read (" in capsys.readouterr().err
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_a_command_that_writes_here_alone_refuses_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^--out s3://bucket/out is no folder of this machine, where this command"):
        make_folder(Path("s3://bucket/out"), "out")
    assert not list(tmp_path.iterdir())


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMA_METAMON_CACHE", str(tmp_path / "cache"))
    remote = RemoteFolder("memory://hostile")
    monkeypatch.setattr(remote._fs, "find", lambda root, **_: {f"{root}/../x": {"name": "x", "size": 1}})
    with pytest.raises(DataError, match=r"holds \.\./x, which can be no file here$"):
        remote.fetch()


@pytest.mark.slow
def test_a_run_in_a_store_that_was_killed_and_goes_on_on_another_machine_ends_as_if_it_had_not_been(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "--parsed_replay_dir", str(BATTLES), "--formats", "gen1ou", "gen9ou", "--workers", "1"]
    assert main([*command, "--out", f"{store}/prepared"]) == 0
    assert main([*command, "--out", str(tmp_path / "prepared")]) == 0

    def trained(save_dir: str, battles: str, *flags: str, command: str = "train") -> None:
        given = [command, *train_command(Path("x"), *flags)[1:], "--log_interval", "1"]
        given[given.index("--save_dir") + 1] = save_dir
        given[given.index("--parsed_replay_dir") + 1] = battles
        assert main(given) == 0, capsys.readouterr().err

    trained(str(tmp_path), str(tmp_path / "prepared"), "--epochs", "3")
    place = (f"{store}/runs", f"{store}/prepared")
    trained(*place)
    there = RemoteFolder(f"{store}/runs/run")
    with monkeypatch.context() as killed:  # before anything of epoch 2 was uploaded
        killed.setattr(Mirror, "bring_up_to_date", lambda self: 0)
        trained(*place, "--epochs", "2", "--resume", "auto")
    assert there.whole_checkpoints() == ["epoch_0", "epoch_1"]
    trained(*place, "--epochs", "2", "--resume", "auto")
    assert there.whole_checkpoints() == ["epoch_0", "epoch_1", "epoch_2"]
    monkeypatch.setenv("GEMMA_METAMON_CACHE", str(tmp_path / "another machine"))
    trained(*place, "--epochs", "3", "--ckpt", "2", command="validate")
    assert "goes on after epoch_2" in capsys.readouterr().out
    trained(*place, "--epochs", "3", "--ckpt", "2")
    assert there.whole_checkpoints() == ["epoch_0", "epoch_1", "epoch_2", "epoch_3"]
    monkeypatch.setenv("GEMMA_METAMON_CACHE", str(tmp_path / "a third"))
    fetched, here = there.fetch(), tmp_path / "run"
    for name in ("weights.safetensors", "training.safetensors"):
        assert (fetched / "ckpts/epoch_3" / name).read_bytes() == (here / "ckpts/epoch_3" / name).read_bytes()
    assert measured(fetched) == measured(here)


def measured(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, but for how fast it was."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "timesteps_per_s"} for line in lines]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """As hf:// reaches it, by fsspec's own settings."""
    import fsspec.config
    from huggingface_hub import HfFileSystem

    monkeypatch.setenv("GEMMA_METAMON_CACHE", str(tmp_path / "cache"))
    with hub_stand_in() as running:
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": running.url, "token": False})
        yield running
        HfFileSystem.clear_instance_cache()
        assert not running.unexpected


def test_of_a_hub_buckets_file_without_a_time_its_hash_tells_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    # as HfFileSystem tells of them; what it would fetch travels by a protocol of the hub's own
    remote = RemoteFolder("memory://bucket")
    found = {f"{remote._root}/x": {"size": 1, "xet_hash": "a", "mtime": None, "uploaded_at": None}}
    monkeypatch.setattr(remote._fs, "find", lambda root, **_: found)
    assert remote.sizes() == {"x": (1, "a")}


def publish(hub: Hub, repo: str, folder: Path) -> None:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.repos[repo] = {"main": files, "0" * 40: files}


def test_a_repository_of_the_hub_is_fetched_and_again_only_where_it_changed(hub: Hub, tmp_path: Path) -> None:
    write(tmp_path / "a", x="1", inner__y="2", inner__deep__z="3")
    publish(hub, "datasets/me/battles", tmp_path / "a")
    place = RemoteFolder("hf://datasets/me/battles").fetch()
    assert place.name == "battles"
    assert contents(place) == {"x": "1", "inner/y": "2", "inner/deep/z": "3"}
    times = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    write(tmp_path / "a", inner__y="4")
    publish(hub, "datasets/me/battles", tmp_path / "a")
    RemoteFolder("hf://datasets/me/battles").fetch()
    assert [path.name for path, time in times.items() if path.stat().st_mtime_ns != time] == ["y"]
    inner = RemoteFolder("hf://datasets/me/battles@main/inner").fetch()
    assert contents(inner) == {"y": "4", "deep/z": "3"}


def test_a_repository_that_is_not_there_is_a_sentence(hub: Hub, tmp_path: Path) -> None:
    for address in ("hf://datasets/me/nothing", "hf://me/nothing/inner"):
        with pytest.raises(
            ServerError, match=rf"^{address} could not be reached or read \(FileNotFoundError: .*nothing"
        ):
            RemoteFolder(address).fetch()
    write(tmp_path / "a", x="1")
    publish(hub, "me/run", tmp_path / "a")
    with pytest.raises(MissingFileError, match=r"^hf://me/run/inner holds no files; look at its address$"):
        RemoteFolder("hf://me/run/inner").fetch()


@pytest.mark.parametrize("command", ["prepare", "train", "validate", "find-batch-size", "collect"])
def test_nothing_is_written_to_a_repository_and_that_is_said_before_anything_is_read(
    command: str, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    battles = ["--parsed_replay_dir", "hf://datasets/me/nothing", "--formats", "gen9ou"]
    run = [*train_command(Path("x"))[1:], *battles, "--save_dir", "hf://me/runs"]
    flags = {
        "prepare": [*battles, "--out", "hf://datasets/me/store"],
        "collect": ["--format", "gen1ou", "--battles", "1", "--players", "nobody", "--out", "hf://datasets/me/battles"],
    }
    assert main([command, *flags.get(command, run)]) != 0
    said = "".join(capsys.readouterr())
    assert "is a repository, where each file written would be a commit" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_run_trains_from_repositories_of_the_hub(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub, "datasets/me/battles", BATTLES)
    hub.repos["datasets/me/battles"]["main"] |= {".gitattributes": b"* text=auto", "README.md": b"# Battles"}
    command = ["prepare", "--formats", "gen1ou", "gen9ou", "--workers", "1"]
    for source, store in (("hf://datasets/me/battles", "from hub"), (str(BATTLES), "from disk")):
        assert main([*command, "--parsed_replay_dir", source, "--out", str(tmp_path / store)]) == 0
    shards = {path.name: path.read_bytes() for path in (tmp_path / "from hub").rglob("*.arrow")}
    assert shards == {path.name: path.read_bytes() for path in (tmp_path / "from disk").rglob("*.arrow")}
    publish(hub, "datasets/me/store", tmp_path / "from hub")

    def trained(save_dir: str, *flags: str) -> None:
        given = ["train", *train_command(tmp_path / save_dir, *flags)[1:]]
        given[given.index("--parsed_replay_dir") + 1] = "hf://datasets/me/store"
        assert main(given) == 0, capsys.readouterr().err

    trained("first")
    publish(hub, "me/first", tmp_path / "first" / "run")
    trained("second", "--init_from", "hf://me/first@1")
