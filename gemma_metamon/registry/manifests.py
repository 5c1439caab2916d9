"""What a registry writes of a version and of a stage, as types that refuse what they do not know."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from gemma_metamon import __version__
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.registry.names import Stage, check_name
from gemma_metamon.strict_json import Count, parse_json_object, read_dataclass, shown

Kind = Literal["agent", "text", "vision"]
PLAYED_AS: Final[dict[Kind, str]] = {"agent": "", "text": "text:", "vision": "vlm:"}
"""What stands before the name of a model of each kind where players are named."""
MAX_BYTES: Final = 2**22
MOST_FILES: Final = 1000
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
CARD: Final = "README.md"


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """A file of a version: the SHA-256 of its content, 64 hex digits, and its bytes."""

    sha256: str
    size: Count

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.sha256):
            raise DataError(f"sha256 is {shown(self.sha256)}; expected 64 hex digits")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A version of a model.

    Attributes:
        name: of the model.
        version: from 1.
        kind: "agent" of `train`, "text" of `sft` or `grpo`, "vision" of `vlm train`; the last two may be plain folders.
        source: the label of what was registered: first@3.
        epoch: of its checkpoint; None of a plain folder.
        made_at: when it was registered, UTC, as 2026-01-31T12:00:00Z.
        made_with: the version of this package that registered it.
        files: name beneath the run's folder -> its content.
        digest: the SHA-256 of all this but itself.
    """

    name: str
    version: Count
    kind: Kind
    source: str
    epoch: int | None
    made_at: str
    files: dict[str, FileRow]
    made_with: str = __version__
    digest: str = ""

    def __post_init__(self) -> None:
        try:
            check_name(self.name)
        except ConfigError as error:
            raise DataError(f"name: {error}") from error
        if self.version < 1 or len(self.files) > MOST_FILES:
            raise DataError(f"version {self.version} with {len(self.files)} files; expected 1 or above, at most 1000")
        for name in self.files:
            if not is_plain(name):
                raise DataError(f"files has {shown(name)}, which is no name of a file beneath a run's folder")

    @property
    def total_bytes(self) -> int:
        """Of all files together."""
        return sum(row.size for row in self.files.values())

    def sealed(self) -> "Manifest":
        """With its digest."""
        return replace(self, digest=self._digest())

    def _digest(self) -> str:
        told = {name: value for name, value in asdict(self).items() if name != "digest"}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def as_json(self) -> bytes:
        """For `read_manifest`."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()


def is_plain(name: str) -> bool:
    """Whether a name leads nowhere but beneath the folder that it is joined to, on any system."""
    parts = name.split("/")
    return len(name) <= 300 and all(_PART.fullmatch(part) and part.strip(".") for part in parts)


def read_manifest(content: bytes, where: str) -> Manifest:
    """What `Manifest.as_json` wrote. Raises DataError for another text, and where it was changed since."""
    try:
        manifest = read_dataclass(Manifest, parse_json_object(content))
    except DataError as error:
        raise DataError(f"{where} describes no version of a model: {error}") from error
    if manifest.sealed() != manifest:
        raise DataError(f"{where} is damaged (its digest is another); register the run again")
    return manifest


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """That a version came into a stage (promote), or that the one before it came back (rollback)."""

    stage: Stage
    action: Literal["promote", "rollback"]
    version: Count
    at: str


@dataclass(frozen=True, kw_only=True)
class Stages:
    """All that happened to a model's stages, oldest first."""

    rows: list[StageRow]

    def of(self, stage: Stage) -> list[int]:
        """The versions that a stage went through and can go back to, the current one last; none of an empty stage."""
        stack: list[int] = []
        for row in self.rows:
            if row.stage != stage:
                continue
            if row.action == "promote":
                stack.append(row.version)
            elif len(stack) > 1:
                stack.pop()
        return stack


def read_stages(content: bytes, where: str) -> Stages:
    """Of stages.json. Raises DataError where it is damaged."""
    try:
        return read_dataclass(Stages, parse_json_object(content))
    except DataError as error:
        raise DataError(f"{where} tells no stages: {error}; promote the model again once it is deleted") from error
