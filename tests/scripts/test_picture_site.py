"""The pictures of the site: what is wider than its window is found, and dark pages are dark."""

from pathlib import Path

import picture_site
import pytest
from support.pages import needs_chromium

pytestmark = [pytest.mark.slow, needs_chromium]
DARK = "@media (prefers-color-scheme: dark) { body { background: #000 } }"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A page that fits, and one that does not."""
    for name, inside in (("fits", "<pre>" + "x" * 900 + "</pre>"), ("wide", '<p style="width: 3000px">so wide</p>')):
        style = f"<style>pre {{ overflow: auto }} body {{ background: #fff }} {DARK}</style>"
        page = f"<!doctype html>{style}<article><h1>A page</h1>{inside}</article>"
        (tmp_path / f"{name}.html").write_text(page)
    return tmp_path


def test_a_page_that_is_wider_than_its_window_is_named_with_what_makes_it_so(site: Path) -> None:
    (found,) = picture_site.wider(site, 390, 300)
    assert found.startswith("wide.html at 390: 30")
    assert "p so wide" in found


def test_a_picture_has_the_size_that_is_asked_for_and_its_readers_colours(site: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is missing: pip install '.[vision]'")
    colours = []
    for scheme in picture_site.SCHEMES:
        to = tmp_path / f"{scheme}.png"
        picture_site.photograph(site, picture_site.side_by_side(["fits.html"], 390, 300), to, (390, 300), scheme)
        picture = image.open(to).convert("RGB")
        assert picture.size == (390, 300)
        colours.append(picture.getpixel((380, 290)))
    assert colours == [(255, 255, 255), (0, 0, 0)]
