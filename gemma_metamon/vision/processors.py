"""What a vision-language model's processor makes of a picture, read from its folder before anything is drawn."""

from pathlib import Path
from typing import Any, Final

from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.strict_json import read_json_object, shown, shown_path

_FILES: Final = ("processor_config.json", "preprocessor_config.json")
"""Of transformers 5, and of before."""


def picture_size(folder: Path) -> int:
    """Pixels on a side of what the model of a folder looks at.

    Raises:
        MissingFileError: the folder has no processor.
        DataError: its processor names no size, or one that is no square.
    """
    found = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if found is None:
        raise MissingFileError(
            f"{shown_path(folder)} holds neither {_FILES[0]} nor {_FILES[1]}; give the folder of a model that sees"
        )
    read = read_json_object(found)
    size: Any = read.get("image_processor", read)
    size = size.get("size") if isinstance(size, dict) else None
    sides = (size.get("height"), size.get("width")) if isinstance(size, dict) else (None, None)
    if type(sides[0]) is not int or sides[0] != sides[1]:
        raise DataError(f"{shown_path(found)} names the size {shown(size)}; expected a square's height and width")
    return sides[0]


def require_fit(folder: Path, size: int) -> None:
    """Raises ConfigError for pictures that this folder's processor would scale, and as `picture_size` does."""
    wanted = picture_size(folder)
    if size != wanted:
        raise ConfigError(
            f"--size {size} would be scaled to {wanted} by the processor of {shown_path(folder)}; give --size {wanted}"
        )
