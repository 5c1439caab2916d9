"""A registry of a test's own, and something to register."""

from pathlib import Path

import pytest

from gemma_metamon.registry.names import VARIABLE
from gemma_metamon.registry.registry import Registry
from gemma_metamon.user_cache import VARIABLE as CACHE


def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty one in a folder, which names without a place stand for; what is fetched lies there, too."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "models"))
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return Registry()


def run_files(folder: Path, said: bytes = b"weights") -> dict[str, Path]:
    """Two files as a run's checkpoint lies; not a model."""
    names = {"ckpts/epoch_3/weights.safetensors": said, "README.md": b"# a card\n"}
    for name, content in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {name: folder / name for name in names}
