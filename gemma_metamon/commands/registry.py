"""`gemma-metamon registry`: models by name and version, in stages, and on the hub."""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import add_shared_argument
from gemma_metamon.commands._registering import RUN_HELP, add_registry_argument, contents_of, register, with_card
from gemma_metamon.errors import ConfigError
from gemma_metamon.registry.names import STAGES, Reference, check_name, is_registered

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.registry.manifests import Manifest
    from gemma_metamon.registry.registry import Registry

logger = logging.getLogger(__name__)

EXAMPLE = """examples:
  gemma-metamon registry register runs/first@3 --name best --results league
  gemma-metamon registry list
  gemma-metamon registry promote best@1 production
  gemma-metamon evaluate --players registry:best@production --opponents DuelTrainer
  gemma-metamon registry rollback best production
  gemma-metamon registry push best@1 OWNER/best

Wherever a run is named, registry:NAME@3, registry:NAME@staging or registry:NAME@production names a registered model.
Files are kept by their SHA-256 and checked whenever they are read."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command with its actions."""
    parser = subparsers.add_parser(
        "registry",
        help="keep models by name and version, promote them, share them",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, what: str, run: Any) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=what, description=what)
        add_registry_argument(action)
        add_shared_argument(action, "json")
        action.set_defaults(run=run)
        return action

    action = add("register", "make a checkpoint the next version of a model", _register)
    action.add_argument("source", metavar="RUN", help=RUN_HELP)
    action.add_argument("--name", required=True, help="of the model")
    action.add_argument(
        "--results", type=Path, nargs="+", default=[], metavar="DIR", help="folders of `evaluate --out`, for its card"
    )
    add("list", "all models, with what is in which stage", _list)
    action = add("show", "the files, stages and card of a version", _show)
    action.add_argument("model", metavar="NAME@VERSION", help="a version, or NAME@staging, NAME@production")
    action = add("promote", "put a version into a stage, once all of its files were read", _promote)
    action.add_argument("model", metavar="NAME@VERSION")
    action.add_argument("stage", choices=STAGES)
    action = add("rollback", "put back the version that was in a stage before", _rollback)
    action.add_argument("name", metavar="NAME")
    action.add_argument("stage", choices=STAGES)
    action = add("push", "put a version into a repository of the Hugging Face hub", _push)
    action.add_argument("model", metavar="NAME@VERSION")
    action.add_argument("repo", metavar="OWNER/REPO")
    action.add_argument("--public", action="store_true", help="a new repository is open to all (default: closed)")
    action = add("pull", "register what a repository of the hub holds", _pull)
    action.add_argument("repo", metavar="OWNER/REPO")
    action.add_argument("--revision", help="a branch, tag (v3) or commit (default: the newest)")
    action.add_argument("--name", help="of the model here (default: as there)")


def _open(args: argparse.Namespace) -> "Registry":
    from gemma_metamon.registry.registry import Registry

    return Registry(args.registry)


def _place(registry: "Registry") -> str:
    """For whoever reads the output: without a password in the address."""
    from gemma_metamon.release.secrets import hide_secrets

    return hide_secrets(registry.storage.place)


def _say(args: argparse.Namespace, manifest: "Manifest", sentence: str, **more: Any) -> int:
    told = {"name": manifest.name, "version": manifest.version, "digest": manifest.digest, **more}
    print(json.dumps(told) if args.json else sentence)
    return 0


def _register(args: argparse.Namespace) -> int:
    check_name(args.name)
    if is_registered(args.source):
        raise ConfigError(f"{args.source} is registered already; promote it, or name a run")
    registry = _open(args)
    contents = contents_of(args.source)
    with with_card(args.name, contents, args.results) as files:
        manifest = register(registry, args.name, contents, files)
    for version in registry.versions(args.name):
        earlier = registry.find(Reference(args.name, version))
        if version < manifest.version and _model_of(earlier) == _model_of(manifest):
            logger.info("%s@%d has the same model; only the card may be another", args.name, version)
            break
    return _say(
        args,
        manifest,
        f"{manifest.name}@{manifest.version}: {len(manifest.files)} files, {manifest.total_bytes:,} bytes, of "
        f"{manifest.source}, in {_place(registry)}",
        place=_place(registry),
    )


def _model_of(manifest: "Manifest") -> dict[str, Any]:
    """Its files, but for the card."""
    from gemma_metamon.registry.manifests import CARD

    return {name: row for name, row in manifest.files.items() if name != CARD}


def _list(args: argparse.Namespace) -> int:
    registry = _open(args)
    rows: list[dict[str, Any]] = []
    for name in registry.names():
        stages = registry.stages(name)
        for version in registry.versions(name):
            manifest = registry.find(Reference(name, version))
            rows.append(
                {
                    "name": name,
                    "version": version,
                    "stages": [stage for stage in STAGES if stages.of(stage)[-1:] == [version]],
                    "kind": manifest.kind,
                    "source": manifest.source,
                    "made_at": manifest.made_at,
                    "bytes": manifest.total_bytes,
                }
            )
    if args.json:
        print(json.dumps({"place": _place(registry), "models": rows}))
        return 0
    if not rows:
        print(f"{_place(registry)} has no models; gemma-metamon registry register RUN --name NAME makes one")
        return 0
    width = max(len(f"{row['name']}@{row['version']}") for row in rows) + 2
    print(f"{'model':{width}}{'kind':8}{'stages':22}{'registered':22}{'bytes':>14}  from")
    for row in rows:
        label = f"{row['name']}@{row['version']}"
        stages_of = ", ".join(row["stages"])
        print(f"{label:{width}}{row['kind']:8}{stages_of:22}{row['made_at']:22}{row['bytes']:14,}  {row['source']}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from gemma_metamon.registry.manifests import CARD

    registry = _open(args)
    manifest = registry.find(registry.read(args.model))
    folder = registry.fetch(manifest)
    stages = registry.stages(manifest.name)
    within = [stage for stage in STAGES if stages.of(stage)[-1:] == [manifest.version]]
    if args.json:
        print(json.dumps({**asdict(manifest), "stages": within, "history": [asdict(row) for row in stages.rows]}))
        return 0
    print(f"{manifest.name}@{manifest.version}  {manifest.kind}, {', '.join(within) or 'in no stage'}")
    print(f"registered {manifest.made_at} of {manifest.source}; digest {manifest.digest}")
    for name, row in manifest.files.items():
        print(f"  {row.sha256[:12]} {row.size:14,}  {name}")
    for event in stages.rows:
        print(f"  {event.at}  {event.action} {event.stage}: version {event.version}")
    if (folder / CARD).is_file():
        print(f"\n{(folder / CARD).read_text(encoding='utf-8')}", end="")
    return 0


def _promote(args: argparse.Namespace) -> int:
    registry = _open(args)
    manifest = registry.promote(registry.read(args.model), args.stage)
    return _say(args, manifest, f"{manifest.name}@{manifest.version} is in {args.stage}", stage=args.stage)


def _rollback(args: argparse.Namespace) -> int:
    manifest = _open(args).rollback(check_name(args.name), args.stage)
    return _say(args, manifest, f"{manifest.name}@{manifest.version} is in {args.stage} again", stage=args.stage)


def _push(args: argparse.Namespace) -> int:
    from gemma_metamon.registry.hub import push

    registry = _open(args)
    manifest = registry.find(registry.read(args.model))
    address = push(registry, manifest, args.repo, private=not args.public)
    return _say(args, manifest, f"{manifest.name}@{manifest.version} is {address}", commit=address)


def _pull(args: argparse.Namespace) -> int:
    from gemma_metamon.registry.hub import pull

    if args.name is not None:
        check_name(args.name)
    manifest = pull(_open(args), args.repo, revision=args.revision, name=args.name)
    return _say(
        args, manifest, f"{manifest.name}@{manifest.version}: {manifest.total_bytes:,} bytes, of {manifest.source}"
    )
