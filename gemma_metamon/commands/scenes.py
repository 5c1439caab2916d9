"""`gemma-metamon scenes`: a recorded battle as pictures, to look at."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.commands._arguments import make_folder
from gemma_metamon.commands._pictures import add_style_arguments, told_without_sprite
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.extras import require_extra
from gemma_metamon.strict_json import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example:
  gemma-metamon scenes replays/gen1ou/BATTLE.json.lz4 --out pictures --theme dark
  gemma-metamon scenes replays/gen1ou/BATTLE.json.lz4 --out pictures --frames grid --sheet
One picture for each decision: what the player knew when it chose, and no more."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command with its flags."""
    parser = subparsers.add_parser(
        "scenes",
        help="draw the decisions of a recorded battle",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("battle", type=Path, metavar="BATTLE", help="a recorded battle, NAME.json.lz4 or NAME.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for the pictures")
    parser.add_argument(
        "--frames",
        choices=("grid", "single"),
        default="single",
        help="single: a picture for each turn; grid: the last four turns in each (default: %(default)s)",
    )
    add_style_arguments(parser)
    parser.add_argument("--sheet", action="store_true", help="all of them small on one sheet, sheet.png, as well")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draws the pictures. Returns the exit status."""
    require_extra("vision", "scenes")
    require_extra("battle", "scenes")

    from gemma_metamon.battle.replays import load_battle
    from gemma_metamon.language.data.recorded import recorded_decisions
    from gemma_metamon.vision.scenes.drawing import require_size
    from gemma_metamon.vision.scenes.grid import FRAMES, GridPainter, pictures_of, require_one_battle
    from gemma_metamon.vision.scenes.sheets import contact_sheet
    from gemma_metamon.vision.scenes.sprites import Sprites

    require_size(args.size, grid=args.frames == "grid")
    sprites = None if args.sprites is None else Sprites(args.sprites)
    painter = GridPainter(args.size, args.theme, sprites)
    decisions = list(recorded_decisions(load_battle(args.battle)))
    if not decisions:
        raise ConfigError(f"{args.battle} holds no decision; give a battle that was played")
    if args.frames == "grid":
        try:
            require_one_battle(decisions)
        except DataError as error:
            raise DataError(f"{shown_path(args.battle)}: {error}") from error
    make_folder(args.out, "out")
    kind = "grid" if args.frames == "grid" else "scene"
    without = set[str]()

    def drawn() -> "Iterator[Image]":
        for number in range(len(decisions)):
            (picture,) = pictures_of(decisions[max(0, number + 1 - FRAMES) : number + 1], args.frames)
            image = painter.draw(picture)
            _save(image, args.out / f"{kind}_{number + 1:04d}.png")
            if sprites is not None:
                on_field = (side.active.species for scene in picture.scenes for side in (scene.own, scene.foe))
                without.update(sprites.lacking(on_field))
            yield image

    if args.sheet:
        _save(contact_sheet(drawn(), len(decisions), args.size), args.out / "sheet.png")
    else:
        for _ in drawn():
            pass
    print("\n".join([f"{len(decisions)} pictures in {args.out}", *told_without_sprite(without)]))
    return 0


def _save(image: "Image", path: Path) -> None:
    with written_whole(path, durable=False) as staged:
        image.save(staged, "PNG")
