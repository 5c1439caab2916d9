"""Whether `train` may work in a run's folder: nothing is overwritten, and what a resumed run changes is said."""

import argparse
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import ConfigError
from gemma_metamon.strict_json import shown_path

if TYPE_CHECKING:
    from gemma_metamon.runs.checkpoints import Checkpoint
    from gemma_metamon.runs.identity import CheckpointMeta, RunIdentity

logger = logging.getLogger(__name__)

COMPARED = (
    *("seed", "batch_size_per_gpu", "grad_accum", "steps_per_epoch", "processes", "formats", "parsed_replay_dir"),
    *("custom_replay_dir", "custom_replay_sample_weight", "holdout_share"),
)
"""Settings that decide what is learnt. A run may go on with others; it is then not the run it would have been."""


def find_start(args: argparse.Namespace, run_dir: Path, known: "Checkpoint | None" = None) -> "Checkpoint | None":
    """The checkpoint of this run that training goes on after, as the flags say; None where it begins.

    Args:
        args: of `train`.
        run_dir: of the run.
        known: what this returned a moment ago: its bytes are not looked at again.

    Raises:
        ConfigError: flags that contradict each other.
        MissingFileError: it is not there.
        DataError: the run has checkpoints, and none is whole; or the one that is asked for is damaged.
    """
    from gemma_metamon.runs import resuming
    from gemma_metamon.runs.checkpoints import Checkpoint

    if args.init_from is not None and args.ckpt is not None:
        raise ConfigError("--init_from begins a run and --ckpt goes on with one; give one of them")
    if args.anew and args.ckpt is None:
        raise ConfigError("--anew is of a run that goes on; give it with --ckpt, or begin with --init_from")
    if args.discard_later and args.ckpt is None:
        raise ConfigError("--discard_later is of what came after --ckpt N; give that, too, or leave it out")
    if args.resume is not None and args.ckpt is not None:
        raise ConfigError("--resume auto finds the checkpoint itself, and --ckpt names one; give one of them")
    if args.resume is not None:
        return resuming.find_newest_whole(run_dir, known)
    if args.ckpt is None:
        return None
    start = Checkpoint.find(run_dir, args.ckpt)
    if start != known:
        resuming.require_as_written(start)
    return start


def is_done(args: argparse.Namespace, start: "Checkpoint | None") -> bool:
    """Whether --resume auto has nothing left to train: the same command again, after its end, is no mistake."""
    return args.resume is not None and start is not None and start.epoch >= args.epochs


def check_run_folder(
    args: argparse.Namespace, run_dir: Path, identity: "RunIdentity", start: "Checkpoint | None"
) -> None:
    """Raises ConfigError, or another with the mend, where the run cannot begin or go on as the flags say.

    Args:
        args: of `train`.
        run_dir: of the run.
        identity: what its weights are to mean something for.
        start: of `find_start`.
    """
    from gemma_metamon.runs import resuming, run_folder
    from gemma_metamon.runs.checkpoints import Checkpoint, list_all

    if args.init_from is not None and start is None:
        origin = Checkpoint.find_named(args.init_from)
        meta = origin.read_meta()
        made_with = meta.settings.get("model_gin_config", args.model_gin_config)
        other = "" if made_with == args.model_gin_config else f" (made with --model_gin_config {shown_path(made_with)})"
        meta.identity.require(identity, f"{origin.folder}{other}")
    if start is None:
        if there := list_all(run_dir):
            raise ConfigError(
                f"{run_dir} already holds checkpoints ({_listed(there)}); "
                "go on with --resume auto, or choose another --run_name"
            )
        return
    meta = start.read_meta()
    meta.identity.require(identity, str(start.folder))
    if args.epochs <= start.epoch:
        raise ConfigError(f"--epochs {args.epochs} is not beyond --ckpt {start.epoch}; nothing is left to train")
    if not args.anew:
        resuming.require_resumable(start)
    later = run_folder.later_checkpoints(run_dir, meta.epoch, meta.updates)
    if later and not args.discard_later and args.resume is None:
        raise ConfigError(
            f"{run_dir} holds later checkpoints ({_listed(later)}), which going on from {args.ckpt} would overwrite; "
            "go on with --resume auto, move them aside with --discard_later, or choose another --run_name"
        )


def prepare_run_folder(run_dir: Path, start: "Checkpoint | None", settings: dict[str, Any], config: str) -> None:
    """Moves aside what is later than the checkpoint that training goes on after.

    Logs what was moved where, and how the settings differ from those that the checkpoint was trained with.
    """
    from gemma_metamon.runs import run_folder

    epoch = updates = -1
    if start is not None:
        meta = start.read_meta()
        epoch, updates = meta.epoch, meta.updates
        _warn_of_other_settings(meta, settings, config)
    moved = run_folder.move_later_aside(run_dir, epoch, updates, goes_elsewhere=bool(settings.get("discard_later")))
    if moved is not None:
        after = "its begin" if start is None else start.place
        logger.info("what came after %s of %s is in %s now", after, run_dir, moved)


def write_config(run_dir: Path, config: str) -> None:
    """Writes the run's config.gin, whole or not at all."""
    with written_whole(run_dir / "config.gin") as staged:
        staged.write_text(config, encoding="utf-8")


def _warn_of_other_settings(meta: "CheckpointMeta", settings: dict[str, Any], config: str) -> None:
    differences = [
        f"{name} was {meta.settings[name]!r} and is {settings[name]!r}"
        for name in COMPARED
        if name in meta.settings and meta.settings[name] != settings[name]
    ]
    before, now = _bindings(meta.config), _bindings(config)
    for name in (*now, *(name for name in before if name not in now)):
        if name not in before:
            differences.append(f"{name} is new: {now[name]}")
        elif name not in now:
            differences.append(f"{name} is gone: {before[name]}")
        elif before[name] != now[name]:
            differences.append(f"{name} was {before[name]} and is {now[name]}")
    if differences:
        logger.warning(
            "going on after epoch %d with other settings than it was trained with: %s%s",
            meta.epoch,
            "; ".join(differences[:5]),
            f"; and {len(differences) - 5} more, which checkpoint.json and RUN/config.gin tell apart"
            if len(differences) > 5
            else "",
        )


def _bindings(config: str) -> dict[str, str]:
    """What a resolved configuration binds, name -> value; of another line, or the rest of a value, the line -> ''."""
    lines = re.sub(r"\\\n\s*", "", config).splitlines()  # gin writes a long value into lines of its own
    parts = (line.partition(" = ") for line in lines if not line.startswith("#"))
    return {name.strip(): value for name, _, value in parts if name.strip()}


def _listed(checkpoints: "list[Checkpoint]") -> str:
    return ", ".join(str(one.epoch) if one.update is None else one.folder.name for one in checkpoints)
