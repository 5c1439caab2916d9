"""Draws pictures into files. For processes that do nothing else, so it imports no more than that takes."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.strict_json import read_dataclass
from gemma_metamon.vision.scenes.grid import GridPainter, Picture
from gemma_metamon.vision.scenes.palette import Theme
from gemma_metamon.vision.scenes.sprites import Sprites

BLANK: Final = "{}"
"""In place of a picture's scenes: it is to show nothing."""
_PNG_LEVEL: Final = 1
"""Of 9: each more costs time for few bytes."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How pictures are drawn.

    Attributes:
        size: pixels on a side.
        theme: of the colours.
        sprites: a user's folder of them; None draws all Pokémon by types and initials.
    """

    size: int
    theme: Theme = "light"
    sprites: Path | None = None


@cache  # a process draws in one style
def _painter(style: Style) -> GridPainter:
    return GridPainter(style.size, style.theme, None if style.sprites is None else Sprites(style.sprites))


def draw_batch(batch: Sequence[tuple[str, str]], root: Path, style: Style) -> int:
    """Writes pictures as PNG, and returns how many there were.

    Args:
        batch: of each the file, from the root, and what it shows: a `Picture` as JSON, or BLANK.
        root: of the data set.
        style: how they are drawn.
    """
    painter = _painter(style)
    for name, text in batch:
        picture = None if text == BLANK else read_dataclass(Picture, json.loads(text))
        content = io.BytesIO()
        drawn = painter.blank() if picture is None else painter.draw(picture)
        drawn.save(content, "PNG", compress_level=_PNG_LEVEL)
        with written_whole(root / name, durable=False) as staged:
            staged.write_bytes(content.getvalue())
    return len(batch)
