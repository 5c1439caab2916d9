"""A data set of pictures and answers: dataset.jsonl, and beside it a folder of pictures, each of them once.

Rows are chosen, split and resumed by `language.data.export`. When they are joined, each new picture gets the next
number; then all that are not there yet are drawn, in several processes; then the file of rows is there.
"""

import json
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.child_processes import in_workers
from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.language.data.export import Output
from gemma_metamon.language.data.row_files import RowWriter
from gemma_metamon.language.data.rows import number_of
from gemma_metamon.progress import progress_bar
from gemma_metamon.vision.forms import Form, write_form
from gemma_metamon.vision.scenes.drawing import require_size
from gemma_metamon.vision.scenes.grid import Layout
from gemma_metamon.vision.scenes.picture_files import Style, draw_batch
from gemma_metamon.vision.scenes.sprites import Sprites

DATASET: Final = "dataset.jsonl"
_SIDES: Final = ("own", "foe")
_BATCH: Final = 64


class Pictures:
    """The pictures of a data set, by number.

    Args:
        root: of the data set.
        layout: names the folder of pictures and the files in it: grids, or scenes.
        style: how they are drawn.
        workers: how many processes draw.
        sprites: of the style's folder; None where it has none.

    Raises:
        ConfigError: a size that no such picture can have.

    Attributes:
        drawn: how many were.
        without_sprite: Pokémon on the field that the sprites' folder does not have, as it would name them.
    """

    def __init__(
        self, root: Path, layout: Layout, style: Style, workers: int = 1, sprites: Sprites | None = None
    ) -> None:
        require_size(style.size, grid=layout == "grid")
        self.root, self.style, self.workers, self._sprites = root, style, workers, sprites
        self.kind = "grid" if layout == "grid" else "scene"
        self.drawn = 0
        self.without_sprite: set[str] = set()
        self._numbers: dict[int, int] = {}

    @property
    def folder(self) -> Path:
        """Of the pictures."""
        return self.root / f"{self.kind}_images"

    @property
    def count(self) -> int:
        """Of different pictures."""
        return len(self._numbers)

    def name(self, number: int) -> str:
        """Of a picture's file, from the root."""
        return f"{self.folder.name}/{self.kind}_{number:06d}.png"

    def require_new(self, work: Path) -> None:
        """Raises ConfigError where there are pictures, and no folder of unfinished work that has drawn them."""
        if self.folder.is_dir() and any(self.folder.iterdir()) and not work.is_dir():
            raise ConfigError(f"--out {self.root} holds {self.folder.name} already; remove it, or name another folder")

    def add(self, pictures: list[dict[str, Any]], waiting: TextIO) -> list[str]:
        """The files of a row's pictures; those that are new are written to `waiting`, to be drawn."""
        names = []
        for picture in pictures:
            text = json.dumps(picture, ensure_ascii=False)
            mark = number_of(text)
            if mark not in self._numbers:
                self._numbers[mark] = len(self._numbers) + 1
                waiting.write(f"{self._numbers[mark]} {text}\n")
                if self._sprites is not None:
                    on_field = {
                        scene[side]["active"]["species"] for scene in picture.get("scenes", ()) for side in _SIDES
                    }
                    self.without_sprite |= self._sprites.lacking(on_field)
            names.append(self.name(self._numbers[mark]))
        return names

    def draw(self, waiting: Path, count: int) -> None:
        """Draws what of `count` pictures that wait is not there yet.

        Raises GemmaMetamonError where a worker was killed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with progress_bar(desc="drawing", unit="picture", total=count) as bar:
            work = partial(draw_batch, root=self.root, style=self.style)
            try:
                for drawn in in_workers(work, self._batches(waiting, bar), self.workers):
                    self.drawn += drawn
                    bar.update(drawn)
            except BrokenProcessPool as error:
                raise GemmaMetamonError(
                    "a worker was killed, perhaps for want of memory; run the same command with fewer --workers: what "
                    "is drawn is kept"
                ) from error

    def _batches(self, waiting: Path, bar: Any) -> Iterator[list[tuple[str, str]]]:
        """File and scenes of those to draw."""
        with waiting.open(encoding="utf-8") as file:
            while lines := list(islice(file, _BATCH)):
                batch = []
                for line in lines:
                    number, _, text = line.rstrip("\n").partition(" ")
                    name = self.name(int(number))
                    if (self.root / name).is_file():
                        bar.update(1)
                    else:
                        batch.append((name, text))
                if batch:
                    yield batch


class _PictureLines(RowWriter):
    """Takes rows of `PictureChooser`, and writes them with the files of their pictures."""

    def __init__(self, path: Path, pictures: Pictures, waiting: Path) -> None:
        super().__init__()
        self._pictures = pictures
        self.new = 0  # pictures that wait to be drawn
        self._file, self._waiting = path.open("w", encoding="utf-8"), waiting.open("w", encoding="utf-8")

    def _write(self, text: str) -> None:
        row = json.loads(text)
        before = self._pictures.count
        names = self._pictures.add(row.pop("pictures"), self._waiting)
        self.new += self._pictures.count - before
        self._file.write(json.dumps({"image": names[-1], "images": names} | row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()
        self._waiting.close()


@dataclass(frozen=True, kw_only=True)
class PictureOutput(Output):
    """Where rows with pictures go.

    Attributes:
        pictures: of the rows of both files.
        form: how decisions are shown; written beside them.
    """

    pictures: Pictures
    form: Form

    @contextmanager
    def writer(self, path: Path) -> Iterator[RowWriter]:
        """Takes the rows of one of the two files; the file is there when the block is done, and all of its pictures."""
        waiting = self.work / f"{path.stem}.pictures"
        with written_whole(path) as staged:
            lines = _PictureLines(staged, self.pictures, waiting)
            try:
                yield lines
            finally:
                lines.close()
            self.pictures.draw(waiting, lines.new)
            write_form(self.path.parent, self.form)  # where there are rows, all is there that a training reads
