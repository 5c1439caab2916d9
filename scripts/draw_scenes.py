"""Draws docs/images/scenes.png, scenes and grids of bundled battles: `python scripts/draw_scenes.py`."""

from pathlib import Path
from typing import Final

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.telling.prompts import Decision
from gemma_metamon.sample_battles import extract
from gemma_metamon.vision.scenes.grid import FRAMES, GridPainter, Layout, pictures_of
from gemma_metamon.vision.scenes.palette import Theme
from gemma_metamon.vision.scenes.sheets import contact_sheet

OUT: Final = Path(__file__).parent.parent / "docs/images/scenes.png"
SIZE: Final = 500
SHOWN: Final[tuple[tuple[str, int, int, Layout, Theme], ...]] = (  # format, battle, decision, frames, theme
    ("gen1ou", 0, 4, "single", "light"),
    ("gen9ou", 0, 5, "single", "dark"),
    ("gen1ou", 2, 9, "single", "dark"),
    ("gen1ou", 0, 1, "grid", "light"),
    ("gen9ou", 1, 8, "grid", "light"),
    ("gen1ou", 1, 11, "grid", "dark"),
)


def decisions_of(battle_format: str, number: int) -> list[Decision]:
    path = sorted((extract(battle_format) / battle_format).iterdir())[number]
    return list(recorded_decisions(load_battle(path), history=FRAMES))


def main() -> None:
    images = []
    for battle_format, number, t, layout, theme in SHOWN:
        (picture,) = pictures_of(decisions_of(battle_format, number)[: t + 1], layout)
        images.append(GridPainter(SIZE, theme).draw(picture))
    contact_sheet(images, len(images), SIZE, columns=3).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
