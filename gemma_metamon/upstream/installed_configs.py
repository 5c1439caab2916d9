"""The packaged model configs inside metamon's own folder, where `--model_gin_config NAME` looks for names.

Each copy begins with a line that names the version and the digest of the rest, so that a copy is told from a file that
somebody else wrote, or changed since: neither is ever touched.
"""

import hashlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gemma_metamon import __version__
from gemma_metamon.atomic_files import written_whole
from gemma_metamon.configs.files import find_config, list_configs
from gemma_metamon.errors import MissingFileError
from gemma_metamon.upstream.versions import explain_missing

_HEADER: Final = re.compile(r"# Installed by gemma_metamon (\S+); sha256 of the rest: ([0-9a-f]{64})\n")

Action = Literal["write", "update", "up to date", "remove", "keep"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to one file; `keep` is a file that is not ours, or not any more."""

    path: Path
    action: Action


def metamon_model_folder() -> Path:
    """The folder of metamon's model configs, found without importing metamon.

    Raises:
        MissingDependencyError: no metamon, or the other package of that name.
    """
    spec = importlib.util.find_spec("metamon")
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / "rl" / "configs" / "models"
        if folder.is_dir():
            return folder
    raise explain_missing("metamon.rl")


def install(folder: Path, *, dry_run: bool = False) -> list[Change]:
    """Copies the packaged model configs into `folder`; files that are not ours stay as they are.

    Raises MissingFileError where there is no such folder.
    """
    _require_folder(folder)
    changes = []
    for name in list_configs("models"):
        text = _with_header(find_config(name, "models").read_text(encoding="utf-8"))
        path = folder / name
        action: Action = "write"
        if path.exists():
            if not _is_ours(path):
                action = "keep"
            elif path.read_text(encoding="utf-8") == text:
                action = "up to date"
            else:
                action = "update"
        if action in ("write", "update") and not dry_run:
            with written_whole(path) as staged:
                staged.write_text(text, encoding="utf-8")
        changes.append(Change(path=path, action=action))
    return changes


def uninstall(folder: Path, *, dry_run: bool = False) -> list[Change]:
    """Removes what `install` wrote, of this version or another, where it was not changed since.

    Raises MissingFileError where there is no such folder.
    """
    _require_folder(folder)
    changes = [
        Change(path=path, action="remove" if _is_ours(path) else "keep") for path in _with_our_header_or_name(folder)
    ]
    for change in changes:
        if change.action == "remove" and not dry_run:
            change.path.unlink()
    return changes


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise MissingFileError(f"no folder {folder}; give metamon's metamon/rl/configs/models")


def _with_our_header_or_name(folder: Path) -> Iterator[Path]:
    packaged = set(list_configs("models"))
    for path in sorted(folder.glob("*.gin")):
        if path.name in packaged or _HEADER.match(path.read_text(encoding="utf-8", errors="replace")):
            yield path


def _with_header(text: str) -> str:
    return f"# Installed by gemma_metamon {__version__}; sha256 of the rest: {_digest(text)}\n{text}"


def _is_ours(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    header = _HEADER.match(text)
    return header is not None and header[2] == _digest(text[header.end() :])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
