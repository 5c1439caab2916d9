"""Packaged configs in metamon's folder: only our own, unchanged files are ever written over or removed."""

import hashlib
from pathlib import Path

import pytest

from gemma_metamon.commands import main
from gemma_metamon.configs.files import find_config, list_configs
from gemma_metamon.runs import resolve

TINY = "gemma_tiny_multitaskagent.gin"
PACKAGED = list_configs("models")


def install(folder: Path, *extra: str) -> int:
    return main(["configs", "install", "--to", str(folder), *extra])


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """metamon's folder, with a config of its own."""
    (tmp_path / "small_agent.gin").write_text("import amago.agent\n")
    return tmp_path


def test_installing_copies_every_model_config_under_a_header(folder: Path) -> None:
    assert install(folder) == 0
    assert set(contents(folder)) == {*PACKAGED, "small_agent.gin"}
    for name in PACKAGED:
        header, rest = (folder / name).read_text().split("\n", 1)
        assert header.startswith("# Installed by gemma_metamon 0.")
        assert rest == find_config(name, "models").read_text()


def test_installing_again_changes_nothing_and_uninstalling_leaves_what_was_there(folder: Path) -> None:
    before = contents(folder)
    install(folder)
    installed = contents(folder)
    assert install(folder) == 0
    assert contents(folder) == installed
    assert install(folder, "--uninstall") == 0
    assert contents(folder) == before


def test_a_copy_of_another_version_is_replaced_and_removed(folder: Path, capsys: pytest.CaptureFixture) -> None:
    install(folder)
    for name, text in ((TINY, "# as it was\n"), ("gemma_gone.gin", "# a config that is no more\n")):
        digest = hashlib.sha256(text.encode()).hexdigest()
        (folder / name).write_text(f"# Installed by gemma_metamon 0.0.1; sha256 of the rest: {digest}\n{text}")
    capsys.readouterr()
    assert install(folder) == 0
    assert f"update      {TINY}" in capsys.readouterr().out
    assert "0.0.1" not in (folder / TINY).read_text()
    assert install(folder, "--uninstall") == 0
    assert set(contents(folder)) == {"small_agent.gin"}


@pytest.mark.parametrize("owner", ["somebody else", "somebody who changed ours"])
def test_what_is_not_ours_is_kept_and_said(owner: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    if owner != "somebody else":
        install(folder)
    path = folder / TINY
    path.write_text((path.read_text() if path.exists() else "") + "\nMetamonAMAGOExperiment.max_seq_len = 7\n")
    theirs = path.read_text()
    capsys.readouterr()
    for extra in ([], ["--uninstall"]):
        assert install(folder, *extra) == 1
        said = capsys.readouterr()
        assert f"keep        {TINY}" in said.out
        assert "changed since, so left alone" in said.err
        assert path.read_text() == theirs


def test_a_dry_run_does_nothing(folder: Path, capsys: pytest.CaptureFixture) -> None:
    before = contents(folder)
    assert install(folder, "--dry_run") == 0
    said = capsys.readouterr().out
    assert "would be done" in said
    assert f"write       {TINY}" in said
    assert contents(folder) == before


def test_no_folder_and_no_metamon_get_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert install(tmp_path / "nowhere") == 1
    assert "metamon/rl/configs/models" in capsys.readouterr().err


def test_without_metamon_the_install_commands_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["configs", "install"]) == 1
    assert "git clone https://github.com/UT-Austin-RPL/metamon.git" in capsys.readouterr().err


def test_pypis_metamon_is_told_from_the_real_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "metamon").mkdir()
    (tmp_path / "metamon" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["configs", "install"]) == 1
    assert "is not UT-Austin-RPL's" in capsys.readouterr().err


def test_path_is_absolute(capsys: pytest.CaptureFixture) -> None:
    for name in (TINY, "binary_rl.gin"):
        assert main(["configs", "path", name]) == 0
        printed = Path(capsys.readouterr().out.strip())
        assert printed.is_absolute()
        assert printed.name == name
        assert printed.is_file()


def test_a_derived_config_is_the_packaged_one_with_the_change(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["configs", "derive", TINY, "--gin_override", "GemmaTstepEncoder.numerical_emb_dim = 32"]) == 0
    derived = tmp_path / "my.gin"
    derived.write_text(capsys.readouterr().out)
    plain, changed = resolve.load(TINY).bindings, resolve.load(str(derived)).bindings
    assert changed == {**plain, "GemmaTstepEncoder.numerical_emb_dim": "32"}


def test_a_config_of_ones_own_can_be_derived_from_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mine, derived = tmp_path / "mine.gin", tmp_path / "derived.gin"
    mine.write_text(f'include "{TINY}"\nGemmaTstepEncoder.numerical_emb_dim = 48\n')
    assert main(["configs", "derive", str(mine), "--gin_override", "GemmaTstepEncoder.summary_tokens = 6"]) == 0
    derived.write_text(capsys.readouterr().out)
    bindings = resolve.load(str(derived)).bindings
    assert bindings["GemmaTstepEncoder.numerical_emb_dim"] == "48"
    assert bindings["GemmaTstepEncoder.summary_tokens"] == "6"


def test_a_change_that_cannot_work_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert main(["configs", "derive", TINY, "--gin_override", "GemmaTstepEncoder.lora_r = 'many'"]) == 1
    assert "lora_r = 'many' is not of its type" in capsys.readouterr().err
