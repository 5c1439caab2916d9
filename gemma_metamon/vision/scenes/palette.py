"""Colours of the pictures: of types, and of the two themes."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Colour = tuple[int, int, int]
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = get_args(Theme)

BLACK, WHITE = (16, 16, 20), (255, 255, 255)
UNKNOWN_TYPE: Final = (128, 132, 140)
TYPES: Final[dict[str, Colour]] = {
    "normal": (168, 164, 140),
    "fire": (236, 92, 40),
    "water": (60, 124, 232),
    "electric": (244, 204, 32),
    "grass": (72, 168, 64),
    "ice": (124, 216, 228),
    "fighting": (176, 44, 52),
    "poison": (148, 60, 168),
    "ground": (204, 164, 80),
    "flying": (140, 164, 244),
    "psychic": (240, 76, 140),
    "bug": (152, 176, 28),
    "rock": (148, 124, 60),
    "ghost": (88, 72, 144),
    "dragon": (84, 56, 220),
    "dark": (84, 68, 60),
    "steel": (148, 164, 184),
    "fairy": (240, 156, 204),
    "stellar": (64, 188, 172),
}
"""No two are alike enough to be taken for one another in a picture of few pixels."""


@dataclass(frozen=True)
class Paints:
    """A theme's colours.

    Attributes:
        ground: of the picture.
        own: of the own side's panel.
        foe: of the opponent's.
        text: what is written.
        small: what is written beside it.
        faint: a benched Pokémon that cannot come.
        empty: of a bar, where HP are gone.
    """

    ground: Colour
    own: Colour
    foe: Colour
    text: Colour
    small: Colour
    faint: Colour
    empty: Colour


PAINTS: Final[dict[Theme, Paints]] = {
    "light": Paints(
        ground=(250, 250, 252),
        own=(222, 234, 250),
        foe=(250, 228, 224),
        text=(16, 16, 20),
        small=(64, 66, 76),
        faint=(140, 142, 152),
        empty=(196, 198, 206),
    ),
    "dark": Paints(
        ground=(22, 24, 30),
        own=(34, 48, 70),
        foe=(70, 40, 40),
        text=(245, 245, 250),
        small=(196, 200, 212),
        faint=(148, 150, 162),
        empty=(88, 92, 104),
    ),
}
HEALTH: Final[tuple[tuple[int, Colour], ...]] = ((50, (40, 164, 72)), (20, (228, 168, 24)), (0, (216, 48, 40)))
"""Above so many percent of HP -> the bar's colour."""
STATUSES: Final[dict[str, Colour]] = {
    "PAR": (212, 168, 0), "BRN": (216, 84, 32), "PSN": (148, 60, 168), "TOX": (108, 32, 128), "SLP": (112, 116, 136),
    "FRZ": (64, 160, 204), "fainted": (96, 96, 100),
}  # fmt: skip
GOOD: Final[Colour] = (40, 164, 72)
BAD: Final[Colour] = (216, 48, 40)
BEST: Final[Colour] = (255, 214, 64)
ENDINGS: Final[dict[str, Colour]] = {"wins": GOOD, "falls": BAD, "neither": UNKNOWN_TYPE}
"""Of a duel, for the player's Pokémon."""


def type_colour(type_word: str) -> Colour:
    """Grey for one that is not known."""
    return TYPES.get(type_word, UNKNOWN_TYPE)


def health_colour(hp: int) -> Colour:
    """Of a bar with so many percent."""
    return next((colour for least, colour in HEALTH if hp > least), HEALTH[-1][1])


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is read better on a colour."""
    red, green, blue = colour
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE


def dimmed(colour: Colour, towards: Colour) -> Colour:
    """What may not be chosen: most of the way to the ground's colour."""
    return tuple((one + 3 * other) // 4 for one, other in zip(colour, towards, strict=True))  # type: ignore[return-value]
