"""Checkpoints on disk: safetensors and JSON, one folder per epoch.

    <save_dir>/<run_name>/ckpts/epoch_<N>/
        weights.safetensors     all that was trained or cannot be rebuilt; a pretrained frozen base is left out
        training.safetensors    optimizer moments, random states and what a filter remembers, for resuming
        checkpoint.json         observation space, phrasing, config, ... how far training was, and the others' checksums
    <save_dir>/<run_name>/ckpts/epoch_<N>_update_<U>/
        the same, saved between two epochs: N epochs were done, and U updates of the run. It is there to resume from,
        and wherever a run is named by an epoch, as in runs/first@3, it is not meant

A folder is written under another name and renamed when whole, so a half-written one is never read. Nothing is pickled.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file
from torch import Tensor

from gemma_metamon.atomic_files import as_os_errors, written_whole
from gemma_metamon.errors import MissingFileError
from gemma_metamon.registry.names import is_registered
from gemma_metamon.registry.registry import local_folder
from gemma_metamon.registry.storage import hashed
from gemma_metamon.runs.identity import CheckpointMeta
from gemma_metamon.runs.tensor_files import read_tensors

CHECKPOINTS: Final = "ckpts"
WEIGHTS, TRAINING, META = "weights.safetensors", "training.safetensors", "checkpoint.json"
_FOLDER = re.compile(r"epoch_(?P<epoch>[0-9]{1,9})(?:_update_(?P<update>[0-9]{1,16}))?")
_WITH_EPOCH = re.compile(r"(?P<run_dir>.+)@(?P<epoch>[0-9]{1,9})")


def split_epoch(name: str) -> tuple[Path, int | None]:
    """RUN@EPOCH as the run's folder and the epoch; None where none is named.

    A folder whose own name ends so is a run without an epoch, and what stands behind a registered name is its version.
    """
    match = _WITH_EPOCH.fullmatch(name)
    if match is None or is_registered(name) or Path(name).is_dir():
        return Path(name), None
    return Path(match["run_dir"]), int(match["epoch"])


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of an epoch of a run, whether or not it is there. As text it is what flags take: runs/first@3.

    Args:
        run_dir: save_dir/run_name.
        epoch: from 0, the untrained agent.
        update: of one that was saved between two epochs, after `epoch`: the updates of the run until then.
    """

    run_dir: Path
    epoch: int
    update: int | None = None

    @classmethod
    def find(cls, run_dir: Path, epoch: int | None = None) -> "Checkpoint":
        """That of an epoch, or the last, which is there. Raises MissingFileError saying which there are.

        Of a path "registry:NAME@3" it is that of the registered version; raises as `local_folder` does.
        """
        run_dir = local_folder(run_dir)
        there = list_checkpoints(run_dir)
        if not there:
            hint = "no such folder" if not run_dir.is_dir() else "no checkpoint in it"
            raise MissingFileError(f"{run_dir}: {hint}; expected a run of `gemma-metamon train` (save_dir/run_name)")
        if epoch is not None and epoch not in there:
            raise MissingFileError(f"{run_dir} has no checkpoint {epoch}; it has {', '.join(map(str, there))}")
        return cls(run_dir, there[-1] if epoch is None else epoch)

    @classmethod
    def find_named(cls, name: str) -> "Checkpoint":
        """`find` by a text: "runs/first" (its last), "runs/first@3" (of epoch 3), "registry:best@3" (of version 3)."""
        return cls.find(*split_epoch(name))

    @property
    def folder(self) -> Path:
        """Where its files are."""
        between = "" if self.update is None else f"_update_{self.update}"
        return self.run_dir / CHECKPOINTS / f"epoch_{self.epoch}{between}"

    @property
    def place(self) -> str:
        """How far the run was, for sentences: epoch 3, or update 61234 (in epoch 4)."""
        between = f"update {self.update} (in epoch {self.epoch + 1})"
        return f"epoch {self.epoch}" if self.update is None else between

    @property
    def run_name(self) -> str:
        """The run's name, whatever folder it is in."""
        return self.run_dir.resolve().name

    @property
    def label(self) -> str:
        """Its name in tables and on pages: first@3."""
        return f"{self.run_name}@{self.epoch}"

    def __str__(self) -> str:
        return f"{self.run_dir}@{self.epoch}"

    def read_meta(self) -> CheckpointMeta:
        """How it was made, and how far training was. Raises DataError where checkpoint.json is damaged."""
        return CheckpointMeta.read(self.folder / META)

    def read_weights(self) -> dict[str, Tensor]:
        """The agent's state when it was saved, in any order, on the CPU. Raises DataError where it is damaged."""
        return read_tensors(self.folder / WEIGHTS)


def list_checkpoints(run_dir: Path) -> list[int]:
    """The epochs of the whole checkpoints of a run, in order."""
    return [checkpoint.epoch for checkpoint in list_all(run_dir) if checkpoint.update is None]


def list_all(run_dir: Path) -> list[Checkpoint]:
    """The whole checkpoints of a run, in order, with those that were saved between two epochs."""
    folders = (run_dir / CHECKPOINTS).glob("epoch_*")
    matches = [match for folder in folders if (match := _FOLDER.fullmatch(folder.name))]
    found = [
        Checkpoint(run_dir, int(match["epoch"]), None if match["update"] is None else int(match["update"]))
        for match in matches
    ]
    return sorted(found, key=lambda checkpoint: (checkpoint.epoch, checkpoint.update or 0))


def write_checkpoint(
    run_dir: Path, meta: CheckpointMeta, weights: Mapping[str, Tensor], training: Mapping[str, Tensor] | None = None
) -> Checkpoint:
    """Writes the checkpoint that `meta` describes whole or not at all. Raises OSError where it cannot be written.

    Args:
        run_dir: of the run.
        meta: how it was made, and how far training was.
        weights: the agent's state.
        training: of `resuming.training_state`; without it the checkpoint plays but does not resume.
    """
    checkpoint = Checkpoint(run_dir, meta.epoch, meta.updates if meta.updates_in_epoch else None)
    checksums: dict[str, str] = {}
    with written_whole(checkpoint.folder) as staged:
        staged.mkdir()
        for name, tensors in ((WEIGHTS, weights), (TRAINING, training)):
            if tensors is not None:
                _write_tensors(staged / name, tensors)
                checksums[name] = checksum(staged / name)  # still in memory: it is read, not fetched from the disk
        replace(meta, checksums=checksums).write(staged / META)
    return checkpoint


def copy_as_start(source: Checkpoint, run_dir: Path) -> None:
    """Makes a checkpoint the epoch 0 of another run: it plays as it did and brings nothing to resume from.

    Raises OSError where it cannot be written, DataError where its description is damaged.
    """
    with written_whole(Checkpoint(run_dir, 0).folder) as staged:
        staged.mkdir(parents=True)
        shutil.copyfile(source.folder / WEIGHTS, staged / WEIGHTS)
        meta = source.read_meta()
        checksums = {name: written for name, written in meta.checksums.items() if name == WEIGHTS}
        progress: dict[str, Any] = {"epoch": 0, "updates": 0, "draws": 0, "updates_in_epoch": 0, "measured": {}}
        replace(meta, **progress, checksums=checksums).write(staged / META)


def checksum(path: Path) -> str:
    """The SHA-256 of a file, as 64 hex digits. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashed(file)[0]


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # a file holds no tensor twice: what copies share (see nets.copies) is written for each of them
    written: dict[str, Tensor] = {}
    places: set[int] = set()
    for key, value in tensors.items():
        written[key] = value.clone() if value.data_ptr() in places else value.contiguous()
        places.add(value.data_ptr())
    with as_os_errors(path):
        save_file(written, path)
