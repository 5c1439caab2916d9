"""Images of a request: what is too much is refused before it is decoded."""

import io
from typing import Any

import pytest

pytest.importorskip("PIL", reason="needs the extra: pip install 'gemma-metamon[vision]'")

from PIL import Image

from gemma_metamon.errors import DataError
from gemma_metamon.serving.pictures import MOST_PIXELS, MOST_SCANS, opened


def saved(width: int, height: int, form: str = "PNG", mode: str = "1", **options: Any) -> bytes:
    """A flat picture: some kilobytes, however large it is."""
    content = io.BytesIO()
    Image.new(mode, (width, height)).save(content, form, **options)
    return content.getvalue()


def test_an_image_of_as_many_pixels_as_may_be_is_decoded() -> None:
    (picture,) = opened([saved(4096, 4096)])
    assert (picture.mode, picture.width * picture.height) == ("RGB", MOST_PIXELS)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([(4096, 4097)], "an image has 4096 x 4097 pixels, with all before it 16781312; send at most 16777216"),
        ([(4096, 4096), (1, 1)], "an image has 1 x 1 pixels, with all before it 16777217"),
        ([(2048, 2048)] * 32, "an image has 2048 x 2048 pixels, with all before it 20971520"),
        ([(10_000, 10_000)], "an image"),  # Pillow warns of it
        ([(20_000, 20_000)], "an image cannot be read"),  # Pillow refuses it
    ],
)
def test_more_pixels_are_refused_before_any_is_decoded(
    sizes: list[tuple[int, int]], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {size: saved(*size) for size in set(sizes)}

    def decode(*_: object) -> None:
        raise AssertionError("it is decoded")

    monkeypatch.setattr(Image.Image, "convert", decode)
    with pytest.raises(DataError, match=f"^{words}"):
        opened([contents[size] for size in sizes])


def test_a_jpeg_that_is_drawn_over_and_over_is_refused() -> None:
    content = saved(64, 64, "JPEG", "L", progressive=True)
    assert [picture.size for picture in opened([content])] == [(64, 64)]
    start = content.rindex(b"\xff\xda")
    hostile = content[:-2] + content[start:-2] * MOST_SCANS + content[-2:]
    with pytest.raises(DataError, match=f"^an image is drawn in more than {MOST_SCANS} scans"):
        opened([hostile])
