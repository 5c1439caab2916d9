"""Folders of small text files, written and read as a whole."""

from pathlib import Path


def write(folder: Path, **files: str) -> None:
    """Each under its name, in which `__` stands for a folder."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def contents(folder: Path) -> dict[str, str]:
    """The texts of a folder's files by their names in it."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
