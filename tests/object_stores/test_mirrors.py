"""What is uploaded, in which order, and what is removed."""

import shutil
from pathlib import Path

import pytest
from support.stores import uploads_noted
from support.text_folders import write

from gemma_metamon.commands._remote import mirrored
from gemma_metamon.errors import ServerError
from gemma_metamon.object_stores.checkpoints import MARKED, WHOLE
from gemma_metamon.object_stores.folders import RemoteFolder
from gemma_metamon.object_stores.mirrors import Mirror


def test_what_was_measured_goes_first_then_the_newest_checkpoint_and_what_names_it_last(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"ckpts__last": "epoch_10", "ckpts__best": "epoch_9", "zzz": "z", "discarded__1__ckpts__epoch_11__w": "w"}
    write(tmp_path / "run", ckpts__epoch_9__weights="9", ckpts__epoch_10__weights="10", **names)
    remote = RemoteFolder(f"{store}/run")
    order = uploads_noted(monkeypatch, remote)
    Mirror(tmp_path / "run", remote).bring_up_to_date()
    assert order == [
        MARKED,
        "zzz",
        "ckpts/epoch_10/weights",
        f"ckpts/epoch_10/{WHOLE}",
        "ckpts/epoch_9/weights",
        f"ckpts/epoch_9/{WHOLE}",
        "discarded/1/ckpts/epoch_11/w",
        "ckpts/best",
        "ckpts/last",
    ]


def test_a_mirror_follows_a_folder_and_leaves_out_what_is_being_written(store: str, tmp_path: Path) -> None:
    folder, remote = tmp_path / "run", RemoteFolder(f"{store}/run")
    write(folder, ckpts__epoch_1__weights="1")
    write(folder / ".half.part", x="0")
    with Mirror(folder, remote, every_s=600) as mirror:
        mirror.bring_up_to_date()
        assert set(remote.sizes()) == {MARKED, "ckpts/epoch_1/weights", f"ckpts/epoch_1/{WHOLE}"}
        shutil.rmtree(folder / "ckpts" / "epoch_1")
        write(folder, ckpts__epoch_2__weights="2")
    assert set(remote.sizes()) == {MARKED, "ckpts/epoch_2/weights", f"ckpts/epoch_2/{WHOLE}"}


def test_a_checkpoint_whose_mark_the_store_refused_is_marked_at_the_next_look(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, remote = tmp_path / "run", RemoteFolder(f"{store}/run")
    write(folder, ckpts__epoch_1__weights="1")
    mirror = Mirror(folder, remote)
    with monkeypatch.context() as patched:
        own = remote._fs.pipe_file

        def refuse(name: str, content: bytes) -> None:
            if name.endswith(WHOLE):
                raise OSError("slow down")
            own(name, content)

        patched.setattr(remote._fs, "pipe_file", refuse)
        with pytest.raises(ServerError, match="slow down"):
            mirror.bring_up_to_date()
    assert mirror.bring_up_to_date() == 0
    assert set(remote.sizes()) == {MARKED, "ckpts/epoch_1/weights", f"ckpts/epoch_1/{WHOLE}"}
    shutil.rmtree(folder / "ckpts" / "epoch_1")
    remote._fs.rm_file(f"{remote._root}/ckpts/epoch_1/weights")  # somebody else was faster
    mirror.bring_up_to_date()
    assert set(remote.sizes()) == {MARKED}


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_what_the_store_has_lost_is_uploaded_again_and_a_cache_that_was_deleted_deletes_nothing_there(
    store: str, tmp_path: Path
) -> None:
    remote = RemoteFolder(f"{store}/battles")
    for lost in ("nothing", "there", "here"):
        if lost == "there":
            remote._fs.rm(remote._root, recursive=True)
        if lost == "here":
            shutil.rmtree(remote.cached)
        with mirrored(Path(f"{store}/battles")) as place:
            write(place, **{lost: lost})
    assert set(remote.sizes()) == {"nothing", "there", "here"}
