"""Where unpacked and installed things are kept: where the user's machine keeps caches, or where a variable says."""

import sys
from pathlib import Path

import pytest

from gemma_metamon.user_cache import VARIABLE, cache_folder


@pytest.mark.skipif(sys.platform != "linux", reason="XDG's folders")
def test_caches_are_where_xdg_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere" / "gemma_metamon"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_folder() == tmp_path / ".cache" / "gemma_metamon"


def test_the_variable_is_stronger_and_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv(VARIABLE, "~/mine")
    assert cache_folder() == tmp_path / "mine"
    assert not list(tmp_path.iterdir())  # asking makes nothing
