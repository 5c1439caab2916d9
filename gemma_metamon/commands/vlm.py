"""`gemma-metamon vlm`: recorded battles as pictures and answers, and models that see them."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import add_shared_argument, require_place, share
from gemma_metamon.commands._exports import (
    EXPORT_WORKERS,
    add_battles_arguments,
    add_filter_arguments,
    add_reasoning_argument,
    as_json,
    as_table,
    check_arguments,
    chooser_arguments,
    load_sources,
    settings_of,
)
from gemma_metamon.commands._pictures import add_style_arguments, told_without_sprite
from gemma_metamon.commands._vlm_training import add_merge, add_train
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.vision.export import Pictures

EXPORT_EXAMPLE = """example:
  gemma-metamon vlm export --parsed_replay_dir replays --formats gen1ou --out seen --val_share 0.1
  gemma-metamon vlm export --parsed_replay_dir replays --out seen --frames single --size 448 --sprites my_sprites
Makes DIR/dataset.jsonl: `image`, `images`, `context`, `question`, `output`, and `messages` as TRL trains on them, with
the facts that chat export gives. Pictures are named from DIR; equal ones are one file. With --val_share the rows of
that share of battles go to DIR/dataset.validation.jsonl. Stopped and started again with the same flags, it goes on
where it was. Look it over with gemma-metamon chat validate."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its action, with its flags."""
    parser = subparsers.add_parser(
        "vlm",
        help="battles as pictures, and models that see",
        epilog="example: gemma-metamon vlm export --parsed_replay_dir replays --out seen",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="export|train|merge")
    _add_export(actions)
    add_train(actions)
    add_merge(actions)


def _add_export(actions: "Subparsers") -> None:
    parser = actions.add_parser(
        "export",
        help="decisions of recorded battles as pictures and answers",
        epilog=EXPORT_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_battles_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--val_share", type=share, default=0.0, help="share of battles to hold out (default: none)")
    add_shared_argument(parser, "seed", help="of what --subset and --turns sampled draw (default: %(default)s)")
    shown = parser.add_argument_group("what is shown of a decision, and told with it")
    shown.add_argument(
        "--frames",
        choices=("grid", "single", "four"),
        default="grid",
        help="grid: the last four turns in one picture; single: this turn; four: four pictures (default: %(default)s)",
    )
    add_style_arguments(shown)
    shown.add_argument(
        "--processor",
        type=Path,
        metavar="DIR",
        help="the folder of the model that is to be trained: pictures of another size than it looks at are refused",
    )
    shown.add_argument(
        "--context",
        choices=("none", "words"),
        default="none",
        help="words: the text that chat models read, with the pictures (default: %(default)s)",
    )
    add_reasoning_argument(shown, of_pictures=True)
    shown.add_argument("--blank", action="store_true", help="show and tell nothing of the battle: a control")
    add_filter_arguments(parser)
    add_shared_argument(parser, "workers", help=EXPORT_WORKERS)
    add_shared_argument(parser, "device")
    add_shared_argument(parser, "max_set_aside")
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Writes rows and pictures, and prints what became of the decisions. Returns the exit status."""
    require_extra("vision", "vlm export")
    check_arguments(args, "vlm export")

    from gemma_metamon.data.encoding import SetAside
    from gemma_metamon.language.data.choosing import Wording
    from gemma_metamon.language.data.export import export
    from gemma_metamon.vision.export import DATASET, PictureOutput, Pictures
    from gemma_metamon.vision.forms import Form
    from gemma_metamon.vision.processors import require_fit
    from gemma_metamon.vision.rows import PictureChooser
    from gemma_metamon.vision.scenes.drawing import require_size
    from gemma_metamon.vision.scenes.picture_files import Style
    from gemma_metamon.vision.scenes.sprites import Sprites

    style = Style(size=args.size, theme=args.theme, sprites=args.sprites)
    require_size(args.size, grid=args.frames == "grid")
    if (args.out / DATASET).exists():  # said before anything is loaded
        raise ConfigError(f"--out {args.out} holds {DATASET} already; remove it, or name another folder")
    if args.processor is not None:
        require_fit(args.processor, args.size)
    sprites = None if args.sprites is None else Sprites(args.sprites)
    pictures = Pictures(args.out, args.frames, style, args.workers, sprites)
    form = Form(
        layout=args.frames,
        context=args.context,
        reasoning=args.reasoning not in ("none", "seen"),
        blank=args.blank,
        size=args.size,
        theme=args.theme,
        sprites=None if sprites is None else sprites.mark,
    )
    output = PictureOutput(
        path=args.out / DATASET, val_share=args.val_share, subset=args.subset, pictures=pictures, form=form
    )
    require_place(output.path, "out")
    pictures.require_new(output.work)
    sources = load_sources(args)
    wording = Wording(reasoning=args.reasoning, blank=args.blank)
    chooser = PictureChooser(form.showing, **chooser_arguments(args, wording))
    settings = {
        **settings_of(args, chooser),
        **{"showing": asdict(chooser.showing), "size": args.size, "theme": args.theme},
        "sprites": form.sprites,
    }
    exported = export(sources, chooser, output, settings, SetAside(args.max_set_aside), workers=args.workers)
    if args.json:
        print(json.dumps(as_json(exported, output) | _pictures_as_json(pictures)))
    else:
        print(f"{as_table(exported, output)}\n{_pictures_as_text(pictures)}")
    return 0


def _pictures_as_json(pictures: "Pictures") -> dict[str, Any]:
    return {
        "pictures": pictures.count,
        "pictures_drawn": pictures.drawn,
        "pictures_out": str(pictures.folder),
        "without_sprite": sorted(pictures.without_sprite),
    }


def _pictures_as_text(pictures: "Pictures") -> str:
    told = f"{pictures.count:>10,} pictures in {pictures.folder}"
    return "\n".join([told, *told_without_sprite(pictures.without_sprite)])
