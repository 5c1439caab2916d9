"""A run's folder while it is trained: one training at a time, and it goes on from a whole checkpoint.

<save_dir>/<run_name>/
    .lock                   held by the training
    config.gin              the resolved configuration
    ckpts/                  see `checkpoints`
    metrics.jsonl, evaluations.jsonl, wandb_run.json        see `tracking`
    set_aside.jsonl, not_finite.jsonl                       battle files and updates that were left out, with reasons
    judged.jsonl            how well each battle was played, where only the best are trained on; see `ranking`
    discarded/<N>/          what came after the checkpoint that a later training went on from
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gemma_metamon.atomic_files import put_in_order, written_whole
from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.runs.checkpoints import CHECKPOINTS, Checkpoint, list_all
from gemma_metamon.runs.keeping import name_without

logger = logging.getLogger(__name__)

LOCK, DISCARDED = ".lock", "discarded"
METRICS, EVALUATIONS, WANDB_RUN = "metrics.jsonl", "evaluations.jsonl", "wandb_run.json"
NOT_FINITE, SET_ASIDE, JUDGED = "not_finite.jsonl", "set_aside.jsonl", "judged.jsonl"
RELEASE_S = 8.0
"""How long the processes that read for a killed training may hold its lock: they look for their parent every 5 s."""


@contextmanager
def training_lock(run_dir: Path) -> Iterator[None]:
    """Holds the lock of a run's folder for the length of the block, and removes what a killed process half wrote.

    Raises ConfigError where another process trains there.
    """
    lock = FileLock(run_dir / LOCK)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("another process has %s; waiting for up to %.0f s for it to end", run_dir, RELEASE_S)
            lock.acquire(timeout=RELEASE_S)
    except Timeout as error:
        raise ConfigError(f"another process trains in {run_dir}; wait for it, or choose another --run_name") from error
    try:
        put_in_order(run_dir)
        put_in_order(run_dir / CHECKPOINTS)
        yield
    finally:
        lock.release()


def move_later_aside(run_dir: Path, epoch: int, updates: int, *, goes_elsewhere: bool = False) -> Path | None:
    """Moves checkpoints and log lines from after an epoch, and so many updates in all, into RUN/discarded/<N>/.

    Args:
        run_dir: of the run.
        epoch: the last that stays.
        updates: so many of the run stay.
        goes_elsewhere: what comes now is not what came before once more, so that wandb is to have it as another run.

    Returns that folder, None where nothing came later.
    """
    target = _new_folder(run_dir / DISCARDED)
    later = later_checkpoints(run_dir, epoch, updates)
    if later:
        name_without(run_dir, later)
        if goes_elsewhere and (run_dir / WANDB_RUN).is_file():
            target.mkdir(parents=True)
            (run_dir / WANDB_RUN).rename(target / WANDB_RUN)
    for checkpoint in reversed(later):  # killed meanwhile, it leaves no gap
        moved = target / CHECKPOINTS / checkpoint.folder.name
        moved.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.folder.rename(moved)
    _move_lines(run_dir / METRICS, target, lambda line: line["update"] <= updates)
    _move_lines(run_dir / NOT_FINITE, target, lambda line: line["update"] <= updates)
    _move_lines(run_dir / EVALUATIONS, target, lambda line: line["epoch"] <= epoch)
    _move_lines(run_dir / SET_ASIDE, target, lambda line: bool(line["file"]))
    return target if target.exists() else None


def later_checkpoints(run_dir: Path, epoch: int, updates: int) -> list[Checkpoint]:
    """Those from after an epoch, and so many updates in all, in order."""
    return [
        checkpoint
        for checkpoint in list_all(run_dir)
        if checkpoint.epoch > epoch or (checkpoint.update is not None and checkpoint.update > updates)
    ]


def _new_folder(parent: Path) -> Path:
    numbers = [int(folder.name) for folder in parent.glob("*") if folder.name.isdecimal()]
    return parent / str(max(numbers, default=0) + 1)


def _move_lines(path: Path, folder: Path, belongs: Callable[[dict[str, Any]], bool]) -> None:
    """The objects of a JSON lines file that do not belong there any more, and a line that was cut off in writing."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and _holds(line, belongs)]
    if len(kept) == len(lines):
        return
    there = set(kept)
    with written_whole(folder / path.name) as staged:
        staged.write_bytes(b"".join(line for line in lines if line not in there))
    with written_whole(path) as staged:
        staged.write_bytes(b"".join(kept))


def _holds(line: bytes, belongs: Callable[[dict[str, Any]], bool]) -> bool:
    try:
        return belongs(json.loads(line))
    except (ValueError, KeyError, TypeError):  # no line of ours
        return False


@contextmanager
def writing_in(
    run_dir: Path, flag: str = "save_dir", going_on: "Callable[[Path], str] | None" = None
) -> Iterator[None]:
    """Raises GemmaMetamonError, one sentence, where a disk is full or a file or folder cannot be written.

    Args:
        run_dir: of the run.
        flag: that names the folder.
        going_on: says what to do then; None is `how_to_go_on`.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, GemmaMetamonError):
            raise
        what = "" if error.filename is None else f" {error.filename}"
        raise GemmaMetamonError(
            f"{run_dir} cannot be written ({error.strerror or error}{what}); make room, or choose another --{flag}; "
            f"{(going_on or how_to_go_on)(run_dir)}"
        ) from error


def how_to_go_on(run_dir: Path) -> str:
    """What to do after a training that ended early."""
    try:
        there = list_all(run_dir)
    except OSError:
        there = []
    if not there:
        return "nothing of the run was saved: the same command begins it"
    return f"the run is saved up to {there[-1].place}: the same command with --resume auto goes on"
