"""Draws a scene: rectangles, figures and words, the same to the pixel on every machine with the same Pillow.

Places are given for a picture of 448 pixels and scaled; sections and buttons begin on lines 28 apart, as patches do, so
that a thing looks the same to a vision tower wherever it stands. The font is the one that comes with Pillow, which has
ASCII alone. What costs time, words and figures, is kept: of a battle they are nearly all the same from turn to turn.
"""

import unicodedata
from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from gemma_metamon.errors import ConfigError, MissingDependencyError
from gemma_metamon.vision.scenes.figures import Figure, drawn, fitted
from gemma_metamon.vision.scenes.palette import (
    BAD,
    BEST,
    BLACK,
    ENDINGS,
    GOOD,
    PAINTS,
    STATUSES,
    WHITE,
    Colour,
    Theme,
    dimmed,
    health_colour,
    ink_on,
    type_colour,
)
from gemma_metamon.vision.scenes.scene import Button, Scene, Shown, Side
from gemma_metamon.vision.scenes.sprites import Sprites

GEMMA_SIZE: Final = 896
"""Pixels on a side of what Gemma 3 looks at; it scales what is larger or smaller."""
MIN_SIZE, MAX_SIZE = 56, 4096
_DESIGN: Final = 448
_MARGIN: Final = 4
_FOE_TOP, _KNOWN_TOP, _OWN_TOP, _MOVES_TOP, _LAST_TOP = 28, 146, 168, 280, 394
_SECTION: Final = 112
_PANEL, _BENCH, _FIGURE = 214, 150, 68
"""How wide they are."""
_LEAST_PIXELS: Final = 5
"""Of a font; below it no letter is one."""
_KEPT: Final = 8192


class Painter:
    """Draws scenes of one size and theme.

    Args:
        size: pixels on a side.
        theme: of the colours.
        sprites: of the Pokémon; None draws all of them by types and initials.

    Raises:
        ConfigError: a size that no picture can have.
    """

    def __init__(self, size: int = GEMMA_SIZE, theme: Theme = "light", sprites: Sprites | None = None) -> None:
        require_size(size)
        self.size, self.paints, self._sprites = size, PAINTS[theme], sprites
        self._scale = size / _DESIGN
        self._words = lru_cache(_KEPT)(self._make_words)
        self._figure = lru_cache(_KEPT)(self._make_figure)
        self._font = lru_cache(64)(_font)
        self._ground = self._make_ground()

    def draw(self, scene: Scene, label: str = "") -> Image.Image:
        """A scene as an RGB picture.

        Args:
            scene: what is to be seen.
            label: stands in the upper left corner, as "t=0".
        """
        canvas = _Canvas(self._ground.copy(), self)
        self._head(canvas, scene, label)
        self._side(canvas, scene.foe, _FOE_TOP, mirrored=False, title=f"Foe: {scene.foes_left} left")
        self._side(canvas, scene.own, _OWN_TOP, mirrored=True, title="Your bench")
        if scene.known:
            canvas.write(f"Foe knows {', '.join(scene.known)}", 8, _KNOWN_TOP, 13, 280, self.paints.small)
        self._prospects(canvas, scene)
        for number, button in enumerate(scene.moves[:4]):
            self._button(canvas, button, _MARGIN + 224 * (number % 2), _MOVES_TOP + 56 * (number // 2))
        last = [
            f"{who} used {side.last_move}" for who, side in (("You", scene.own), ("Foe", scene.foe)) if side.last_move
        ]
        for number, text in enumerate(last):
            canvas.write(text, 8, _LAST_TOP + 18 * number, 14, 432, self.paints.text)
        if scene.notice:
            canvas.write(scene.notice, 8, _LAST_TOP + 36, 14, 432, STATUSES["BRN"])
        return canvas.image

    def blank(self) -> Image.Image:
        """A picture of this size that shows nothing: the control."""
        return Image.new("RGB", (self.size, self.size), self.paints.ground)

    def at(self, place: float) -> int:
        """Pixels of a place or a length in the design."""
        return round(place * self._scale)

    def words(self, text: str, height: int, width: int) -> Image.Image:
        """A mask of a text in one line, at most so wide; made smaller, then cut, where it would be wider."""
        return self._words(text, height, width)

    def _head(self, canvas: "_Canvas", scene: Scene, label: str) -> None:
        left = 8.0
        if label:
            left += canvas.chip(label, 4, 3, self.paints.text, height=15) + 6
        used = canvas.write(f"{scene.format} turn {scene.turn}", left, 4, 15, 436 - left, self.paints.text)
        right = left + used + 12
        if scene.surroundings:
            canvas.write(", ".join(scene.surroundings), right, 5, 14, 440 - right, self.paints.small)

    def _side(self, canvas: "_Canvas", side: Side, top: int, *, mirrored: bool, title: str) -> None:
        panel = _DESIGN - _MARGIN - _PANEL if mirrored else _MARGIN
        bench = _MARGIN if mirrored else _DESIGN - _MARGIN - _BENCH
        self._panel(canvas, side, panel, top)
        figure = (_DESIGN - _FIGURE) // 2 + (-32 if mirrored else 32)
        canvas.paste(self._figure(side.active, self.at(_FIGURE)), figure, top + (_SECTION - _FIGURE) // 2)
        canvas.write(title, bench + 4, top + 2, 12, _BENCH - 8, self.paints.small)
        for number, pokemon in enumerate(side.bench[:6]):
            self._bench(canvas, pokemon, bench + 4, top + 17 + round(15.7 * number))

    def _panel(self, canvas: "_Canvas", side: Side, left: int, top: int) -> None:
        active, paints = side.active, self.paints
        canvas.write(active.name, left + 6, top + 3, 20, _PANEL - 60, paints.text)
        canvas.write(f"L{active.level}", left + _PANEL - 44, top + 7, 14, 42, paints.text)
        place = left + 6.0
        for word in active.types:
            place += canvas.chip(word, place, top + 28, type_colour(word)) + 4
        if active.status:
            ground = STATUSES.get(active.status, STATUSES["fainted"])
            canvas.chip(active.status, left + _PANEL - 50, top + 28, ground, width=46)
        hp = active.hp or 0
        canvas.bar(hp, left + 6, top + 50, _PANEL - 64, 13)
        canvas.write(f"{hp}%", left + _PANEL - 52, top + 46, 18, 50, paints.text)
        lines = [", ".join(side.boosts), ", ".join((*side.effects, *side.carried)), ", ".join(side.conditions)]
        for number, line in enumerate(line for line in lines if line):
            canvas.write(line, left + 6, top + 66 + 15 * number, 13, _PANEL - 12, paints.text)

    def _bench(self, canvas: "_Canvas", pokemon: Shown, left: int, top: int) -> None:
        paints = self.paints
        first, *second = pokemon.types or ("",)
        fainted = pokemon.status == "fainted"
        ink = paints.small if pokemon.legal and not fainted else paints.faint
        if pokemon.best:
            canvas.fill(BEST, left - 2, top, _BENCH - 4, 15)
            ink = BLACK
        canvas.fill(type_colour(first), left, top + 2, 6, 12)
        canvas.fill(type_colour(second[0] if second else first), left + 6, top + 2, 6, 12)
        canvas.write(pokemon.name, left + 15, top, 13, 66, ink)
        if pokemon.ending:
            canvas.fill(ENDINGS[pokemon.ending], left + 82, top + 2, 8, 12)
        told = "?" if pokemon.hp is None else f"{pokemon.hp}%"
        canvas.write(told, left + 93, top, 13, 30, ink)
        if pokemon.status:
            said = "KO" if fainted else pokemon.status
            canvas.chip(said, left + 124, top + 2, STATUSES.get(pokemon.status, STATUSES["fainted"]), 11, width=21)

    def _prospects(self, canvas: "_Canvas", scene: Scene) -> None:
        """What is to be expected of the two on the field: at the same place each, over the own panel."""
        if scene.faster is not None:
            said, ground = ("faster", GOOD) if scene.faster else ("slower", BAD)
            canvas.chip(said, 292, _KNOWN_TOP, ground, width=46)
        if scene.suffers is not None:
            canvas.write(f"hit {scene.suffers}%", 342, _KNOWN_TOP, 13, 50, self.paints.text)
        if scene.own.active.ending:
            canvas.chip(scene.own.active.ending, 394, _KNOWN_TOP, ENDINGS[scene.own.active.ending], width=48)

    def _button(self, canvas: "_Canvas", button: Button, left: int, top: int) -> None:
        ground = type_colour(button.type)
        ground = ground if button.legal else dimmed(ground, self.paints.ground)
        ink = ink_on(ground) if button.legal else dimmed(ink_on(ground), ground)
        if button.strongest:
            canvas.fill(self.paints.text, left - 4, top, 224, 56)
        canvas.fill(ground, left, top + 4, 216, 48)
        canvas.write(button.name, left + 6, top + 5, 18, 150, ink)
        canvas.write(button.pp, left + 164, top + 7, 15, 48, ink)
        told = " ".join(word for word in (button.type.capitalize(), button.facts) if word)
        canvas.write(told, left + 6, top + 26, 13, 146, ink)
        if not button.legal:
            return
        if button.takes is not None:
            canvas.write("KO" if button.knocks_out else f"{button.takes}%", left + 160, top + 25, 14, 52, ink)
            canvas.fill(BLACK, left + 4, top + 42, 208, 8)
            taken = 100 if button.knocks_out else min(100, button.takes)
            if taken:
                canvas.fill(BAD if button.knocks_out else WHITE, left + 4, top + 42, 208 * taken / 100, 8)
        elif button.lands is not None:
            canvas.write("lands" if button.lands else "fails", left + 160, top + 25, 14, 52, ink)
            canvas.fill(GOOD if button.lands else BLACK, left + 4, top + 42, 208, 8)

    def _make_ground(self) -> Image.Image:
        """What is the same in every picture."""
        canvas = _Canvas(self.blank(), self)
        canvas.fill(self.paints.foe, _MARGIN, _FOE_TOP, _DESIGN - 2 * _MARGIN, _SECTION)
        canvas.fill(self.paints.own, _MARGIN, _OWN_TOP, _DESIGN - 2 * _MARGIN, _SECTION)
        return canvas.image

    def _make_words(self, text: str, height: int, width: int) -> Image.Image:
        text = _ascii(text)
        least = max(_LEAST_PIXELS, round(0.8 * height))
        height = next((h for h in range(height, least, -1) if self._font(h).getlength(text) <= width), least)
        font = self._font(height)
        while len(text) > 1 and font.getlength(text) > width:
            text = text.removesuffix("..")[:-1] + ".."
            if len(text) <= 3:
                break
        ascent, descent = font.getmetrics()
        mask = Image.new("L", (max(1, round(font.getlength(text)) + 1), ascent + descent))
        ImageDraw.Draw(mask).text((0, 0), text, 255, font)
        return mask

    def _make_figure(self, pokemon: Shown, size: int) -> Figure:
        found = None if self._sprites is None else self._sprites.find(pokemon.species)
        if found is not None:
            return fitted(found, size)
        name = _ascii(pokemon.name)
        return drawn(name, pokemon.types, size, self._font, fainted=pokemon.status == "fainted")


class _Canvas:
    """A picture that is being drawn, in places of the design."""

    def __init__(self, image: Image.Image, painter: Painter) -> None:
        self.image, self._painter = image, painter

    def fill(self, colour: Colour, left: float, top: float, width: float, height: float) -> None:
        at = self._painter.at
        self.image.paste(colour, (at(left), at(top), max(at(left) + 1, at(left + width)), at(top + height)))

    def paste(self, figure: Figure, left: float, top: float) -> None:
        picture, mask = figure
        self.image.paste(picture, (self._painter.at(left), self._painter.at(top)), mask)

    def write(self, text: str, left: float, top: float, height: float, width: float, ink: Colour) -> float:
        """A line of words; returns how wide it is, in the design."""
        if not text:
            return 0.0
        at = self._painter.at
        mask = self._painter.words(text, max(_LEAST_PIXELS, at(height)), max(1, at(width)))
        self.image.paste(ink, (at(left), at(top)), mask)
        return mask.width * _DESIGN / self._painter.size

    def chip(
        self, text: str, left: float, top: float, ground: Colour, height: float = 14, width: float | None = None
    ) -> float:
        """Words on a ground of their own; returns how wide it is, in the design.

        Args:
            text: in one line.
            left: of the ground.
            top: of the ground.
            ground: its colour.
            height: of the ground.
            width: of the ground; None takes what the words need.
        """
        painter = self._painter
        limit = 70 if width is None else width - 2
        mask = painter.words(text, max(_LEAST_PIXELS, painter.at(height - 1)), max(1, painter.at(limit)))
        needed = mask.width * _DESIGN / painter.size
        width = needed + 8 if width is None else width
        self.fill(ground, left, top, width, height + 2)
        free = painter.at(top + height + 2) - painter.at(top) - mask.height
        inset = painter.at(left + (width - needed) / 2), painter.at(top) + free // 2
        self.image.paste(ink_on(ground), inset, mask)
        return width

    def bar(self, hp: int, left: float, top: float, width: float, height: float) -> None:
        """Of HP, in percent."""
        self.fill(self._painter.paints.empty, left, top, width, height)
        if hp:
            self.fill(health_colour(hp), left, top, width * hp / 100, height)


def require_size(size: int, *, grid: bool = False, named: str = "--size") -> None:
    """Raises ConfigError for a size that no picture can have, or no grid of four; it is called as it is `named`."""
    if grid and size % 2:
        raise ConfigError(f"{named} {size} is odd; a grid has two frames on a side: give an even number")
    least = MIN_SIZE * (2 if grid else 1)
    if not least <= size <= MAX_SIZE:
        raise ConfigError(
            f"{named} {size} is no size of a {'grid' if grid else 'picture'}; give {least} to {MAX_SIZE} pixels"
        )


def _font(height: int) -> ImageFont.FreeTypeFont:
    """Pillow's own, set letter by letter: with Raqm, which some machines have, words would be set otherwise."""
    font = ImageFont.load_default(height)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise MissingDependencyError("this Pillow sets no letters (it has no FreeType); install Pillow's own wheel")
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def _ascii(text: str) -> str:
    """The letters of a name without what stands above them: the font has no other."""
    plain = unicodedata.normalize("NFKD", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return plain.encode("ascii", "ignore").decode()
