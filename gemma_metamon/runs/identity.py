"""What the weights of a run mean something for, and the description from which its agent can be built again."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gemma_metamon import __version__
from gemma_metamon.errors import CheckpointMismatchError, DataError
from gemma_metamon.nets.timestep import TimestepEncoder
from gemma_metamon.strict_json import MAX_BYTES, on_one_line, parse_json_object, read_bounded, read_dataclass, shown
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.view import BattleView

MAX_EPOCH, MAX_COUNT = 10**9, 2**53

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

    @classmethod
    def of(cls, view: BattleView, encoder: TimestepEncoder) -> "RunIdentity":
        """What an agent with this encoder is shown, may do and is paid for; the encoder may be on the meta device."""
        return cls(
            obs_space=view.obs_space.name,
            action_space=view.action_space.name,
            reward_function=view.reward_function.name,
            phrasing=encoder.phrasing,
            granularity=encoder.granularity,
            subword_hash=encoder.subword_hash,
        )

    def require(self, wanted: "RunIdentity", checkpoint: str) -> None:
        """Raises CheckpointMismatchError with both values and the mend where the two differ."""
        for name, saved in asdict(self).items():
            asked = getattr(wanted, name)
            if saved != asked:
                raise CheckpointMismatchError(
                    f"{checkpoint} was trained with {name} {saved!r}, but this run uses {asked!r}; "
                    f"use {_MENDS[name].format(on_one_line(saved))}, or another checkpoint"
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
        """What the run is shown, with its own words. Raises ConfigError for a space that this version does not have."""
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
        """As JSON, for `read`. Raises OSError where it cannot be written."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class CheckpointMeta(RunDescription):
    """checkpoint.json: how far training was, too.

    Attributes:
        epoch: after which it was saved.
        updates: made until then.
        draws: windows of battles learnt from until then.
        settings: what else its run recorded of itself.
        anew_at: the update before which optimizer and learning rate began anew; 0 of a run that went on all along.
        updates_in_epoch: made since that epoch; 0 of an epoch's own checkpoint.
        left_out_in_a_row: how many of the last updates were left out, for want of a finite loss or gradient.
        measured: what was measured on held-out battles after the epoch, by its names in metrics.jsonl.
        checksums: the SHA-256 of its other files, by name, as they were written; none of earlier versions' checkpoints.
    """

    epoch: int
    updates: int
    draws: int
    settings: dict[str, Any]
    anew_at: int = 0
    updates_in_epoch: int = 0
    left_out_in_a_row: int = 0
    measured: dict[str, float] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("epoch", "updates", "draws", "anew_at", "updates_in_epoch", "left_out_in_a_row"):
            value, most = getattr(self, name), MAX_EPOCH if name == "epoch" else MAX_COUNT
            if not 0 <= value <= most:
                raise DataError(f"{name} is {shown(value)}; expected 0 to {most}")
