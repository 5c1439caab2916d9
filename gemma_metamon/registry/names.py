"""How a registered model is named wherever a run is: registry:NAME@3, registry:NAME@production."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from platformdirs import user_data_path

from gemma_metamon.errors import ConfigError
from gemma_metamon.strict_json import shown

PREFIX: Final = "registry:"
VARIABLE: Final = "GEMMA_METAMON_REGISTRY"
Stage = Literal["staging", "production"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WHICH: Final = re.compile(r"[1-9][0-9]{0,8}|staging|production")
_BEGINS: Final = re.compile(rf"{PREFIX}(?:{_NAME.pattern})@(?:{_WHICH.pattern})(?![A-Za-z0-9_.-])")
_WITHIN: Final = re.compile(rf"(?<![A-Za-z0-9_./@-]){_BEGINS.pattern}")


@dataclass(frozen=True)
class Reference:
    """A version of a model, by its number or by the stage that it is in."""

    name: str
    which: int | Stage

    def __str__(self) -> str:
        return f"{self.name}@{self.which}"


def default_place() -> str:
    """$GEMMA_METAMON_REGISTRY, a folder or an fsspec address; else a folder among this user's data."""
    return os.environ.get(VARIABLE) or str(user_data_path("gemma_metamon", appauthor=False) / "registry")


def is_registered(text: str | Path) -> bool:
    """Whether a text, or a path that was made of one, names a registered model."""
    return str(text).startswith(PREFIX)


def leading(text: str) -> tuple[str, str] | None:
    """The registered model that a text begins with, and what is written behind it; None where it begins otherwise."""
    match = _BEGINS.match(text)
    return (match[0], text[match.end() :]) if match else None


def replace_stages(text: str, number: Callable[[Reference], int]) -> str:
    """A text in which each model that it names by a stage, in an ensemble too, is named by the version of `number`."""

    def numbered(match: re.Match[str]) -> str:
        reference = read_reference(match[0])
        if isinstance(reference.which, int):
            return match[0]
        return f"{PREFIX}{Reference(reference.name, number(reference))}"

    return _WITHIN.sub(numbered, text)


def read_reference(text: str) -> Reference:
    """NAME@3 or NAME@production, with or without "registry:" before it. Raises ConfigError for another text."""
    name, at, which = text.removeprefix(PREFIX).rpartition("@")
    if not at or not _NAME.fullmatch(name) or not _WHICH.fullmatch(which):
        raise ConfigError(
            f"{shown(text)} names no version of a registered model; write NAME@3, NAME@staging or NAME@production "
            f"(where a run is named, with {PREFIX} before it)"
        )
    for stage in STAGES:
        if which == stage:
            return Reference(name, stage)
    return Reference(name, int(which))


def is_name(text: str) -> bool:
    """Whether a model can have this name."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """The name itself. Raises ConfigError for one that a model cannot have."""
    if not is_name(name):
        raise ConfigError(
            f"{shown(name)} can name no model; give up to 64 letters, digits, '-', '_' and '.', a letter or digit first"
        )
    return name
