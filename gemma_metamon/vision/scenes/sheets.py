"""Many pictures on one sheet."""

from collections.abc import Iterable
from math import ceil
from typing import Final

from PIL import Image

_WIDTH: Final = 1800
_GAP: Final = 6
_GROUND: Final = (128, 128, 128)


def contact_sheet(images: Iterable[Image.Image], count: int, size: int, columns: int = 6) -> Image.Image:
    """The pictures side by side, row after row, none larger than it is.

    Args:
        images: taken one at a time, so that they need not all be held.
        count: how many there are.
        size: of each, pixels on a side.
        columns: how many stand in a row.
    """
    columns = min(columns, count)
    side = min(size, (_WIDTH - _GAP) // columns - _GAP)
    rows = ceil(count / columns)
    sheet = Image.new("RGB", (_GAP + columns * (side + _GAP), _GAP + rows * (side + _GAP)), _GROUND)
    for number, image in enumerate(images):
        small = image.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (_GAP + number % columns * (side + _GAP), _GAP + number // columns * (side + _GAP)))
    return sheet
