"""Runs as `registry register` and `release` name them, and what both make of one."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._player_texts import EnsembleText, read_text
from gemma_metamon.commands._words_players import SEES, WORDS
from gemma_metamon.errors import ConfigError
from gemma_metamon.strict_json import shown

if TYPE_CHECKING:
    import argparse

    from gemma_metamon.registry.manifests import Kind, Manifest
    from gemma_metamon.registry.registry import Registry
    from gemma_metamon.release.contents import Contents

RUN_HELP = "RUN or RUN@EPOCH of `train`; text:RUN of `sft` or `grpo`, vlm:RUN of `vlm train`, or folders of such models"


def add_registry_argument(parser: "argparse._ActionsContainer") -> None:
    """--registry; None is the place that GEMMA_METAMON_REGISTRY names, or the usual one."""
    parser.add_argument(
        "--registry",
        metavar="PLACE",
        help="a folder, or an address of fsspec's, as s3://bucket/models (default: $GEMMA_METAMON_REGISTRY, else a "
        "folder among this user's data)",
    )


def contents_of(text: str) -> "Contents":
    """What is to be registered of the run that is written so. Raises ConfigError for a text that names none.

    Raises as `find_contents`, too.
    """
    from gemma_metamon.release.contents import find_contents

    kind: Kind = "agent"
    run = text
    if text.startswith(WORDS):
        kind, run = "text", text.removeprefix(WORDS)
    elif text.startswith(SEES):
        kind, run = "vision", text.removeprefix(SEES)
    read = read_text(run)
    if isinstance(read, EnsembleText) or read.temperature is not None:
        raise ConfigError(f"{shown(text)}: one checkpoint is registered; write {RUN_HELP}")
    return find_contents(kind, read.run_dir, read.epoch)


@contextmanager
def with_card(
    name: str, contents: "Contents", results: Sequence[Path], more: Sequence[Path] = ()
) -> Iterator[dict[str, Path]]:
    """All that is registered of a run, name -> file: its model, its card, and further files under their own names."""
    from gemma_metamon.registry.manifests import CARD
    from gemma_metamon.release.card import find_results, write_card

    card = write_card(name, contents, find_results(contents, results))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, CARD)
        path.write_text(card, encoding="utf-8")
        yield {**contents.files, CARD: path, **{extra.name: extra for extra in more}}


def register(registry: "Registry", name: str, contents: "Contents", files: Mapping[str, Path]) -> "Manifest":
    """Registers a run's model as these files. Raises as `Registry.register`."""
    return registry.register(name, contents.facts.kind, files, source=contents.facts.label, epoch=contents.epoch)
