"""The last four turns in one picture: t=0 upper left, t=1 upper right, t=2 lower left, t=3, which is now, lower right.

A processor spends as many tokens on a grid as on any single picture, a quarter of what four pictures take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal

from PIL import Image

from gemma_metamon.errors import DataError
from gemma_metamon.language.data.rows import number_of
from gemma_metamon.language.telling.prompts import Decision
from gemma_metamon.vision.scenes.drawing import GEMMA_SIZE, Painter, require_size
from gemma_metamon.vision.scenes.palette import Theme
from gemma_metamon.vision.scenes.scene import Scene, scene_of
from gemma_metamon.vision.scenes.sprites import Sprites

FRAMES: Final = 4
Layout = Literal["grid", "single", "four"]


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be drawn as one picture: a scene, or four of them as a grid.

    Attributes:
        scenes: one or four, the oldest first.
        repeated: how many of a grid's first scenes stand for turns before the battle's first.
    """

    scenes: tuple[Scene, ...]
    repeated: int = 0

    @property
    def mark(self) -> int:
        """64 bits that equal pictures have in common, and different ones hardly ever."""
        return number_of(repr(self))


def pictures_of(decisions: Sequence[Decision], layout: Layout) -> list[Picture]:
    """What is shown of a decision: one picture, or four with the oldest first.

    Args:
        decisions: of one battle up to this one, which is the last; only the last four are looked at.
        layout: "grid" is one picture of the last four turns, "single" one of this turn, "four" has four pictures.

    Raises:
        DataError: decisions that do not follow one another in one battle.
    """
    if layout == "single":
        return [Picture((scene_of(decisions[-1]),))]
    last = decisions[-FRAMES:]
    require_one_battle(last)
    scenes = [scene_of(decision) for decision in last]
    repeated = FRAMES - len(scenes)
    scenes = [scenes[0]] * repeated + scenes
    if layout == "four":
        return [Picture((scene,)) for scene in scenes]
    return [Picture(tuple(scenes), repeated)]


def require_one_battle(decisions: Sequence[Decision]) -> None:
    """Raises DataError for decisions of two battles, or out of order, as far as formats, turns and histories tell."""
    for before, after in pairwise(decisions):
        follows = not after.history or after.history[-1].state == before.state
        if before.state.format != after.state.format or before.turn > after.turn or not follows:
            raise DataError(
                f"turn {after.turn} of {after.state.format} does not follow turn {before.turn} of "
                f"{before.state.format}; give a grid the turns of one battle, in order"
            )


class GridPainter:
    """Draws pictures of one size: a scene alone, or a grid of scenes of half the size.

    Args:
        size: pixels on a side; for grids an even number.
        theme: of the colours.
        sprites: of the Pokémon; None draws all of them by types and initials.

    Raises:
        ConfigError: a size that no picture can have.
    """

    def __init__(self, size: int = GEMMA_SIZE, theme: Theme = "light", sprites: Sprites | None = None) -> None:
        self._whole, self._size, self._theme, self._sprites = Painter(size, theme, sprites), size, theme, sprites

    @cached_property
    def _frame(self) -> Painter:
        require_size(self._size, grid=True)
        return Painter(self._size // 2, self._theme, self._sprites)

    def draw(self, picture: Picture) -> Image.Image:
        """A picture, RGB."""
        if len(picture.scenes) == 1:
            return self._whole.draw(picture.scenes[0])
        grid = self._whole.blank()
        for t, scene in enumerate(picture.scenes):
            label = f"t={t} repeat" if t < picture.repeated else f"t={t}"
            half = self._frame.size
            grid.paste(self._frame.draw(scene, label), (half * (t % 2), half * (t // 2)))
        return grid

    def blank(self) -> Image.Image:
        """A picture that shows nothing: the control."""
        return self._whole.blank()
