"""`gemma-metamon prepare`: recorded battles made ready for training once, in a store of Arrow files."""

import argparse
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import (
    add_shared_argument,
    add_space_arguments,
    add_tokenizer_argument,
    at_least_one,
    folder_name,
    load_view,
)
from gemma_metamon.commands._cluster import require_ray
from gemma_metamon.commands._remote import fetched_battles, mirrored, require_writable_folder
from gemma_metamon.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers

EXAMPLE = """example:
  gemma-metamon prepare --parsed_replay_dir replays --formats gen1ou gen9ou --out store
  gemma-metamon prepare --parsed_replay_dir gen9ou.tar.lz4 --out store
  gemma-metamon train --parsed_replay_dir store ...
Stopped and started again with the same flags, it goes on where it was. The store serves one observation space, action
space, reward function and word list. `gemma-metamon prepare --out store --verify` compares every shard with its
checksum."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its flags."""
    parser = subparsers.add_parser(
        "prepare",
        help="make recorded battles ready for training, once",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="the store's folder, new or to go on with")
    parser.add_argument(
        "--parsed_replay_dir",
        type=Path,
        help="recorded battles: DIR/<format>/*.json.lz4, DIR/<format>.tar.gz or .tar.lz4, or one such archive",
    )
    parser.add_argument(
        "--formats", nargs="+", type=folder_name, help="battle formats (default: all in parsed_replay_dir)"
    )
    add_space_arguments(parser)
    add_tokenizer_argument(parser)
    parser.add_argument("--verify", action="store_true", help="compare every shard of the store with its checksum")
    parser.add_argument(
        "--workers",
        type=at_least_one,
        default=os.cpu_count() or 1,
        help="processes that encode (default: one per core)",
    )
    parser.add_argument(
        "--shard_battles", type=at_least_one, default=512, help="battles in a file (default: %(default)s)"
    )
    add_shared_argument(parser, "ray")
    add_shared_argument(parser, "max_set_aside")
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the store, or goes on with it, and verifies it where asked; prints what is in it."""
    if args.parsed_replay_dir is None and not args.verify:
        raise ConfigError("nothing to do: give --parsed_replay_dir to prepare it, or --verify to check a store")
    require_ray(args)
    require_writable_folder(args.out)
    if args.parsed_replay_dir is not None:
        args.parsed_replay_dir = fetched_battles(args.parsed_replay_dir, args.formats)
    with mirrored(args.out) as args.out:
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    report: dict[str, Any] = {"out": str(args.out)}
    if args.parsed_replay_dir is not None:
        report |= _prepare(args)
    if args.verify:
        report["verified_shards"] = _verify(args.out)
    print(json.dumps(report) if args.json else _as_text(report))
    return 0


def _as_text(report: dict[str, Any]) -> str:
    lines = []
    if "battles" in report:
        lines.append(
            "{battles} battles of {files} files ({done_before} were there before), {timesteps} timesteps, "
            "{shards} shards, {size_bytes} bytes in {out}".format(**report)
        )
        if report["set_aside"]:
            lines.append("{set_aside} files set aside, all with their reasons in {set_aside_list}:".format(**report))
            lines += [f"{kind['files']:>7} as {kind['example']}" for kind in report["set_aside_kinds"]]
        if report["unknown_words"]:
            lines.append(
                "{unknown_words} words were in no vocabulary; the most frequent: {most_frequent}".format(**report)
            )
    if "verified_shards" in report:
        lines.append("{verified_shards} shards have the checksums they were written with".format(**report))
    return "\n".join(lines)


def _prepare(args: argparse.Namespace) -> dict[str, Any]:
    from gemma_metamon.data.battle_sources import list_sources
    from gemma_metamon.data.encoding import SetAside
    from gemma_metamon.data.preparing import prepare
    from gemma_metamon.data.store_files import SET_ASIDE, is_store

    view = load_view(args)
    formats = args.formats or list_sources(args.parsed_replay_dir)
    set_aside = SetAside(args.max_set_aside)
    try:
        with ExitStack() as stack:
            elsewhere = None
            if args.ray is not None:
                from gemma_metamon.cluster.connecting import connected
                from gemma_metamon.cluster.tasks import on_nodes

                stack.enter_context(connected(args.ray, workers=args.workers))
                elsewhere = on_nodes
            prepared = prepare(
                args.parsed_replay_dir,
                formats,
                view,
                args.out,
                set_aside=set_aside,
                workers=args.workers,
                shard_battles=args.shard_battles,
                progress=True,
                elsewhere=elsewhere,
            )
    finally:
        if is_store(args.out):
            set_aside.write(args.out / SET_ASIDE)
    return {
        "files": prepared.battles,
        "battles": prepared.battles - len(set_aside.reasons),
        "set_aside": len(set_aside.reasons),
        "set_aside_kinds": [
            {"files": count, "example": set_aside.examples[kind]} for kind, count in set_aside.kinds.most_common()
        ],
        "set_aside_list": str(args.out / SET_ASIDE) if set_aside.reasons else None,
        "done_before": prepared.done_before,
        "timesteps": prepared.timesteps,
        "shards": prepared.shards,
        "size_bytes": prepared.size_bytes,
        "unknown_words": prepared.unknown_words.total(),
        "most_frequent": prepared.unknown_words.most_common(5),
    }


def _verify(root: Path) -> int:
    """The number of shards, all of which are what was written."""
    from gemma_metamon.data.store import BattleStore
    from gemma_metamon.progress import progress_bar

    store = BattleStore(root)
    complaints = [
        f"{shard} {complaint}"
        for shard, complaint in progress_bar(store.check_shards(), total=store.n_shards, desc="verifying", unit="shard")
        if complaint is not None
    ]
    if complaints:
        raise DataError(
            f"{len(complaints)} of {store.n_shards} shards of {root} are damaged: {'; '.join(complaints)}; "
            "delete them and run the same prepare command again, which makes them anew"
        )
    return store.n_shards
