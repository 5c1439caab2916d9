"""Archives of recorded battles by their names: `<format>.tar.gz` and `<format>.tar.lz4`, as they lie on the hub.

Only `gemma-metamon prepare` reads them (data/archives.py); whoever wants files or a store is told so.
"""

import re
import shlex
from pathlib import Path

from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.strict_json import shown_path

ARCHIVE_SUFFIXES = (".tar.lz4", ".tar.gz")


def archive_format(path: Path) -> str | None:
    """The format that an archive of battles is named after; None where the name is not that of such an archive."""
    for suffix in ARCHIVE_SUFFIXES:
        if path.name.endswith(suffix) and re.fullmatch(r"gen\d[a-z0-9]+", path.name.removesuffix(suffix)):
            return path.name.removesuffix(suffix)
    return None


def find_archives(root: Path) -> dict[str, list[Path]]:
    """The archives of battles in a folder, by format; where root is itself an archive, that one.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        paths = sorted(root.iterdir()) if root.is_dir() else [root]
    except OSError as error:
        raise DataError(f"{shown_path(root)} cannot be read ({error.strerror})") from error
    found: dict[str, list[Path]] = {}
    for path in paths:
        if (battle_format := archive_format(path)) is not None and path.is_file():
            found.setdefault(battle_format, []).append(path)
    return found


def refuse_archive(path: Path) -> None:
    """Raises MissingFileError where the path is an archive of battles, with the command that makes a store of it."""
    battle_format = archive_format(path)
    if battle_format is None or not path.is_file():
        return
    store = path.with_name(f"{battle_format}_store")
    command = ["gemma-metamon", "prepare", "--parsed_replay_dir", shown_path(path), "--out", shown_path(store)]
    raise MissingFileError(
        f"{shown_path(path)} is an archive of battles; make a store of it once, with `{shlex.join(command)}`, "
        f"and give --parsed_replay_dir {shlex.quote(shown_path(store))}"
    )


def refuse_archives_in(folder: Path) -> None:
    """Raises MissingFileError where a folder holds archives of battles, or one of its folders does.

    The second is how the subsets of metamon-parsed-pile lie on the hub.
    """
    for archives in find_archives(folder).values():
        refuse_archive(archives[0])
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if find_archives(inner):
            raise MissingFileError(
                f"{shown_path(folder)} holds archives of battles in its folders; "
                f"give --parsed_replay_dir {shlex.quote(shown_path(inner))}"
            )
