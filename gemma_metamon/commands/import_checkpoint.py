"""`gemma-metamon import`: a checkpoint of AMAGO's becomes one of ours (`import` itself can name no module)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import (
    add_gin_arguments,
    add_shared_argument,
    add_space_arguments,
    folder_name,
    load_view,
    make_folder,
)
from gemma_metamon.errors import ConfigError

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.runs.identity import RunDescription

EXAMPLE = """example:
  gemma-metamon import --from amago metamon_runs/first/ckpts/policy_weights/policy_epoch_40.pt \\
      --save_dir runs --run_name imported --model_gin_config gemma_synthetic_multitaskagent.gin"""

BESIDE = "what the run's gemma_metamon.json says"


def add_parser(subparsers: "Subparsers") -> None:
    """Adds `gemma-metamon import` with its flags."""
    parser = subparsers.add_parser(
        "import",
        help="read a checkpoint of metamon's",
        description="Read a checkpoint that metamon trained with this package's encoder, or that `export` wrote.\n"
        "It plays; it does not resume, because the file holds no optimizer state.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a policy_epoch_<N>.pt")
    parser.add_argument("--from", dest="form", choices=("amago",), required=True, help="the form of FILE")
    parser.add_argument("--save_dir", required=True, type=Path, help="the checkpoint goes to save_dir/run_name/ckpts")
    parser.add_argument("--run_name", required=True, type=folder_name, help="names the run's folder in save_dir")
    add_shared_argument(parser, "ckpt", help="its epoch (default: the N of FILE's name)")
    parser.add_argument("--model_gin_config", help=f"a packaged model config's name, or a path (default: {BESIDE})")
    add_gin_arguments(parser)
    add_space_arguments(parser, instead=BESIDE)
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="a JSON list of words, or a map word -> id, that it was trained with "
        f"(default: {BESIDE}, or the packaged vocabulary)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes a checkpoint of ours from AMAGO's file. Returns the exit status."""
    from gemma_metamon.atomic_files import written_whole
    from gemma_metamon.runs.experiment import build_without_weights
    from gemma_metamon.runs.identity import CheckpointMeta, RunIdentity, own_words
    from gemma_metamon.upstream import interchange

    beside = interchange.read_description(args.file)
    epoch = interchange.epoch_of(args.file) if args.ckpt is None else args.ckpt
    if epoch is None or epoch < 0:
        raise ConfigError(f"{args.file.name} is no policy_epoch_<N>.pt; say which epoch it is with --ckpt N")
    config = _load_config(args, beside)
    view = load_view(args, beside)
    agent: Any = build_without_weights(view)
    identity = RunIdentity.of(view, agent.tstep_encoder)
    if beside is not None:
        beside.identity.require(identity, str(args.file))
    meta = CheckpointMeta(
        identity=identity,
        config=config,
        epoch=epoch,
        updates=0,  # no state dict says how many
        draws=0,
        settings={"imported_from": str(args.file)},
        vocabulary=own_words(view.vocabulary),
    )
    run_dir = args.save_dir / args.run_name
    make_folder(args.save_dir, "save_dir")
    imported = interchange.import_policy(args.file, run_dir, meta)
    with written_whole(run_dir / "config.gin") as staged:
        staged.write_text(config, encoding="utf-8")
    print(f"wrote {imported.folder}; it plays, but does not resume: the file holds no optimizer state")
    return 0


def _load_config(args: argparse.Namespace, beside: "RunDescription | None") -> str:
    """Fills gin; returns the resolved configuration's text."""
    from gemma_metamon.runs import resolve
    from gemma_metamon.upstream import interchange

    if args.model_gin_config is not None:
        return resolve.load(args.model_gin_config, args.train_gin_config, args.gin_override, args.trust_config).text
    if beside is None:
        raise ConfigError(
            f"the run of {args.file} has no {interchange.DESCRIPTION}, so nothing says what was trained; "
            "give --model_gin_config, and the other flags where they were not the defaults"
        )
    if args.train_gin_config is not None:
        raise ConfigError("--train_gin_config needs --model_gin_config, too; one gin binding fits into --gin_override")
    return resolve.load_text(beside.config, args.gin_override).text
