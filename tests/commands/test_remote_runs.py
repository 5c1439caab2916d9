"""Runs in an object store that go on here after a kill, and on another machine."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_agent import SMALL, TINY
from support.stores import cut_off, uploads_noted

from gemma_metamon.commands._remote import fetched_run, fetched_save_dir
from gemma_metamon.errors import MissingFileError
from gemma_metamon.object_stores.checkpoints import IN_STORE, WHOLE
from gemma_metamon.object_stores.folders import RemoteFolder
from gemma_metamon.object_stores.mirrors import Mirror
from gemma_metamon.runs import run_folder
from gemma_metamon.runs.checkpoints import META, WEIGHTS, Checkpoint, list_all, write_checkpoint
from gemma_metamon.runs.identity import CheckpointMeta, RunIdentity
from gemma_metamon.runs.keeping import Keeping, keep
from gemma_metamon.runs.resuming import find_newest_whole

in_memory = pytest.mark.parametrize("store", ["memory"], indirect=True)
BEST_OF_HALF = [f"MetamonAMAGOExperiment.{setting}" for setting in ("best_share = 0.5", "best_after_epoch = 2")]
META_0 = CheckpointMeta(
    identity=RunIdentity(
        obs_space="", action_space="", reward_function="", phrasing="", granularity="", subword_hash=""
    ),
    config="",
    epoch=0,
    updates=0,
    draws=0,
    settings={},
)


def save(run_dir: Path, epoch: int, agreement: float = 0.0, *, value: float | None = None, anew_at: int = 0) -> None:
    """What `train` writes after an epoch of 10 updates, with a line for each."""
    meta = replace(META_0, epoch=epoch, updates=10 * epoch, anew_at=anew_at, measured={"held_out/agreement": agreement})
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(f'{{"update": {10 * epoch}}}\n')
    weights = {"weight": torch.tensor([epoch if value is None else value])}
    write_checkpoint(run_dir, meta, weights, {"random/cpu": torch.zeros(2)})


def begin(store: str, *, run: str = "r", training: str = "il.gin", **flags: Any) -> tuple[Path, Mirror]:
    """As `train --resume auto` begins: the run's folder with what it needs of the store, and what uploads it."""
    known: dict[str, Any] = {"save_dir": Path(f"{store}/runs"), "run_name": run, "ckpt": None, "resume": "auto"}
    known |= {"discard_later": False, "model_gin_config": TINY, "train_gin_config": training, "trust_config": []}
    args = Namespace(**{**known, "gin_override": SMALL, **flags})
    run_dir = fetched_save_dir(args) / run
    return run_dir, Mirror(run_dir, RemoteFolder(f"{store}/runs/{run}"))


def updates(run_dir: Path) -> list[int]:
    return [int(line.rpartition(" ")[2].strip("}")) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def here(run_dir: Path) -> list[int]:
    return [checkpoint.epoch for checkpoint in list_all(run_dir)]


def there(store: str, run: str = "r") -> list[int]:
    """The epochs of what anybody would take for whole checkpoints; nothing of any other is left."""
    remote = RemoteFolder(f"{store}/runs/{run}")
    names = {name.split("/")[1] for name in remote.sizes() if name.startswith("ckpts/epoch_")}
    assert names == set(remote.whole_checkpoints())
    return sorted(int(name.removeprefix("epoch_")) for name in names)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """What follows is on the machine of this name, as far as its cache goes."""
    return lambda name: monkeypatch.setenv("GEMMA_METAMON_CACHE", str(tmp_path / name))


def test_another_start_uploads_only_what_is_new(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir, mirror = begin(store)
    for epoch in range(3):
        save(run_dir, epoch)
    assert mirror.bring_up_to_date() == 10
    run_dir, mirror = begin(store)
    order = uploads_noted(monkeypatch, mirror.remote)
    assert mirror.bring_up_to_date() == 0
    save(run_dir, 3)
    assert mirror.bring_up_to_date() == 4
    assert {name.rpartition("/")[0] for name in order} == {"", "ckpts/epoch_3"}


@in_memory
def test_a_kill_between_two_uploads_loses_no_line_and_no_checkpoint(store: str) -> None:
    run_dir, mirror = begin(store)
    save(run_dir, 1)
    mirror.bring_up_to_date()
    save(run_dir, 2)  # and then it is killed
    run_dir, mirror = begin(store)
    assert (updates(run_dir), here(run_dir)) == ([10, 20], [1, 2])
    mirror.bring_up_to_date()
    assert there(store) == [1, 2]


@in_memory
def test_a_kill_in_the_middle_of_an_upload_loses_nothing_either(store: str) -> None:
    run_dir, mirror = begin(store)
    save(run_dir, 1)
    mirror.bring_up_to_date()
    save(run_dir, 2)
    # killed before the journal had it
    mirror.remote.put("metrics.jsonl", run_dir / "metrics.jsonl")
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"update": 21}\n')
    run_dir, mirror = begin(store)
    assert (updates(run_dir), here(run_dir)) == ([10, 20, 21], [1, 2])


@in_memory
def test_a_machine_that_was_overtaken_takes_what_the_store_has(store: str, machine: Callable[[str], None]) -> None:
    machine("first")
    run_dir, mirror = begin(store)
    save(run_dir, 1)
    mirror.bring_up_to_date()
    save(run_dir, 2, value=-1.0)  # never uploaded
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"update": 21}\n')
    machine("second")
    run_dir, mirror = begin(store)
    for epoch in (2, 3):
        save(run_dir, epoch)
    mirror.bring_up_to_date()
    machine("first")
    run_dir, mirror = begin(store)
    assert (updates(run_dir), here(run_dir)) == ([10, 20, 30], [1, 3])
    mirror.bring_up_to_date()
    machine("third")
    path = fetched_run(Path(f"{store}/runs/r"), 2)
    assert Checkpoint(path, 2).read_weights()["weight"].item() == 2
    assert there(store) == [1, 2, 3]


@in_memory
def test_of_a_checkpoint_that_was_half_uploaded_and_is_gone_in_the_store_no_half_stays(
    store: str, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("first")
    run_dir, first = begin(store)
    save(run_dir, 1)
    first.bring_up_to_date()
    save(run_dir, 2)
    with cut_off(monkeypatch, first.remote, "put_file", WEIGHTS):
        first.bring_up_to_date()
    machine("second")
    run_dir, second = begin(store)
    for epoch in (2, 3, 4):
        save(run_dir, epoch)
        keep(run_dir, Keeping(last=1))
        second.bring_up_to_date()
    assert there(store) == [4]
    machine("first")
    run_dir, first = begin(store)
    first.bring_up_to_date()
    assert (here(run_dir), there(store)) == ([4], [4])


@in_memory
def test_a_first_checkpoint_that_is_half_uploaded_is_not_taken_for_whole(
    store: str, monkeypatch: pytest.MonkeyPatch, machine: Callable[[str], None]
) -> None:
    run_dir, mirror = begin(store)
    save(run_dir, 0)
    with cut_off(monkeypatch, mirror.remote, "put_file", WEIGHTS):
        mirror.bring_up_to_date()
    assert f"ckpts/epoch_0/{META}" in mirror.remote.sizes()
    machine("another")
    run_dir, mirror = begin(store)
    assert find_newest_whole(run_dir) is None
    save(run_dir, 0)
    mirror.bring_up_to_date()
    assert there(store) == [0]


@in_memory
@pytest.mark.parametrize("looked", [False, True], ids=["killed before it was said", "said"])
@pytest.mark.parametrize("goes_on", ["here", "elsewhere"])
def test_what_was_discarded_is_not_gone_on_from(
    store: str, machine: Callable[[str], None], looked: bool, goes_on: str
) -> None:
    machine("here")
    run_dir, mirror = begin(store)
    for epoch in range(6):
        save(run_dir, epoch)
    mirror.bring_up_to_date()
    run_dir, mirror = begin(store, ckpt=2, discard_later=True, resume=None)
    run_folder.move_later_aside(run_dir, 2, 20, goes_elsewhere=True)
    if looked or goes_on == "elsewhere":
        mirror.bring_up_to_date()
        assert there(store) == [0, 1, 2]
    save(run_dir, 3, value=-1.0)
    if looked or goes_on == "elsewhere":
        mirror.bring_up_to_date()
    machine(goes_on)
    run_dir, mirror = begin(store)
    newest = find_newest_whole(run_dir)
    assert newest is not None
    assert newest.read_weights()["weight"].item() == -1
    assert not list(run_dir.glob(f"discarded/*/ckpts/*/{WEIGHTS}")) or goes_on == "here"
    mirror.bring_up_to_date()
    assert there(store) == [0, 1, 2, 3]
    assert {f"discarded/1/ckpts/epoch_{n}/{WEIGHTS}" for n in (3, 4, 5)} < set(mirror.remote.sizes())


@in_memory
def test_what_comes_later_can_be_discarded_on_another_machine(store: str, machine: Callable[[str], None]) -> None:
    run_dir, mirror = begin(store)
    for epoch in range(5):
        save(run_dir, epoch)
    mirror.bring_up_to_date()
    machine("another")
    run_dir, mirror = begin(store, ckpt=2, discard_later=True, resume=None)
    assert here(run_dir) == [0, 2, 3, 4]
    run_folder.move_later_aside(run_dir, 2, 20)
    mirror.bring_up_to_date()
    assert there(store) == [0, 1, 2]
    assert f"discarded/1/ckpts/epoch_4/{WEIGHTS}" in mirror.remote.sizes()


@in_memory
def test_keeping_holds_in_the_store_from_machine_to_machine(store: str, machine: Callable[[str], None]) -> None:
    keeps = Keeping(last=2, best="agreement")
    run_dir, mirror = begin(store)
    for epoch, agreement in enumerate((0.1, 0.9, 0.5, 0.4, 0.4)):
        save(run_dir, epoch, agreement)
        keep(run_dir, keeps)
        mirror.bring_up_to_date()
    assert there(store) == [0, 1, 3, 4]
    machine("another")
    run_dir, mirror = begin(store)
    assert here(run_dir) == [0, 1, 4]
    assert [path.name for path in (run_dir / IN_STORE / "ckpts").iterdir()] == ["epoch_3"]
    with RemoteFolder(f"{store}/runs/r")._fs.open(f"{mirror.remote._root}/ckpts/epoch_77/{META}", "wb") as file:
        file.write(b"{}")  # another machine's, meanwhile
    for epoch, agreement, stay in ((5, 0.45, [0, 1, 4, 5]), (6, 0.3, [0, 1, 5, 6]), (7, 0.95, [0, 6, 7])):
        save(run_dir, epoch, agreement)
        keep(run_dir, keeps)
        mirror.bring_up_to_date()
        assert [int(name.removeprefix("epoch_")) for name in mirror.remote.whole_checkpoints()] == stay
        assert here(run_dir) == stay
    assert (run_dir / "ckpts" / "best").read_text() == "epoch_7\n"
    assert f"ckpts/epoch_77/{META}" in mirror.remote.sizes()


@in_memory
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, [0, 5, 9]),
        ({"ckpt": 3, "resume": None}, [0, 3, 5, 9]),
        ({"gin_override": [*SMALL, *BEST_OF_HALF]}, [0, 2, 5, 9]),
    ],
)
def test_another_machine_fetches_the_checkpoints_that_the_run_reads_again(
    store: str, machine: Callable[[str], None], flags: dict[str, Any], expected: list[int]
) -> None:
    run_dir, mirror = begin(store)
    for epoch in range(10):
        save(run_dir, epoch, anew_at=0 if epoch < 5 else 50)
    mirror.bring_up_to_date()
    machine("another")
    run_dir, _ = begin(store, training="binary_rl.gin", **flags)
    assert here(run_dir) == expected


@in_memory
def test_another_machine_goes_on_from_an_older_checkpoint_where_the_newest_is_damaged(
    store: str, machine: Callable[[str], None]
) -> None:
    run_dir, mirror = begin(store)
    for epoch in range(4):
        save(run_dir, epoch)
    (Checkpoint(run_dir, 3).folder / WEIGHTS).write_bytes(b"damaged")
    mirror.bring_up_to_date()
    machine("another")
    run_dir, _ = begin(store)
    newest = find_newest_whole(run_dir)
    assert newest is not None
    assert newest.epoch == 2


@in_memory
def test_a_fetch_that_was_cut_off_leaves_no_half_checkpoint_to_go_on_from(
    store: str, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("first")
    run_dir, first = begin(store)
    save(run_dir, 1)
    first.bring_up_to_date()
    machine("second")
    with cut_off(monkeypatch, first.remote, "get_file", WEIGHTS):
        begin(store)
    save(run_dir, 2)
    first.bring_up_to_date()
    run_dir, _ = begin(store)
    assert here(run_dir) == [2]
    assert updates(run_dir) == [10, 20]


@in_memory
def test_what_a_killed_training_had_half_uploaded_goes_when_a_newer_checkpoint_is_whole(store: str) -> None:
    run_dir, mirror = begin(store)
    save(run_dir, 1)
    mirror.bring_up_to_date()
    for name in ("epoch_1_update_13", "epoch_2_update_25", "epoch_3"):
        mirror.remote._fs.pipe_file(f"{mirror.remote._root}/ckpts/{name}/{WEIGHTS}", b"half")
    run_dir, mirror = begin(store)
    mirror.bring_up_to_date()
    assert f"ckpts/epoch_1_update_13/{WEIGHTS}" in mirror.remote.sizes()
    save(run_dir, 2)
    mirror.bring_up_to_date()
    mirror.bring_up_to_date()
    names = {name.split("/")[1] for name in mirror.remote.sizes() if name.startswith("ckpts/epoch")}
    assert names == {"epoch_1", "epoch_2", "epoch_2_update_25", "epoch_3"}
    assert mirror.remote.whole_checkpoints() == ["epoch_1", "epoch_2"]


@in_memory
def test_a_run_without_marks_is_taken_for_whole_and_marked(store: str, tmp_path: Path) -> None:
    for epoch in range(3):
        save(tmp_path / "r", epoch)
    remote = RemoteFolder(f"{store}/runs/r")
    remote._fs.put(str(tmp_path / "r"), remote._root, recursive=True)  # as with `aws s3 sync`
    run_dir, mirror = begin(store)
    assert here(run_dir) == [0, 2]
    assert mirror.bring_up_to_date() == 0
    assert {f"ckpts/epoch_{epoch}/{WHOLE}" for epoch in range(3)} < set(remote.sizes())


@in_memory
def test_what_is_written_over_is_not_whole_until_all_of_it_is_there(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, mirror = begin(store)
    save(run_dir, 0)
    mirror.bring_up_to_date()
    save(run_dir, 0, value=-1.0)
    own = mirror.remote._fs.put_file

    def put(path: str, name: str) -> None:
        assert not name.startswith("/bucket/runs/r/ckpts/epoch_0") or there_now() == []
        own(path, name)

    def there_now() -> list[str]:
        return RemoteFolder(f"{store}/runs/r").whole_checkpoints()

    monkeypatch.setattr(mirror.remote._fs, "put_file", put)
    assert mirror.bring_up_to_date() == 4
    assert there_now() == ["epoch_0"]


@in_memory
def test_a_command_that_reads_a_run_leaves_what_a_training_here_has_written(store: str) -> None:
    run_dir, mirror = begin(store)
    save(run_dir, 0)
    mirror.bring_up_to_date()
    save(run_dir, 1)
    assert fetched_run(Path(f"{store}/runs/r")) == run_dir
    assert updates(run_dir) == [0, 10]
    with pytest.raises(MissingFileError):
        fetched_run(Path(f"{store}/runs/another"))
    assert here(run_dir) == [0, 1]
