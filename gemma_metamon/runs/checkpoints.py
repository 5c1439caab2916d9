"""Checkpoints: safetensors and JSON, one folder per epoch, and what a checkpoint says of how it was made.

    <save_dir>/<run_name>/ckpts/epoch_<N>/
        weights.safetensors     all that was trained or cannot be rebuilt; a pretrained frozen base is left out
        training.safetensors    optimizer moments, random states and what a filter remembers, for resuming
        checkpoint.json         observation space, phrasing, config, ... and how far training was

A folder is written under another name and renamed when whole, so a half-written one is never read. Nothing is pickled.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from gemma_metamon import __version__
from gemma_metamon.atomic_files import as_os_error, written_whole
from gemma_metamon.configs.names import EXPERIMENT, bound_value, configurable
from gemma_metamon.errors import CheckpointMismatchError, ConfigError, DataError, MissingFileError
from gemma_metamon.runs import resolve
from gemma_metamon.runs.tensor_files import (
    damaged,
    fits_type,
    read_headers,
    read_tensors,
)
from gemma_metamon.strict_json import MAX_BYTES, on_one_line, parse_json_object, read_bounded, read_dataclass, shown
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.view import BattleView

WEIGHTS, TRAINING, META = "weights.safetensors", "training.safetensors", "checkpoint.json"
CONFIG_FLAGS = ("model_gin_config", "train_gin_config")
MAX_EPOCH, MAX_COUNT = 10**9, 2**53
_TEXT_OF_4BIT = ".quant_state."  # bitsandbytes keeps a number there in digits, as many as it has
_FOLDER = re.compile(r"epoch_([0-9]{1,9})")
_WITH_EPOCH = re.compile(r"(?P<run_dir>.+)@(?P<epoch>[0-9]{1,9})")

# How to ask for what a checkpoint was made with; the keys are RunIdentity's fields.
_MENDS = {
    "obs_space": "--obs_space {}",
    "action_space": "--action_space {}",
    "reward_function": "--reward_function {}",
    "phrasing": "--gin_override \"GemmaTstepEncoder.phrasing = '{}'\"",
    "granularity": "--gin_override \"GemmaTstepEncoder.granularity = '{}'\"",
    "subword_hash": "the word list (--tokenizer) and version of gemma_metamon that made it (its subwords hash to {})",
}


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What the weights of a run mean something for: they fit no other observation, action or text."""

    obs_space: str
    action_space: str
    reward_function: str
    phrasing: str
    granularity: str
    subword_hash: str

    def require(self, wanted: "RunIdentity", checkpoint: str) -> None:
        """Raises CheckpointMismatchError with both values and the mend where the two differ."""
        for name, saved in asdict(self).items():
            asked = getattr(wanted, name)
            if saved != asked:
                raise CheckpointMismatchError(
                    f"{checkpoint} was trained with {name} {saved!r}, but this run uses {asked!r}; "
                    f"use {_MENDS[name].format(on_one_line(saved))}, or another checkpoint"
                )


def identify(view: BattleView) -> RunIdentity:
    """The identity of a run with this view under the gin configuration that is loaded, before anything is built."""
    phrasing = bound_value("GemmaTstepEncoder", "phrasing")
    return RunIdentity(
        obs_space=view.obs_space.name,
        action_space=view.action_space.name,
        reward_function=view.reward_function.name,
        phrasing=phrasing,
        granularity=bound_value("GemmaTstepEncoder", "granularity"),
        subword_hash=SubwordTable.load(phrasing).rows_for(view.vocabulary.words).hash,
    )


def own_words(vocabulary: Vocabulary) -> list[str] | None:
    """What a description holds of a vocabulary: its words, None for the packaged one."""
    return None if vocabulary == Vocabulary.default() else list(vocabulary.words)


Description = TypeVar("Description", bound="RunDescription")


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """All that is needed to build the agent of a run again, but its weights.

    Attributes:
        identity: what it sees and may do.
        config: the resolved gin configuration.
        vocabulary: its words, None for the packaged ones.
        version: of the package that wrote this.
    """

    identity: RunIdentity
    config: str
    vocabulary: list[str] | None = None
    version: str = __version__

    def view(self) -> BattleView:
        return BattleView.from_names(
            obs_space=self.identity.obs_space,
            action_space=self.identity.action_space,
            reward_function=self.identity.reward_function,
            vocabulary=None if self.vocabulary is None else Vocabulary.from_words(self.vocabulary),
        )

    @classmethod
    def read(cls: type[Description], path: Path) -> Description:
        """What `write` wrote. Raises DataError for another file."""
        try:
            return read_dataclass(cls, parse_json_object(read_bounded(path, MAX_BYTES)))
        except DataError as error:
            raise DataError(f"{path} is no description of a run of this package: {on_one_line(error)}") from error

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class CheckpointMeta(RunDescription):
    """checkpoint.json: how far training was, too."""

    epoch: int
    updates: int
    draws: int
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        for name, most in (("epoch", MAX_EPOCH), ("updates", MAX_COUNT), ("draws", MAX_COUNT)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise DataError(f"{name} is {shown(value)}; expected 0 to {most}")


def checkpoint_folder(run_dir: Path, epoch: int) -> Path:
    return run_dir / "ckpts" / f"epoch_{epoch}"


def list_checkpoints(run_dir: Path) -> list[int]:
    """The epochs of the whole checkpoints of a run, in order."""
    folders = (run_dir / "ckpts").glob("epoch_*")
    return sorted(int(match[1]) for folder in folders if (match := _FOLDER.fullmatch(folder.name)))


def find_checkpoint(run_dir: Path, epoch: int | None) -> Path:
    """The folder of an epoch's checkpoint, or of the last. Raises MissingFileError saying which there are."""
    there = list_checkpoints(run_dir)
    if not there:
        hint = "no such folder" if not run_dir.is_dir() else "no checkpoint in it"
        raise MissingFileError(f"{run_dir}: {hint}; expected a run of `gemma-metamon train` (save_dir/run_name)")
    if epoch is not None and epoch not in there:
        raise MissingFileError(f"{run_dir} has no checkpoint {epoch}; it has {', '.join(map(str, there))}")
    return checkpoint_folder(run_dir, there[-1] if epoch is None else epoch)


def find_named(name: str) -> Path:
    """`find_checkpoint` of "runs/first" (its last) or "runs/first@3" (that of epoch 3)."""
    match = _WITH_EPOCH.fullmatch(name)
    if match and not Path(name).is_dir():
        return find_checkpoint(Path(match["run_dir"]), int(match["epoch"]))
    return find_checkpoint(Path(name), None)


def read_meta(folder: Path) -> CheckpointMeta:
    """Raises DataError where checkpoint.json is damaged."""
    return CheckpointMeta.read(folder / META)


def load_agent(folder: Path, device: str | None = None) -> tuple[nn.Module, CheckpointMeta]:
    """The agent of a checkpoint as it acts, built from the configuration in it and in eval mode. Loads that into gin.

    Copies that are there for learning alone are given up.

    Args:
        folder: of `find_checkpoint`.
        device: None is CUDA where there is some, else the CPU.

    Raises:
        ConfigError: a device that torch does not know or that is not there.
        DataError: a damaged checkpoint.
        CheckpointMismatchError: one that this version of the package would read differently.
    """
    chosen = usable_device(device)
    agent, meta = _build_agent(folder)
    load_weights(agent, folder)
    agent.keep_what_acts()
    return agent.to(chosen).eval(), meta


def require_loadable(folder: Path) -> None:
    """Looks at all of a checkpoint but its numbers, in no time. Raises as load_agent does, and loads the same gin."""
    with torch.device("meta"):
        agent, _ = _build_agent(folder)
    require_fit(agent, folder)


def _build_agent(folder: Path) -> tuple[Any, CheckpointMeta]:
    """As the checkpoint says, without its weights."""
    meta = read_meta(folder)
    resolve.load_text(meta.config)
    view = meta.view()
    meta.identity.require(identify(view), str(folder))
    agent: Any = configurable(EXPERIMENT)().build_agent(view)
    return agent, meta


def usable_device(name: str | None) -> torch.device:
    """The device of that name; None is CUDA where there is some, else the CPU. Raises ConfigError if it is no use."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # which of the two, depends on torch's build
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used ({reason}); leave it out, or name 'cpu'") from error
    return device


def load_weights(agent: Any, folder: Path, *, as_start: bool = False) -> None:
    """Into an agent as the checkpoint's own, or into one that is to begin with them (see its `starting_state`).

    Raises CheckpointMismatchError naming the entries that do not fit, DataError where the file is damaged.
    """
    saved, wanted = read_weights(folder), agent.state_dict()
    if as_start:
        saved = agent.starting_state(saved)
    mend = "load it with the config it was trained with (saved in its checkpoint.json)"
    require_same_entries(saved, wanted, str(folder), mend)
    for key, tensor in wanted.items():
        if not fits_type(saved[key], tensor):
            raise CheckpointMismatchError(f"{folder} has {key} in {saved[key].dtype}, not {tensor.dtype}; {mend}")
    try:
        agent.load_state_dict(saved)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:  # of bitsandbytes' 4 bits
        raise damaged(folder / WEIGHTS, error) from error


def require_fit(agent: nn.Module, folder: Path) -> None:
    """For an agent that is to begin with these weights and may still be on the meta device: its shapes are theirs.

    Raises CheckpointMismatchError naming those that are not, and DataError where the file is damaged.
    """
    wanted = {key: [*tensor.shape] for key, tensor in agent.state_dict().items()}
    saved = read_headers(folder / WEIGHTS)
    # what is kept in 4 bits has its shape only on its device
    shapes = {key: header.shape for key, header in saved.items() if key in wanted and header.type_name != "U8"}
    other = [f"{key} is {shape}, not {wanted[key]}" for key, shape in shapes.items() if shape != wanted[key]]
    if other:
        raise CheckpointMismatchError(
            f"{folder} has {len(other)} entries of another shape than this agent ({', '.join(other[:3])}); begin with "
            f"a run of the same model config ({_made_with(folder)}), discounts (imitation has those of reinforcement "
            "learning with --gin_override 'MultiTaskAgent.use_multigamma = True') and critics' bins"
        )


def _made_with(folder: Path) -> str:
    """The configs that the command line named for a checkpoint."""
    settings = read_meta(folder).settings
    named = [f"--{name} {on_one_line(settings[name])}" for name in CONFIG_FLAGS if settings.get(name)]
    return f"it was made with {' '.join(named)}" if named else "its own is in its checkpoint.json"


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The agent's state when the checkpoint was saved, in any order. Raises DataError where it is damaged."""
    return read_tensors(folder / WEIGHTS)


def require_same_entries(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str, mend: str) -> None:
    """Raises CheckpointMismatchError counting and naming what is missing, extra or of another shape in `saved`."""
    wrong = {
        "missing": [key for key in wanted if key not in saved],
        "extra": [key for key in saved if key not in wanted],
        "misshapen": [
            f"{key} is {[*saved[key].shape]}, not {[*tensor.shape]}"
            for key, tensor in wanted.items()
            if key in saved and saved[key].shape != tensor.shape and _TEXT_OF_4BIT not in key
        ],
    }
    found = [
        f"{len(entries)} {kind} ({', '.join(map(on_one_line, entries[:3]))}{', ...' if len(entries) > 3 else ''})"
        for kind, entries in wrong.items()
        if entries
    ]
    if found:
        raise CheckpointMismatchError(
            f"{source} does not fit this agent, its entries are not the same: {', '.join(found)}; {mend}"
        )


def write_checkpoint(
    run_dir: Path, meta: CheckpointMeta, weights: Mapping[str, Tensor], training: Mapping[str, Tensor] | None = None
) -> Path:
    """Writes `epoch_<N>` whole or not at all. Raises OSError where it cannot be written.

    Args:
        run_dir: of the run.
        meta: how it was made, and how far training was.
        weights: the agent's state.
        training: of `resuming.training_state`; without it the checkpoint plays but does not resume.
    """
    folder = checkpoint_folder(run_dir, meta.epoch)
    with written_whole(folder) as staged:
        staged.mkdir()
        for name, tensors in ((WEIGHTS, weights), (TRAINING, training)):
            if tensors is not None:
                _write_tensors(staged / name, tensors)
        meta.write(staged / META)
    return folder


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # a file holds no tensor twice: what copies share (see nets.copies) is written for each of them
    written: dict[str, Tensor] = {}
    places: set[int] = set()
    for key, value in tensors.items():
        written[key] = value.clone() if value.data_ptr() in places else value.contiguous()
        places.add(value.data_ptr())
    try:
        save_file(written, path)
    except SafetensorError as error:  # its own name for a full disk, among others
        raise as_os_error(error, path) from error
