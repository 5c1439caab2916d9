"""gemma_metamon/registry: what is registered comes back as it was, or not at all."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from support.registries import own_registry, run_files

from gemma_metamon.commands import main
from gemma_metamon.commands._player_texts import read_text
from gemma_metamon.commands._words_players import with_kind
from gemma_metamon.errors import (
    ConfigError,
    DataError,
    GemmaMetamonError,
    MissingDependencyError,
    MissingFileError,
    ServerError,
)
from gemma_metamon.registry import registry as registries
from gemma_metamon.registry.manifests import StageRow, Stages, is_plain, read_manifest
from gemma_metamon.registry.names import Reference, leading, read_reference
from gemma_metamon.registry.registry import Registry, local_folder
from gemma_metamon.registry.storage import Storage


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    return own_registry(tmp_path, monkeypatch)


def register(registry: Registry, tmp_path: Path, said: bytes = b"weights", name: str = "best") -> int:
    files = run_files(tmp_path / "run", said)
    return registry.register(name, "agent", files, source="first@3", epoch=3).version


def kept(registry: Registry, tmp_path: Path) -> Path:
    """The registry's file of the weights."""
    manifest = registry.find(Reference("best", 1))
    digest = manifest.files["ckpts/epoch_3/weights.safetensors"].sha256
    return tmp_path / "models" / "files" / digest[:2] / digest


def test_what_is_registered_comes_back_as_it_was(registry: Registry, tmp_path: Path) -> None:
    assert register(registry, tmp_path, b"one") == 1
    assert register(registry, tmp_path, b"two") == 2
    for version, said in ((1, b"one"), (2, b"two")):
        folder = local_folder(f"registry:best@{version}")
        assert (folder / "ckpts/epoch_3/weights.safetensors").read_bytes() == said
        assert (folder / "README.md").read_bytes() == b"# a card\n"
    assert registry.versions("best") == [1, 2]
    assert len(list((tmp_path / "models" / "files").glob("*/*"))) == 3  # the card once


def test_a_registry_in_any_store_holds_the_same(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_registry(tmp_path, monkeypatch)
    for place in (f"{store}/models", f"file://{tmp_path}/elsewhere"):
        registry = Registry(place)
        assert registry.names() == []
        assert register(registry, tmp_path) == 1
        assert register(registry, tmp_path, b"more") == 2
        registry.promote(Reference("best", 2), "production")
        assert Registry(place).names() == ["best"]
        folder = local_folder("registry:best@production", place)
        assert (folder / "ckpts/epoch_3/weights.safetensors").read_bytes() == b"more"
    assert (tmp_path / "elsewhere" / "models" / "best" / "stages.json").is_file()


def test_a_place_that_nothing_can_reach_is_refused_in_one_sentence() -> None:
    with pytest.raises((ConfigError, MissingDependencyError), match="nowhere://x"):
        Storage("nowhere://x")


def test_a_registry_in_a_repository_of_the_hub_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^hf://me/models is a repository, where each file written would be a commit"
    ):
        register(Registry("hf://me/models"), tmp_path)


class _Refusing(MemoryFileSystem):
    """A store whose library has errors of its own, as botocore's of missing credentials: no OSErrors."""

    protocol = "refusing"

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("Unable to locate credentials")

    ls = isfile = open = pipe_file = put_file = makedirs = _refuse


def test_whatever_a_stores_library_raises_is_one_sentence(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fsspec.register_implementation("refusing", _Refusing, clobber=True)
    place = "refusing://models"
    run = run_files(tmp_path / "run")
    said = r"refusing://models/.* could not be reached or read \(RuntimeError: Unable to locate credentials\)"
    for use in (
        Registry(place).names,
        lambda: Registry(place).find(Reference("best", 1)),
        lambda: Registry(place).register("best", "agent", run, source="first@3", epoch=3),
        lambda: Storage(place).read("models/best/versions/1.json", 100),
    ):
        with pytest.raises(ServerError, match=said):
            use()
    assert main(["registry", "list", "--registry", place]) == 1
    assert "Unable to locate credentials" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_of_this_machine_is_not_taken_for_a_damaged_registry(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path)
    manifest = registry.find(Reference("best", 1))
    with pytest.raises(OSError, match="No space left on device") as full:
        registry._read(manifest, "README.md", manifest.files["README.md"], Path("/dev/full"))
    assert not isinstance(full.value, GemmaMetamonError)


def test_a_damaged_file_is_refused_by_name_and_registering_again_mends_it(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path)
    kept(registry, tmp_path).write_bytes(b"weighty")
    for read in (lambda: local_folder("registry:best@1"), lambda: registry.promote(Reference("best", 1), "staging")):
        with pytest.raises(DataError, match=r"weights.safetensors of best@1 is damaged .*; register the run again"):
            read()
    register(registry, tmp_path)
    assert local_folder("registry:best@1").is_dir()


def test_a_missing_file_is_named(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path)
    kept(registry, tmp_path).unlink()
    with pytest.raises(MissingFileError, match=r"weights.safetensors of best@1 is missing .*; register the run again"):
        local_folder("registry:best@1")
    assert not list((tmp_path / "cache" / "registry").glob("*/best-v1"))


def test_a_fetched_folder_that_another_process_has_mended_meanwhile_stays(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, tmp_path)
    folder = local_folder("registry:best@1")
    path = folder / "ckpts/epoch_3/weights.safetensors"
    path.write_bytes(b"changed")
    look = registries._is_whole

    def look_and_be_overtaken(*given: Any) -> bool:
        found = look(*given)
        path.write_bytes(b"weights")  # by the other one, which had the lock
        (folder / "in_use").touch()
        return found

    monkeypatch.setattr(registries, "_is_whole", look_and_be_overtaken)
    assert local_folder("registry:best@1") == folder
    assert (folder / "in_use").is_file()


def test_a_fetched_folder_that_was_changed_is_fetched_again(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path)
    path = local_folder("registry:best@1") / "ckpts/epoch_3/weights.safetensors"
    path.write_bytes(b"changed")  # as long as before
    assert local_folder("registry:best@1").is_dir()
    assert path.read_bytes() == b"weights"
    path.unlink()
    local_folder("registry:best@1")
    assert path.read_bytes() == b"weights"


def test_a_description_that_was_changed_is_refused(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path)
    path = tmp_path / "models/models/best/versions/1.json"
    told = json.loads(path.read_text())
    for change in ({"epoch": 4}, {"files": {}}, {"version": 0}, {"kind": "pickle"}, {"more": 1}):
        path.write_text(json.dumps(told | change))
        with pytest.raises(DataError):
            registry.find(Reference("best", 1))
    path.write_text(json.dumps(told))
    assert registry.find(Reference("best", 1)).epoch == 3


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../b", "a//b", "", ".", "a/.", "C:\\x", "a\\..\\b", ".ssh/id", "a\nb", "a/é"]
)
def test_no_file_of_a_description_leads_out_of_its_folder(registry: Registry, tmp_path: Path, name: str) -> None:
    assert not is_plain(name)
    register(registry, tmp_path)
    manifest = registry.find(Reference("best", 1))
    told = asdict(manifest)
    told["files"] = {name: told["files"]["README.md"]}
    with pytest.raises(DataError, match="no name of a file beneath"):
        read_manifest(json.dumps(told).encode(), "x")


def test_a_stage_is_promoted_to_and_rolled_back(registry: Registry, tmp_path: Path) -> None:
    for said in (b"1", b"2", b"3"):
        register(registry, tmp_path, said)
    with pytest.raises(MissingFileError, match="no version of best is in production; gemma-metamon registry promote"):
        registry.find(Reference("best", "production"))
    for version in (1, 2, 2, 3):  # twice the same is once
        registry.promote(Reference("best", version), "production")
    registry.promote(Reference("best", 3), "staging")
    assert registry.rollback("best", "production").version == 2
    assert registry.find(Reference("best", "production")).version == 2
    assert registry.rollback("best", "production").version == 1
    assert registry.find(Reference("best", "staging")).version == 3
    with pytest.raises(MissingFileError, match="best@1 was the first in production, so there is none to go back to"):
        registry.rollback("best", "production")
    with pytest.raises(MissingFileError, match="best@3 was the first in staging"):
        registry.rollback("best", "staging")


def test_a_stage_that_another_process_changes_meanwhile_is_not_rolled_back(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for said in (b"1", b"2", b"3"):
        register(registry, tmp_path, said)
    for version in (1, 2):
        registry.promote(Reference("best", version), "production")
    # while this one reads the files of version 1
    monkeypatch.setattr(registry, "verify", lambda _: Registry().promote(Reference("best", 3), "production"))
    with pytest.raises(GemmaMetamonError, match="another process has changed production of best meanwhile"):
        registry.rollback("best", "production")
    assert registry.find(Reference("best", "production")).version == 3


def test_nothing_whole_is_promoted_that_is_damaged(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path, b"1")
    registry.promote(Reference("best", 1), "production")
    register(registry, tmp_path, b"2")
    registry.promote(Reference("best", 2), "production")
    kept(registry, tmp_path).unlink()
    with pytest.raises(MissingFileError):
        registry.rollback("best", "production")
    assert registry.find(Reference("best", "production")).version == 2


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["staging", "production"]), st.sampled_from([1, 2, 3, 0])), max_size=12))
def test_a_rollback_undoes_the_promotion_before_it(events: list[tuple[str, int]]) -> None:
    rows: list[StageRow] = []
    stacks: dict[str, list[int]] = {"staging": [], "production": []}
    for stage, version in events:
        stack = stacks[stage]
        if version:
            stack.append(version)
        elif len(stack) > 1:
            stack.pop()
        action = "promote" if version else "rollback"
        rows.append(StageRow(stage=stage, action=action, version=version, at=""))  # type: ignore[arg-type]
    assert {stage: Stages(rows=rows).of(stage) for stage in stacks} == stacks  # type: ignore[arg-type]


def test_a_model_version_or_stage_that_is_not_there_says_which_are(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path)
    register(registry, tmp_path, name="other")
    with pytest.raises(MissingFileError, match="has no model good; it has best, other"):
        local_folder("registry:good@1")
    with pytest.raises(MissingFileError, match="best has no version 2; it has 1"):
        local_folder("registry:best@2")
    with pytest.raises(MissingFileError, match="has no model good; it has best, other"):
        read_text("registry:good")


def test_a_name_alone_says_how_its_versions_are_written(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in (b"1", b"2"):
        register(registry, tmp_path, said)
    with pytest.raises(ConfigError, match=r"write registry:best@2 \(best has 1, 2\)"):
        local_folder("registry:best")
    registry.promote(Reference("best", 1), "production")
    for text in ("registry:best", "registry:best@T0.5", "registry:best*2", "ensemble(registry:best, runs/x)"):
        with pytest.raises(ConfigError, match=r"registry:best names .*; write registry:best@2 or registry:best@prod"):
            read_text(text)
    assert main(["registry", "show", "best"]) == 1
    assert "write best@2 or best@production (best has 1, 2)" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["registry:best@", "registry:@1", "registry:a/b@1", "registry:b@0"])
def test_a_text_that_names_no_version_is_refused(registry: Registry, text: str) -> None:
    with pytest.raises(ConfigError, match="names no version of a registered model; write NAME@3"):
        local_folder(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("registry:best@3", ("registry:best@3", "")),
        ("registry:best@production@T0.5*2", ("registry:best@production", "@T0.5*2")),
        ("registry:a.b-c@12 ", ("registry:a.b-c@12", " ")),
        ("registry:best@productions", None),
        ("registry:best", None),
        ("runs/registry:best@3", None),
    ],
)
def test_a_registered_model_is_what_a_text_begins_with(text: str, expected: tuple[str, str] | None) -> None:
    assert leading(text) == expected


def test_a_player_that_is_registered_is_read_with_its_marks(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path)
    registry.promote(Reference("best", 1), "production")
    folder = local_folder("registry:best@1")
    alone = read_text("registry:best@production@T0.5")
    assert (alone.run_dir, alone.epoch, alone.temperature) == (folder, None, 0.5)  # type: ignore[union-attr]
    several = read_text("ensemble(vote: registry:best@1*2, registry:best@production@3)")
    assert [(m.run_dir, m.epoch, m.weight) for m in several.members] == [(folder, None, 2), (folder, 3, 1)]  # type: ignore[union-attr]


def test_a_registered_chat_model_plays_as_one(registry: Registry, tmp_path: Path) -> None:
    for kind in ("text", "vision", "agent"):
        registry.register(kind, kind, run_files(tmp_path / "run"), source="x@1", epoch=1)  # type: ignore[arg-type]
    assert with_kind("registry:text@1(reasoning=yes)") == "text:registry:text@1(reasoning=yes)"
    assert with_kind("registry:vision@1@T0.5") == "vlm:registry:vision@1@T0.5"
    assert with_kind("registry:agent@1") == "registry:agent@1"
    assert with_kind("runs/first") == "runs/first"
    registry.promote(Reference("text", 1), "staging")
    assert with_kind("registry:text@staging@T0.5") == "text:registry:text@1@T0.5"


def test_a_version_that_is_another_than_was_looked_at_is_not_promoted(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path, b"one")
    looked_at = registry.find(Reference("best", 1))
    (tmp_path / "models/models/best/versions/1.json").unlink()
    register(registry, tmp_path, b"two")
    with pytest.raises(DataError, match=r"^best@1 in .* is another version than it was .*; look at it again"):
        registry.promote(Reference("best", 1), "production", looked_at.digest)
    assert registry.promote(Reference("best", 1), "production").version == 1


def test_a_flag_that_takes_a_folder_takes_a_registered_one(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(registry, tmp_path)
    status = main(["export", "--run_dir", "registry:best@1", "--to", "merged", "--out", str(tmp_path / "out")])
    assert status == 1
    assert "best-v1/ckpts/epoch_3/checkpoint.json" in capsys.readouterr().err  # there, and only its description lacks


@pytest.mark.parametrize("name", ["", "a b", "../a", "-a", "a" * 65, "a/b", "é"])
def test_a_name_that_no_model_can_have_is_refused(registry: Registry, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="can name no model"):
        register(registry, tmp_path, name=name)
    assert registry.names() == []


def test_a_folder_that_is_closed_to_us_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_registry(tmp_path, monkeypatch)
    (tmp_path / "file").touch()
    registry = Registry(str(tmp_path / "file" / "models"))
    with pytest.raises(GemmaMetamonError, match=r"cannot be written \(.*name another --registry"):
        register(registry, tmp_path)


def test_list_and_show_tell_what_is_there(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(registry, tmp_path)
    assert main(["registry", "promote", "best@1", "production", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stage"] == "production"
    assert main(["registry", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert (row["name"], row["version"], row["stages"], row["bytes"]) == ("best", 1, ["production"], 16)
    assert main(["registry", "show", "best@production"]) == 0
    assert "# a card" in capsys.readouterr().out
    assert main(["registry", "rollback", "best", "production"]) == 1
    assert "none to go back to" in capsys.readouterr().err


def test_a_digest_is_of_all_that_a_description_says(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path)
    manifest = registry.find(Reference("best", 1))
    for change in ({"source": "x"}, {"epoch": None}, {"made_at": ""}, {"kind": "text"}, {"version": 2}):
        assert replace(manifest, **change).sealed().digest != manifest.digest
    assert read_reference("best@staging") == Reference("best", "staging")
