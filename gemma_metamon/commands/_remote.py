"""Folders that flags name by an address, as s3://bucket/battles: fetched before a command works, or mirrored by it."""

import argparse
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.errors import DataError, GemmaMetamonError, MissingFileError
from gemma_metamon.object_stores.checkpoints import DESCRIPTION, age, checkpoint_of, turn_of
from gemma_metamon.object_stores.folders import RemoteFolder, address_of
from gemma_metamon.object_stores.mirrors import Mirror
from gemma_metamon.object_stores.opening import require_writable_store

if TYPE_CHECKING:
    from gemma_metamon.runs.checkpoints import Checkpoint
    from gemma_metamon.runs.identity import CheckpointMeta

logger = logging.getLogger(__name__)


def fetched_battles(path: Path, formats: Sequence[str] | None = None) -> Path:
    """A folder of battle files, archives or a store: of an address the folder that it was fetched into.

    Args:
        path: as a flag read it; a folder of this machine stays as it is.
        formats: whose battles are wanted; None fetches all.

    Raises as `RemoteFolder` and its `fetch`.
    """
    address = address_of(path)
    if address is None:
        return path

    def wanted(name: str) -> bool:
        first, slash, _ = name.partition("/")
        of_format = first if slash else name.partition(".tar")[0]
        return formats is None or of_format in formats or not (slash or ".tar" in name)

    return _fetch(address, wanted)


def fetched_run(path: Path, epoch: int | None = None) -> Path:
    """A run: of an address the folder that its records and one of its checkpoints were fetched into.

    Args:
        path: as a flag read it; a folder of this machine stays as it is.
        epoch: of the checkpoint; None fetches the last.

    Raises as `RemoteFolder` and its `fetch`.
    """
    address = address_of(path)
    if address is None:
        return path
    whole = RemoteFolder(address).whole_checkpoints()
    return _fetch_checkpoints(address, whole[-1:] if epoch is None else [f"epoch_{epoch}"])


def fetch_inputs(args: argparse.Namespace) -> None:
    """Puts what was fetched in the place of the addresses among the flags of `train`. Raises as `fetched_battles`."""
    if args.parsed_replay_dir is not None:
        args.parsed_replay_dir = fetched_battles(args.parsed_replay_dir, args.formats)
    if args.custom_replay_dir is not None:
        args.custom_replay_dir = [fetched_battles(folder, args.formats) for folder in args.custom_replay_dir]
    if args.init_from is not None:
        text, at, epoch = args.init_from.rpartition("@")
        named = at and epoch.isdecimal()
        run = Path(text if named else args.init_from)
        if address_of(run) is not None:
            args.init_from = f"{fetched_run(run, int(epoch) if named else None)}{at + epoch if named else ''}"


def require_writable_folder(path: Path) -> None:
    """Before what is read is fetched: raises ConfigError for an address that nothing can be written to."""
    address = address_of(path)
    if address is not None:
        require_writable_store(address)


def fetched_save_dir(args: argparse.Namespace) -> Path:
    """The folder of runs that --save_dir names: of an address the one that what the store has of a run is fetched into.

    Of checkpoints those are fetched that going on needs: the newest whole one, or that of --ckpt and all later ones;
    epoch 0 or whatever the run began anew from; that which judges battles; and what `best` names. The others are
    described in `.in_store`.

    Args:
        args: of `train`.

    Raises as `RemoteFolder` and its `fetch`, and what is wrong with the configuration.
    """
    address = address_of(args.save_dir)
    if address is None:
        return Path(args.save_dir)
    remote = RemoteFolder(f"{address}/{args.run_name}")
    whole = remote.whole_checkpoints()
    wanted = {*whole[-1:], f"epoch_{args.ckpt}"}
    if args.discard_later:
        wanted |= {name for name in whole if age(name) > [args.ckpt]}
    try:
        run_dir = _fetch_checkpoints(remote.address, wanted, describe=True)
    except MissingFileError:
        logger.info("%s begins empty", remote.address)
        return remote.cached.parent
    if needed := _needed_besides(run_dir, args) & {*whole} - wanted:
        wanted |= needed
        _fetch_checkpoints(remote.address, wanted)
    while args.resume is not None and (older := _newest_in_store(run_dir, {*whole} - wanted)) is not None:
        wanted.add(older)  # what is newer is damaged
        _fetch_checkpoints(remote.address, wanted)
    return remote.cached.parent


def _needed_besides(run_dir: Path, args: argparse.Namespace) -> set[str]:
    """The names of the checkpoints that a run reads again, beside the one that it goes on from."""
    from gemma_metamon.configs.names import EXPERIMENT, configurable
    from gemma_metamon.runs import resolve
    from gemma_metamon.runs.checkpoints import CHECKPOINTS, list_all
    from gemma_metamon.runs.experiment import Experiment
    from gemma_metamon.runs.keeping import BEST, list_known

    resolve.load(args.model_gin_config, args.train_gin_config, args.gin_override, args.trust_config)
    experiment: Experiment = configurable(EXPERIMENT)()
    needed = {"epoch_0"}
    if experiment.best_share is not None:
        needed.add(f"epoch_{experiment.best_after_epoch}")
    with suppress(OSError):
        needed.add((run_dir / CHECKPOINTS / BEST).read_text(encoding="utf-8").strip())
    anew_at = {meta.anew_at for one in list_all(run_dir) if (meta := _description(one)) is not None}
    return needed | {
        one.folder.name
        for one in list_known(run_dir)
        if (meta := _description(one)) is not None and meta.updates in anew_at
    }


def _description(checkpoint: "Checkpoint") -> "CheckpointMeta | None":
    """None of a damaged one: whoever goes on from it says so."""
    try:
        return checkpoint.read_meta()
    except (GemmaMetamonError, OSError):
        return None


def _newest_in_store(run_dir: Path, names: set[str]) -> str | None:
    """The newest of these that is newer than any checkpoint here that can be gone on from."""
    from gemma_metamon.runs.resuming import find_newest_whole

    try:
        found = find_newest_whole(run_dir) if names else None
    except DataError:
        found = None
    except MissingFileError:  # an imported one: nothing else is gone on from either
        return None
    newer = [name for name in names if found is None or age(name) > age(found.folder.name)]
    return max(newer, key=age, default=None)


@contextmanager
def mirrored_run(args: argparse.Namespace) -> Iterator[Path]:
    """The folder of runs to train in: of an address one of this machine, whose run is uploaded meanwhile.

    Of several processes that train one run, the first uploads.

    Args:
        args: of `train`; what the store has of the run is fetched first, as `fetched_save_dir` says.

    Raises as `fetched_save_dir`, `require_writable_folder` and `Mirror`.
    """
    address = address_of(args.save_dir)
    if address is None:
        yield args.save_dir
        return
    require_writable_store(address)
    remote = RemoteFolder(f"{address}/{args.run_name}")
    remote.ask()
    place = fetched_save_dir(args)
    if os.environ.get("RANK", "0") != "0":
        yield place
        return
    with _mirrored(remote):
        yield place


@contextmanager
def mirrored(path: Path) -> Iterator[Path]:
    """Where to write what belongs at a path: of an address a folder of this machine that is uploaded meanwhile.

    Args:
        path: as a flag read it; a folder of this machine stays as it is. Nothing is fetched.

    Raises as `RemoteFolder`, `require_writable_folder` and `Mirror`.
    """
    address = address_of(path)
    if address is None:
        yield path
        return
    require_writable_store(address)
    remote = RemoteFolder(address)
    remote.ask()
    with _mirrored(remote):
        yield remote.cached


def _mirrored(remote: RemoteFolder) -> Mirror:
    logger.info("%s is written to %s and uploaded from there", remote.address, remote.cached)
    return Mirror(remote.cached, remote)


def _fetch_checkpoints(address: str, names: Collection[str], *, describe: bool = False) -> Path:
    """A run's records and these of its checkpoints; of what was moved aside only that it was."""

    def wanted(name: str) -> bool:
        checkpoint = checkpoint_of(name)
        if checkpoint is not None:
            return checkpoint in names
        return turn_of(name) != 1 or name.endswith(f"/{DESCRIPTION}")

    return _fetch(address, wanted, describe=describe)


def _fetch(address: str, wanted: Callable[[str], bool], *, describe: bool = False) -> Path:
    from gemma_metamon.progress import progress_bar

    remote = RemoteFolder(address)
    with progress_bar(desc=f"fetching {address}", unit="file") as bar:
        return remote.fetch(wanted, describe=describe, on_file=bar.update)
