"""Checkpoints in AMAGO's layout: written from ours, read into ours. Needs neither amago nor metamon.

    DIR/<run>/ckpts/config.txt                            the resolved configuration; AMAGO keeps one there, too
    DIR/<run>/ckpts/policy_weights/policy_epoch_<N>.pt    AMAGO's: the agent's state dict, by torch.save
    DIR/<run>/ckpts/gemma_metamon.json                    ours: what no state dict says; the plugin writes it, too

Tensors go over bit for bit. A pretrained frozen base is in neither form: it is rebuilt from its model name. A state
dict holds no optimizer, so what is imported plays and does not resume.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.configs.names import EXPERIMENT, bound_value, configurable
from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.nets.agents.networks import STATE_CRITICS
from gemma_metamon.runs.checkpoints import Checkpoint, list_checkpoints, write_checkpoint
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.runs.identity import CheckpointMeta, RunDescription
from gemma_metamon.runs.loading import load_described, require_same_entries
from gemma_metamon.runs.tensor_files import TYPES, require_finite
from gemma_metamon.strict_json import on_one_line, shown
from gemma_metamon.view import BattleView

# An entry's first name, in our agents and in AMAGO's (or metamon's). All below it is named after AMAGO's.
PARTS: Final = {
    "tstep_encoder": "tstep_encoder",
    "traj_encoder": "traj_encoder",
    "popart": "popart",
    "critics": "critics",
    "target_critics": "target_critics",
    "maximized_critics": "maximized_critics",
    "actor": "actor",
    "target_actor": "target_actor",
    # of the agent that fine-tunes
    "slow_tstep_encoder": "_tortoise_tstep_encoder",
    "slow_traj_encoder": "_tortoise_traj_encoder",
    "slow_actor": "_tortoise_actor",
    "slow_critics": "_tortoise_critics",
    "frozen_tstep_encoder": "_base_tstep_encoder",
    "frozen_traj_encoder": "_base_traj_encoder",
    "frozen_actor": "_base_actor",
    "data_actor": "_bc_actor",
}

DESCRIPTION: Final = "gemma_metamon.json"

# critics of states, which AMAGO does not have: they help to learn, and what is exported plays
_BASELINE: Final = re.compile(r"^(\S+\.baseline = (?:\\\n\s*)?)'state'", re.MULTILINE)
_FILE = re.compile(r"policy_epoch_(\d+)\.pt")
_WANTED = "give a policy_epoch_<N>.pt, from <run>/ckpts/policy_weights"


def to_amago(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our agent's entries under AMAGO's names, in the same order."""
    return _rename(weights, PARTS)


def from_amago(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """AMAGO's entries under our agent's names, in the same order; one of no known part keeps its name."""
    return _rename(state, {theirs: ours for ours, theirs in PARTS.items()})


def _rename(entries: Mapping[str, Tensor], parts: Mapping[str, str]) -> dict[str, Tensor]:
    split = {key: key.partition(".") for key in entries}
    return {parts.get(part, part) + dot + rest: entries[key] for key, (part, dot, rest) in split.items()}


def policy_path(out: Path, run_name: str, epoch: int) -> Path:
    """Where AMAGO keeps the weights of an epoch."""
    return out / run_name / "ckpts" / "policy_weights" / f"policy_epoch_{epoch}.pt"


def epoch_of(path: Path) -> int | None:
    """The N of policy_epoch_<N>.pt."""
    match = _FILE.fullmatch(path.name)
    return int(match[1]) if match else None


def expected_weights(view: BattleView) -> dict[str, Tensor]:
    """What a checkpoint of the loaded configuration holds: names, in AMAGO's order, and shapes, mostly without data."""
    experiment: Experiment = configurable(EXPERIMENT)()
    # 4-bit weights have the form in which they are saved only when they are really made; pretrained ones are not saved
    packed = bound_value("GemmaTstepEncoder", "use_4bit") and not bound_value("GemmaTstepEncoder", "pretrained")
    with torch.device("cpu" if packed else "meta"):
        return experiment.build_agent(view).state_dict()


def export_policy(checkpoint: Checkpoint, out: Path) -> Path:
    """Writes a checkpoint of ours as AMAGO lays it out; loads its configuration into gin.

    Args:
        checkpoint: of `Checkpoint.find`.
        out: the save_dir that metamon will look in; the run keeps its name there.

    Returns:
        The path of the weights.

    Raises:
        ConfigError: checkpoint 0, or files that are there already.
        DataError: a damaged checkpoint.
        CheckpointMismatchError: one that this version of the package would read differently.
    """
    folder, meta = checkpoint.folder, checkpoint.read_meta()
    if meta.epoch == 0:
        raise ConfigError(
            f"{folder} is the untrained network, and metamon loads no checkpoint 0: it would play random weights; "
            "export a later one"
        )
    text = _BASELINE.sub(r"\1'policy'", meta.config)
    path = policy_path(out, checkpoint.run_name, meta.epoch)
    config = path.parents[1] / "config.txt"
    if path.exists():
        raise ConfigError(f"{path} exists; delete it, or choose another --out")
    if config.exists() and config.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{config} is there with another configuration than {folder}'s; choose another --out")
    view, _ = load_described(meta, str(folder))
    saved, wanted = checkpoint.read_weights(), expected_weights(view)
    require_same_entries(saved, wanted, str(folder), "export it with the version that made it")
    description = RunDescription(identity=meta.identity, config=text, vocabulary=meta.vocabulary)
    with written_whole(path) as staged:
        try:
            with staged.open("wb") as file:
                kept = [key for key in wanted if not key.startswith(STATE_CRITICS)]
                torch.save(to_amago({key: _own_copy(saved[key]) for key in kept}), file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, of which torch says "unexpected pos 64 vs 0"
                raise error.__context__ from None
            raise
        with written_whole(config) as beside:
            beside.write_text(text, encoding="utf-8")
        with written_whole(path.parents[1] / DESCRIPTION) as beside:
            description.write(beside)
    return path


class _NoMore(io.BufferedReader):
    """Gives no more than a file has: of a damaged length Python would first make room for gigabytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def _require_sizes(path: Path) -> None:
    """Raises an error where a zip file claims an entry larger than itself, for which torch would make room."""
    with zipfile.ZipFile(path) as archive:
        largest = max((entry.file_size for entry in archive.infolist()), default=0)
    if largest > path.stat().st_size:
        raise ValueError(f"an entry of {largest} bytes is larger than the file")


def read_policy(path: Path) -> dict[str, Tensor]:
    """The entries of a policy_epoch_<N>.pt, on the CPU, under AMAGO's names. Runs none of the code a pickle can hold.

    Raises:
        MissingFileError: no such file.
        DataError: a damaged file, one that is no plain state dict, or numbers that are not finite.
    """
    _require_file(path)
    try:
        with warnings.catch_warnings():  # the refusal says it, or it does not matter
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            with _NoMore(path) as file:
                is_zip = file.peek(4)[:4] == b"PK\x03\x04"  # torch reads that itself, and faster from its path
                if is_zip:
                    _require_sizes(path)
                state: Any = torch.load(path if is_zip else file, map_location="cpu", weights_only=True)
    except Exception as error:  # a wrong byte makes torch's unpickler raise nearly anything
        raise DataError(f"{path} {_why_unreadable(error)}; {_WANTED}") from error
    strangers = (
        [f"{shown(key)}: {_kind(value)}" for key, value in state.items() if not _is_entry(key, value)]
        if isinstance(state, dict)
        else [type(state).__name__]
    )
    if strangers:
        raise DataError(f"{path} is no state dict, it holds {', '.join(strangers[:3])}; {_WANTED}")
    require_finite(state, str(path))
    return {name: value.detach() for name, value in state.items()}  # a file can hold parameters


def read_description(path: Path) -> RunDescription | None:
    """What `export_policy` or the plugin wrote into the run of a policy_epoch_<N>.pt; None where neither did.

    Raises:
        MissingFileError: no policy file.
        DataError: a damaged description.
    """
    _require_file(path)
    description = path.absolute().parents[1] / DESCRIPTION
    return RunDescription.read(description) if description.is_file() else None


def import_policy(path: Path, run_dir: Path, meta: CheckpointMeta) -> Checkpoint:
    """Writes a policy_epoch_<N>.pt as a checkpoint of ours; it plays, and does not resume.

    Args:
        path: AMAGO's file.
        run_dir: of the run that it becomes part of.
        meta: what the checkpoint will say of itself; its configuration is the one that gin holds.

    Raises:
        ConfigError: the run has that checkpoint already.
        DataError, MissingFileError: as `read_policy`.
        CheckpointMismatchError: entries that are missing, extra or of another shape.
    """
    if meta.epoch in list_checkpoints(run_dir):
        raise ConfigError(f"{run_dir} has a checkpoint {meta.epoch} already; choose another --run_name")
    state, wanted = read_policy(path), expected_weights(meta.view())
    mend = "give the flags and gin files that it was trained with"
    require_same_entries(state, to_amago(wanted), str(path), mend)
    weights = {key: _own_copy(value) for key, value in from_amago(state).items()}
    return write_checkpoint(run_dir, meta, weights)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise MissingFileError(f"no file {path}; {_WANTED}")


def _own_copy(tensor: Tensor) -> Tensor:
    """Contiguous, and in a storage of its own: torch.save would write all of a shared one, safetensors refuses it."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _is_entry(key: object, value: object) -> bool:
    """A tensor of a type that a checkpoint of ours can hold, all of whose numbers are in the file."""
    if not isinstance(key, str) or not isinstance(value, Tensor):
        return False
    plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_nested
    return plain and value.dtype in TYPES.values() and value.nbytes <= value.untyped_storage().nbytes()


def _kind(value: object) -> str:
    return f"Tensor of {value.dtype}, {value.layout}" if isinstance(value, Tensor) else type(value).__name__


def _why_unreadable(error: Exception) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error))  # torch's own message goes on to tell how to run it
    if code:
        return f"holds more than tensors, {on_one_line(code[1])}, which could run code and is not opened"
    torchs_own = re.search(r"WeightsUnpickler error: (.*)", str(error))  # after its advice to load it all the same
    reason = torchs_own[1] if torchs_own else next(iter(str(error).splitlines()), "")
    reason = reason if reason and "weights_only" not in reason else type(error).__name__
    return f"is damaged or no file of PyTorch's ({on_one_line(reason)})"
