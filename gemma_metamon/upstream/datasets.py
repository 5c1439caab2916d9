"""The dataset file of `python -m metamon.rl.train --dataset_config` (metamon 1.6.0), written for folders of battles.

metamon keeps one `index.csv` of what it found in a root, shared by all formats there: the second format then has no
battles, and battles that are recorded later are never seen. So each format gets a root of its own, which holds nothing
but a link to its battles, and an index that is there from before is removed: metamon makes it again.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gemma_metamon import __version__
from gemma_metamon.atomic_files import written_whole
from gemma_metamon.battle.replays import find_battles, formats_of_files
from gemma_metamon.errors import ConfigError

logger = logging.getLogger(__name__)

ROOTS: Final = "metamon_roots"
"""The folder of the links, beside the battles unless another place is given."""
DATASET_FILE: Final = "dataset.yaml"
_INDEX: Final = "index.csv"


@dataclass(frozen=True, kw_only=True)
class Root:
    """A folder that metamon reads one format from, and how many battles it will find."""

    folder: Path
    battle_format: str
    battles: int


def link_roots(battles: Path, formats: Sequence[str], roots: Path | None = None) -> list[Root]:
    """A root for each of the formats that this folder holds battles of, `roots/<format>/<format>` linking to them.

    Args:
        battles: a folder of recorded battles, <format>/*.json.lz4.
        formats: those to take.
        roots: where the links go (default: `metamon_roots` in the folder of battles).

    Raises MissingFileError where there is no such folder, or a format has no battle in it, ConfigError where no link
    can be made.
    """
    where = battles / ROOTS if roots is None else roots
    made = []
    for battle_format in formats:
        count = len(find_battles(battles, [battle_format]))
        root = where / battle_format
        link, target = root / battle_format, (battles / battle_format).resolve()
        try:
            root.mkdir(parents=True, exist_ok=True)
            (root / _INDEX).unlink(missing_ok=True)
            if link.is_symlink():
                link.unlink()
            link.symlink_to(target, target_is_directory=True)
        except OSError as error:
            raise ConfigError(
                f"no link can be made at {link} ({error.strerror}); metamon needs a root for each format: give --roots "
                "a folder that can be written to"
            ) from error
        made.append(Root(folder=root.resolve(), battle_format=battle_format, battles=count))
    return made


def dataset_text(roots: Sequence[tuple[Root, float]], formats: Sequence[str] | None, *, replay_weight: float) -> str:
    """The dataset file.

    Args:
        roots: with the share of draws of each.
        formats: to read; None for all that metamon has.
        replay_weight: the share of draws from metamon's own human replays, which it downloads; 0 for none.
    """
    lines = [
        f"# metamon 1.6.0: python -m metamon.rl.train --dataset_config THIS_FILE; by gemma_metamon {__version__}",
        f"# metamon keeps what it found in {_INDEX}: write this file again when battles have been added",
        f"replay_weight: {replay_weight:.6g}",
    ]
    if roots:
        lines.append("custom_replays:")
        for root, weight in roots:
            lines.append(f"- dir: {_quoted(str(root.folder))}  # {root.battles} battles of {root.battle_format}")
            lines.append(f"  weight: {weight:.6g}")
    if formats is not None:
        lines.append(f"formats: [{', '.join(map(_quoted, formats))}]")
    return "\n".join(lines) + "\n"


def shares_by_battles(roots: Sequence[Root], share: float) -> list[tuple[Root, float]]:
    """A share of all draws, divided so that every battle is drawn equally often."""
    total = sum(root.battles for root in roots)
    return [(root, share * root.battles / total) for root in roots]


def write_beside(folder: Path, sources: Sequence[Path] | None = None) -> None:
    """Writes `folder`/dataset.yaml for what was collected in it, or in these folders; every battle equally often.

    Where no links can be made there is none, and a warning: the battles are what matters.
    """
    try:
        roots = [root for source in sources or [folder] for root in link_roots(source, formats_of_files(source))]
    except ConfigError as error:
        logger.warning("no %s for metamon 1.6.0: %s", folder / DATASET_FILE, error)
        return
    formats = sorted({root.battle_format for root in roots})
    with written_whole(folder / DATASET_FILE) as staged:
        text = dataset_text(shares_by_battles(roots, 1.0), formats, replay_weight=0.0)
        staged.write_text(text, encoding="utf-8")


def _quoted(text: str) -> str:
    """As YAML reads it: its double-quoted strings have JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)
