"""How decisions are shown to a model, written beside its data and with it: it is to play by what it was trained on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.strict_json import on_one_line, read_dataclass, read_json_object, shown_path
from gemma_metamon.vision.rows import Context, Showing
from gemma_metamon.vision.scenes.drawing import GEMMA_SIZE, require_size
from gemma_metamon.vision.scenes.grid import Layout
from gemma_metamon.vision.scenes.palette import Theme

FORM: Final = "form.json"


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is shown and asked at a decision.

    Attributes:
        layout: how many turns, in how many pictures.
        context: "words" for the text of the chat prompt with them.
        reasoning: whether answers say why.
        blank: whether the battle is left out: the control.
        size: of the pictures, pixels on a side.
        theme: of their colours.
        sprites: the mark of their folder (`Sprites.mark`); None draws all Pokémon by types and initials. Where that
            folder lies is said to the player: a model is copied to other machines.
    """

    layout: Layout = "grid"
    context: Context = "none"
    reasoning: bool = False
    blank: bool = False
    size: int = GEMMA_SIZE
    theme: Theme = "light"
    sprites: int | None = None

    @property
    def showing(self) -> Showing:
        """The part of it that is no matter of drawing."""
        return Showing(layout=self.layout, context=self.context, reasoning=self.reasoning, blank=self.blank)


def write_form(folder: Path, form: Form) -> None:
    """Writes form.json, whole or not at all."""
    with written_whole(folder / FORM) as staged:
        staged.write_text(json.dumps(asdict(form), indent=1) + "\n", encoding="utf-8")


def read_form(folder: Path) -> Form:
    """Of the data or the model in a folder. Raises MissingFileError where there is none, DataError where damaged."""
    if not (folder / FORM).is_file():
        raise MissingFileError(
            f"{shown_path(folder)} holds no {FORM}, which says how its decisions are shown; give what "
            "gemma-metamon vlm export or vlm train made"
        )
    read = read_json_object(folder / FORM)
    try:
        form = read_dataclass(Form, read)
        require_size(form.size, grid=form.layout == "grid", named="size")
    except (DataError, ConfigError) as error:
        raise DataError(
            f"{shown_path(folder / FORM)} is wrong ({on_one_line(error)}); make the folder again with "
            "gemma-metamon vlm export or vlm train"
        ) from error
    return form
