"""Folders that flags name by an address, as s3://bucket/battles: fetched before a command works, or mirrored by it."""

import argparse
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gemma_metamon.errors import MissingFileError
from gemma_metamon.object_stores import require_writable_store
from gemma_metamon.remote_folders import Mirror, RemoteFolder, address_of

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
    from gemma_metamon.runs.checkpoints import CHECKPOINTS

    address = address_of(path)
    if address is None:
        return path
    remote = RemoteFolder(address)
    whole = remote.whole_checkpoints()
    if epoch is not None:
        whole = [name for name in whole if name == f"epoch_{epoch}"]
    newest = f"{CHECKPOINTS}/{whole[-1]}/" if whole else None

    def wanted(name: str) -> bool:
        in_checkpoint = name.startswith(f"{CHECKPOINTS}/") and name.count("/") > 1
        return not in_checkpoint or (newest is not None and name.startswith(newest))

    return _fetch(address, wanted)


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


def fetched_save_dir(path: Path, run_name: str) -> Path:
    """A folder of runs: of an address the folder that what the store has of one of them was fetched into.

    Raises as `RemoteFolder` and `fetched_run`.
    """
    address = address_of(path)
    if address is None:
        return path
    remote = RemoteFolder(f"{address}/{run_name}")
    try:
        fetched_run(path / run_name)
    except MissingFileError:
        logger.info("%s begins empty", remote.address)
    return remote.cached.parent


@contextmanager
def mirrored(path: Path, folder_name: str | None = None) -> Iterator[Path]:
    """Where to write what belongs at a path: of an address a folder of this machine that is uploaded meanwhile.

    Of several processes that train one run, the first uploads.

    Args:
        path: as a flag read it; a folder of this machine stays as it is.
        folder_name: the folder in it that is written; what the store has of it is fetched first, of checkpoints the
            last alone. None is all of it, of which nothing is fetched.

    Raises as `RemoteFolder`, `fetched_run`, `require_writable_folder` and `Mirror`.
    """
    address = address_of(path)
    if address is None:
        yield path
        return
    require_writable_store(address)
    remote = RemoteFolder(f"{address}/{folder_name}" if folder_name else address)
    remote.ask()
    place = fetched_save_dir(path, folder_name) if folder_name else remote.cached
    if os.environ.get("RANK", "0") != "0":
        yield place
        return
    logger.info("%s is written to %s and uploaded from there", remote.address, remote.cached)
    with Mirror(remote.cached, remote):
        yield place


def _fetch(address: str, wanted: Callable[[str], bool]) -> Path:
    from gemma_metamon.progress import progress_bar

    remote = RemoteFolder(address)
    with progress_bar(desc=f"fetching {address}", unit="file") as bar:
        return remote.fetch(wanted, on_file=bar.update)
