"""Many pictures on one sheet."""

from collections.abc import Sequence
from math import ceil
from typing import Final

from PIL import Image

_WIDTH: Final = 1800
_GAP: Final = 6
_GROUND: Final = (128, 128, 128)


def contact_sheet(images: Sequence[Image.Image], columns: int = 6) -> Image.Image:
    """The pictures side by side, row after row, none larger than it is.

    Args:
        images: of one size.
        columns: how many stand in a row.
    """
    columns = min(columns, len(images))
    side = min(images[0].width, (_WIDTH - _GAP) // columns - _GAP)
    rows = ceil(len(images) / columns)
    sheet = Image.new("RGB", (_GAP + columns * (side + _GAP), _GAP + rows * (side + _GAP)), _GROUND)
    for number, image in enumerate(images):
        small = image.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (_GAP + number % columns * (side + _GAP), _GAP + number // columns * (side + _GAP)))
    return sheet
