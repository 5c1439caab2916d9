"""`gemma-metamon configs`: which configurations there are, and what one of them would build."""

import argparse
import json
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import add_gin_arguments, add_space_arguments

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = (
    "example: gemma-metamon configs show gemma_synthetic_multitaskagent.gin --train_gin_config binary_rl.gin --json"
)


def add_parser(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "configs", help="list the packaged gin configs, or show what one builds", epilog=EXAMPLE
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show")
    listing = actions.add_parser(
        "list", help="the packaged configs, a line each", epilog="example: gemma-metamon configs list"
    )
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    listing.set_defaults(run=run_list)
    show = actions.add_parser(
        "show", help="the resolved bindings and the architecture, without building weights", epilog=EXAMPLE
    )
    show.add_argument("model_gin_config", metavar="NAME", help="a packaged model config's name, or a path")
    add_gin_arguments(show)
    add_space_arguments(show)
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=run_show)


def run_list(args: argparse.Namespace) -> int:
    from gemma_metamon import configs

    found = {
        kind: {name: configs.describe(configs.find_config(name, kind)) for name in configs.list_configs(kind)}
        for kind in configs.KINDS
    }
    if args.json:
        print(json.dumps(found))
        return 0
    for kind, described in found.items():
        print(f"{kind} (--{'model' if kind == 'models' else 'train'}_gin_config)")
        for name, description in described.items():
            print(f"  {name:44} {description}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    from gemma_metamon import configs
    from gemma_metamon.text.view import BattleView
    from gemma_metamon.training.architecture import describe_architecture

    view = BattleView.from_names(
        obs_space=args.obs_space, action_space=args.action_space, reward_function=args.reward_function
    )
    resolved = configs.load(args.model_gin_config, args.train_gin_config, args.gin_override)
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
