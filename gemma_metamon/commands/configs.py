"""`gemma-metamon configs`: which configurations there are, what one would build, how metamon finds them and battles."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import (
    add_custom_share_argument,
    add_gin_arguments,
    add_override_argument,
    add_shared_argument,
    add_space_arguments,
    check_custom_share,
    load_view,
    refuse_void,
)

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = (
    "example: gemma-metamon configs show gemma_synthetic_multitaskagent.gin --train_gin_config binary_rl.gin --json"
)

DATASET = """Print the dataset file that metamon 1.6.0 trains from. metamon shares one list of files between the formats
of a folder, and gives the second none: so each format gets a folder of its own, metamon_roots/<format>, which holds a
link to its battles. Every battle of a folder is drawn equally often, whatever its format."""
DATASET_EXAMPLE = """example:
  gemma-metamon configs dataset --parsed_replay_dir replays --formats gen1ou gen9ou \\
      --custom_replay_dir battles > my.yaml
  python -m metamon.rl.train --dataset_config "$PWD/my.yaml" ..."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "configs",
        help="the packaged gin configs: list, show, derive, install into metamon; its dataset file",
        epilog=EXAMPLE,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|path|derive|install|dataset")
    listing = actions.add_parser(
        "list", help="the packaged configs, a line each", epilog="example: gemma-metamon configs list"
    )
    add_shared_argument(listing, "json")
    listing.set_defaults(run=run_list)
    show = actions.add_parser(
        "show", help="the resolved bindings and the architecture, without building weights", epilog=EXAMPLE
    )
    show.add_argument("model_gin_config", metavar="NAME", help="a packaged model config's name, or a path")
    add_gin_arguments(show)
    add_space_arguments(show)
    add_shared_argument(show, "json")
    show.set_defaults(run=run_show)
    path = actions.add_parser(
        "path",
        help="where a packaged config lies",
        epilog='example: python -m metamon.rl.train --model_gin_config "$(gemma-metamon configs path '
        'gemma_synthetic_multitaskagent.gin)" ...',
    )
    path.add_argument("name", metavar="NAME", help="a packaged config's name")
    path.set_defaults(run=run_path)
    derive = actions.add_parser(
        "derive",
        help="print a config that includes a packaged one and changes some of it, for either runtime",
        epilog="example: gemma-metamon configs derive gemma_synthetic_multitaskagent.gin "
        "--gin_override 'GemmaTstepEncoder.lora_r = 32' > my.gin",
    )
    derive.add_argument("model_gin_config", metavar="NAME", help="a packaged model config's name, or a path")
    add_override_argument(derive)
    derive.set_defaults(run=run_derive)
    install = actions.add_parser(
        "install",
        help="copy the model configs into metamon's own folder, so that it knows them by name",
        epilog="example: gemma-metamon configs install --dry_run",
    )
    install.add_argument("--to", type=Path, help="the folder (default: metamon/rl/configs/models of the installed one)")
    install.add_argument("--uninstall", action="store_true", help="remove what was installed, and nothing else")
    install.add_argument("--dry_run", action="store_true", help="say what would be done, and do nothing")
    install.set_defaults(run=run_install)
    dataset = actions.add_parser(
        "dataset",
        help="print the dataset file that metamon 1.6.0 trains from (--dataset_config)",
        description=DATASET,
        epilog=DATASET_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dataset.add_argument(
        "--parsed_replay_dir",
        type=Path,
        help="recorded battles, DIR/<format>/*.json.lz4 (default: metamon's human replays, which it downloads)",
    )
    dataset.add_argument("--custom_replay_dir", type=Path, nargs="+", help="more folders of recorded battles")
    add_custom_share_argument(dataset)
    dataset.add_argument("--formats", nargs="+", help="battle formats (default: all in the folders)")
    dataset.add_argument("--roots", type=Path, help="where the links go (default: metamon_roots beside the battles)")
    dataset.set_defaults(run=run_dataset)


def run_list(args: argparse.Namespace) -> int:
    """Prints the packaged configs, a line each."""
    from gemma_metamon.configs.files import KINDS, describe, find_config, list_configs

    found = {kind: {name: describe(find_config(name, kind)) for name in list_configs(kind)} for kind in KINDS}
    if args.json:
        print(json.dumps(found))
        return 0
    for kind, described in found.items():
        print(f"{kind} (--{'model' if kind == 'models' else 'train'}_gin_config)")
        for name, description in described.items():
            print(f"  {name:44} {description}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Prints the bindings and the architecture that a run would have."""
    from gemma_metamon.runs import resolve
    from gemma_metamon.runs.architecture import describe_architecture

    view = load_view(args)
    resolved = resolve.load(args.model_gin_config, args.train_gin_config, args.gin_override, args.trust_config)
    architecture = describe_architecture(view)
    if args.json:
        print(json.dumps({"bindings": resolved.bindings, "architecture": architecture}))
        return 0
    print(resolved.text.strip(), end="\n\n")
    for name, value in architecture.items():
        if name != "parameters":
            print(f"{name:20} {value}")
    print(f"\n{'parameters':20} {'total':>14} {'trainable':>14}")
    for part, count in architecture["parameters"].items():
        print(f"{part:20} {count['total']:14,} {count['trainable']:14,}")
    return 0


def run_path(args: argparse.Namespace) -> int:
    """Prints where a packaged config lies."""
    from gemma_metamon.configs.files import Kind, find_config, list_configs

    kind: Kind = "training" if args.name in list_configs("training") else "models"
    print(find_config(args.name, kind).resolve())
    return 0


def run_derive(args: argparse.Namespace) -> int:
    """Prints a config that includes another one and changes some of it."""
    from gemma_metamon import __version__
    from gemma_metamon.configs.files import config_folder, find_config
    from gemma_metamon.runs import resolve

    resolve.load(args.model_gin_config, None, args.gin_override)  # refuses what cannot work
    path = find_config(args.model_gin_config, "models")
    packaged = path.parent == config_folder("models")  # both runtimes find those by name
    lines = [
        f"# {path.name} with changes, by gemma_metamon {__version__}",
        "import gemma_metamon.upstream.plugin",
        "",
        f'include "{path.name if packaged else path.resolve()}"',
        "",
        *args.gin_override,
    ]
    print("\n".join(lines).rstrip())
    return 0


def run_install(args: argparse.Namespace) -> int:
    """Copies the model configs into metamon's folder, or removes them; status 1 where something was left alone."""
    from gemma_metamon.upstream import installed_configs

    folder = args.to or installed_configs.metamon_model_folder()
    change = installed_configs.uninstall if args.uninstall else installed_configs.install
    changes = change(folder, dry_run=args.dry_run)
    print(f"{'would be done' if args.dry_run else 'done'} in {folder}:")
    for one in changes:
        print(f"  {one.action:11} {one.path.name}")
    kept = [one.path.name for one in changes if one.action == "keep"]
    if kept:
        print(
            f"{', '.join(kept)}: not written by this command, or changed since, so left alone; "
            "rename or delete it yourself, or use an absolute path (`gemma-metamon configs path NAME`)",
            file=sys.stderr,
        )
    return 1 if kept else 0


def run_dataset(args: argparse.Namespace) -> int:
    """Prints the dataset file, and makes the links that it names."""
    from gemma_metamon.battle.replays import list_formats
    from gemma_metamon.upstream.datasets import dataset_text, link_roots, shares_by_battles

    check_custom_share(args)
    custom = args.custom_replay_dir or []
    folders = [*([] if args.parsed_replay_dir is None else [args.parsed_replay_dir]), *custom]
    if not folders:
        refuse_void(args, {"roots": None}, "metamon's own replays are no folder here")
    formats = args.formats or (list_formats(folders[0]) if folders else None)
    made = []
    for number, folder in enumerate(folders):
        roots = None if args.roots is None else args.roots / f"{number}-{folder.resolve().name}"
        made.append(link_roots(folder, formats or [], roots))
    share = args.custom_replay_sample_weight if custom else 0.0
    given, replay_weight = ([], 1 - share) if args.parsed_replay_dir is None else (made.pop(0), 0.0)
    weights = shares_by_battles(given, 1 - share) + shares_by_battles([r for roots in made for r in roots], share)
    print(dataset_text(weights, formats, replay_weight=replay_weight), end="")
    return 0
