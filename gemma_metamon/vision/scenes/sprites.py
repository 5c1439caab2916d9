"""A user's own folder of sprites, with the file names that Showdown gives them: "greattusk.png", "rotom-wash.png"."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Final

from PIL import Image, UnidentifiedImageError

from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.language.data.rows import number_of
from gemma_metamon.strict_json import shown_path, why_no_picture

SUFFIXES: Final = (".png", ".gif")
MIN_PIXELS, MAX_PIXELS = 16, 512
"""On a side. Showdown's own have 40 to some 200."""


class Sprites:
    """The sprites of a folder, all of which are looked at once.

    Args:
        folder: with NAME.png or NAME.gif, of which the first frame is taken; other files are passed over.

    Raises:
        MissingFileError: no such folder, or no sprite in it.
        DataError: a file that cannot be read as a picture, or is too small or too large for a sprite.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise MissingFileError(f"no folder {shown_path(folder)}; name one of sprites")
        self.folder = folder
        self._paths = {path.stem: path for suffix in SUFFIXES[::-1] for path in sorted(folder.glob(f"*{suffix}"))}
        if not self._paths:
            raise MissingFileError(
                f"{shown_path(folder)} holds no NAME.png or NAME.gif; name a folder of pictures with "
                "Showdown's names, like greattusk.png"
            )
        self._pictures: dict[str, Image.Image] = {}
        for name, path in self._paths.items():
            self._pictures[name] = _read(path)

    def __contains__(self, species: str) -> bool:
        return self._found(species) is not None

    def lacking(self, names: Iterable[str]) -> set[str]:
        """Those of some Pokémon that have no sprite here, and are drawn."""
        return {species for species in names if species not in self}

    def find(self, species: str) -> Image.Image | None:
        """The sprite of a name as `Shown.species` has it, as RGBA; None where there is none.

        A forme is looked for as "rotom-wash" and "rotomwash"; that of another forme is not taken for it.
        """
        name = self._found(species)
        return None if name is None else self._pictures[name]

    @cached_property
    def mark(self) -> int:
        """64 bits that folders of the same pictures have in common."""
        return number_of(
            repr([(name, number_of(self._pictures[name].tobytes().hex())) for name in sorted(self._paths)])
        )

    def _found(self, species: str) -> str | None:
        return next((name for name in (species, species.replace("-", "")) if name in self._paths), None)


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            fits = min(width, height) >= MIN_PIXELS and max(width, height) <= MAX_PIXELS
            sprite: Image.Image = picture.convert("RGBA") if fits else picture
    except (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{shown_path(path)} cannot be read as a picture ({why_no_picture(error)}); replace it, or take it out of "
            "the folder of sprites"
        ) from error
    if not fits:
        raise DataError(
            f"{shown_path(path)} is {width} x {height} pixels, and a sprite has {MIN_PIXELS} to {MAX_PIXELS} on a "
            "side; scale it, or take it out of the folder of sprites"
        )
    return sprite
