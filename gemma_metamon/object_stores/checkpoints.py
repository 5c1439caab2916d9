"""What the names in a run's folder in an object store say of its checkpoints: which there are, and which are whole.

    ckpts/.marked                       that checkpoints are marked here, uploaded before the first of them
    ckpts/epoch_3/weights.safetensors   and others; uploaded before
    ckpts/epoch_3/.whole                which says that all of them are there
    ckpts/last                          names a checkpoint, and is uploaded after it

Only what lies in `ckpts` itself is a checkpoint: what was moved to `discarded/1/ckpts` is none any more. A run that
somebody else uploaded has no marks at all; all of its checkpoints are taken for whole.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

CHECKPOINTS: Final = "ckpts"
WHOLE: Final = ".whole"
MARKED: Final = f"{CHECKPOINTS}/.marked"
NAMES: Final = frozenset({"last", "best"})
"""What names a checkpoint, and whatever else is called so."""
DESCRIPTION: Final = "checkpoint.json"
IN_STORE: Final = ".in_store"
"""A folder in a run's on this machine: in its `ckpts`, the descriptions of checkpoints that the store alone has."""


def checkpoint_of(name: str) -> str | None:
    """The checkpoint that a file belongs to, as epoch_3; None of another file."""
    parts = name.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == CHECKPOINTS and parts[1] not in NAMES else None


def mark_of(checkpoint: str) -> str:
    """The name of the file that says that a checkpoint is whole."""
    return f"{CHECKPOINTS}/{checkpoint}/{WHOLE}"


def is_mark(name: str) -> bool:
    """Whether a file only says something of others."""
    return name == MARKED or name.endswith(f"/{WHOLE}")


def age(checkpoint: str) -> list[int]:
    """What checkpoints are sorted by, the oldest first: epoch_3, epoch_3_update_80, epoch_4."""
    return [int(digits) for digits in re.findall("[0-9]+", checkpoint)]


def whole_of(names: Collection[str]) -> list[str]:
    """The checkpoints that are whole among these files, oldest first."""
    found = {checkpoint for name in names if not is_mark(name) and (checkpoint := checkpoint_of(name)) is not None}
    marked = {checkpoint for checkpoint in found if mark_of(checkpoint) in names}
    return sorted(marked if marked or MARKED in names else found, key=age)


def newest_first(checkpoints: Iterable[str | None]) -> list[str]:
    """Each once, the newest first; None is left out."""
    return sorted({one for one in checkpoints if one is not None}, key=age, reverse=True)


def turn_of(name: str) -> int:
    """In which turn a file that belongs to no checkpoint goes: 0 before checkpoints, 1 after them, 2 at the end.

    What was measured goes before the checkpoint that it led to; what was moved aside with its run's checkpoints after.
    """
    parts = name.split("/")
    return 2 if NAMES & {*parts} else int(CHECKPOINTS in parts[1:])
