"""How a Pokémon looks: by a sprite of the user's, or as a disc of its types' colours with its first letters."""

from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

from gemma_metamon.vision.scenes.palette import BLACK, UNKNOWN_TYPE, WHITE, ink_on, type_colour

Figure = tuple[Image.Image, Image.Image]
"""A picture, and the mask of what of it is to be seen."""
_FINER = 4  # drawn so many times larger, so that the rim is smooth


def fitted(sprite: Image.Image, size: int) -> Figure:
    """A sprite (RGBA) as large as fits into a square of `size` pixels, in its middle."""
    scale = size / max(sprite.size)
    width, height = (max(1, round(side * scale)) for side in sprite.size)
    resized = sprite.resize((width, height), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    square = Image.new("RGBA", (size, size))
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return square.convert("RGB"), square.getchannel("A")


def drawn(
    name: str, types: tuple[str, ...], size: int, font_of: Callable[[int], ImageFont.FreeTypeFont], *, fainted: bool
) -> Figure:
    """A disc in a square of `size` pixels.

    Args:
        name: whose first three letters stand on it.
        types: whose colours it has, the first on the left, the second on the right; grey without any.
        size: of the square.
        font_of: the font of a height in pixels.
        fainted: grey, and crossed out.
    """
    first, second = (types[0], types[-1]) if types else ("", "")
    colours = [UNKNOWN_TYPE, UNKNOWN_TYPE] if fainted else [type_colour(first), type_colour(second)]
    fine = size * _FINER
    mask = Image.new("L", (fine, fine))
    ImageDraw.Draw(mask).ellipse((0, 0, fine - 1, fine - 1), fill=255)
    disc = Image.new("RGB", (fine, fine), colours[0])
    pen = ImageDraw.Draw(disc)
    pen.rectangle((fine // 2, 0, fine, fine), fill=colours[1])
    pen.ellipse((0, 0, fine - 1, fine - 1), outline=BLACK, width=max(1, fine // 24))
    if fainted:
        for ends in ((fine, 0, 0, fine), (0, 0, fine, fine)):
            pen.line(ends, fill=BLACK, width=max(1, fine // 24))
    font = font_of(round(0.36 * fine))
    rim = BLACK if ink_on(colours[0]) == WHITE else WHITE
    pen.text(
        (fine / 2, fine / 2), name[:3], ink_on(colours[0]), font, anchor="mm", stroke_width=fine // 40, stroke_fill=rim
    )
    return disc.resize((size, size), Image.Resampling.BOX), mask.resize((size, size), Image.Resampling.BOX)
