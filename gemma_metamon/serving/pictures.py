"""Images of a request, opened: so many pixels and no more in all of them, known before the first is decoded.

Needs Pillow, of the extra `vision`. A file of some kilobytes can hold a picture of gigabytes, or one that is drawn a
hundred thousand times over.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gemma_metamon.errors import DataError
from gemma_metamon.strict_json import why_no_picture

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS: Final = 16 * 2**20
"""Of all images of a request together; decoded, one has four bytes a pixel at most, and three besides as RGB."""
MOST_SCANS: Final = 100
"""Of a progressive JPEG, each of which goes over all its pixels; usual are ten."""
_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_SCAN: Final = b"\xff\xda"


def opened(contents: Sequence[bytes]) -> "Iterator[Image.Image]":
    """The pictures, RGB, each decoded when it is asked for.

    Args:
        contents: of files, PNG, JPEG or WebP.

    Raises:
        DataError: what is no picture, or is too large, alone or with the others; before any is decoded, where their
            beginnings tell.
    """
    pixels = 0
    for content in contents:
        with _opened(content) as image:
            pixels += image.width * image.height
            if pixels > MOST_PIXELS:
                raise DataError(
                    f"an image has {image.width} x {image.height} pixels, with all before it {pixels}; send at most "
                    f"{MOST_PIXELS} in one request"
                )
    return (_decoded(content) for content in contents)


def _decoded(content: bytes) -> "Image.Image":
    with _opened(content) as image:
        picture: Image.Image = image.convert("RGB")
        return picture


@contextmanager
def _opened(content: bytes) -> "Iterator[Image.Image]":
    from PIL import Image, UnidentifiedImageError

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # the second where warnings are errors
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.format == "JPEG" and content.count(_SCAN) > MOST_SCANS:
                raise DataError(f"an image is drawn in more than {MOST_SCANS} scans; save it as an ordinary JPEG")
            yield image
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, *bombs) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"an image cannot be read ({why_no_picture(error)}); send a PNG, JPEG or WebP") from error
