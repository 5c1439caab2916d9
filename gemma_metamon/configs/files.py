"""Where the packaged configs lie, and how a config is found by its name.

A wheel has them inside the package, a checkout beside it.
"""

import difflib
import logging
from pathlib import Path
from typing import Literal

from gemma_metamon.configs.statements import is_file
from gemma_metamon.errors import MissingFileError
from gemma_metamon.strict_json import shown

Kind = Literal["models", "training"]
KINDS: tuple[Kind, ...] = ("models", "training")
Owner = Literal["agent", "experiment"]


def config_folder(kind: Kind) -> Path:
    """Where the packaged configs of a kind lie."""
    return _packaged() / kind


def include_folders(loss_of: Owner) -> list[Path]:
    """Where `include` finds the packaged configs, and the parts that several have in common.

    Args:
        loss_of: what has the parameter critic_loss_weight; it moved from AMAGO's experiment to its agent.
    """
    parts = _packaged() / "parts"
    return [*map(config_folder, KINDS), parts, parts / f"loss_of_{loss_of}"]


def _packaged() -> Path:
    """Inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "gin_configs"
    return inside if inside.is_dir() else package.parent / "gin_configs"


def list_configs(kind: Kind) -> list[str]:
    """The names of the packaged configs of a kind, sorted."""
    return sorted(path.name for path in config_folder(kind).glob("*.gin"))


def find_config(name: str, kind: Kind) -> Path:
    """A packaged config's path by its name, or a user's own file by its path.

    Raises MissingFileError naming the nearest packaged configs where there is neither.
    """
    for path in (Path(name), config_folder(kind) / name):
        if is_file(path):
            return path
    known = list_configs(kind)
    near = [other for other in known if other.startswith(Path(name).stem)]
    near = near or difflib.get_close_matches(name[:100], known, n=2, cutoff=0.5) or known
    raise MissingFileError(f"no {kind.removesuffix('s')} config {shown(name)}; did you mean {' or '.join(near)}?")


def describe(path: Path) -> str:
    """The first line of a config, which says what it is."""
    return path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ").strip()


def add_search_paths(loss_of: Owner) -> None:
    """Lets gin itself find the packaged configs for `include 'gemma_….gin'`, from anywhere. Safe to call again.

    For a metamon process; here `Reader` looks for them.
    """
    import gin

    logging.getLogger().addFilter(_is_no_search)
    for folder in map(str, include_folders(loss_of)):
        if folder not in _search_paths:
            gin.add_config_file_search_path(folder)
            _search_paths.add(folder)


def _is_no_search(record: logging.LogRecord) -> bool:
    """False for gin's errors that an included file is not in a folder, said even when it is in the next."""
    return record.module != "resource_reader"


_search_paths: set[str] = set()
