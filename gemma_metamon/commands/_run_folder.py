"""Whether `train` may work in a run's folder: nothing is overwritten, and what a resumed run changes is said."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import ConfigError
from gemma_metamon.strict_json import shown_path

if TYPE_CHECKING:
    from gemma_metamon.runs.identity import CheckpointMeta, RunIdentity

logger = logging.getLogger(__name__)

COMPARED = (
    *("seed", "batch_size_per_gpu", "grad_accum", "steps_per_epoch", "processes", "formats", "parsed_replay_dir"),
    *("custom_replay_dir", "custom_replay_sample_weight", "holdout_share"),
)
"""Settings that decide what is learnt. A run may go on with others; it is then not the run it would have been."""


def check_run_folder(
    args: argparse.Namespace, run_dir: Path, identity: "RunIdentity", processes: int | None = None
) -> None:
    """Raises ConfigError, or another with the mend, where the run cannot begin or go on as the flags say.

    `processes` is how many train, once that is known.
    """
    from gemma_metamon.runs import resuming
    from gemma_metamon.runs.checkpoints import Checkpoint, list_checkpoints

    if args.init_from is not None:
        if args.ckpt is not None:
            raise ConfigError("--init_from begins a run and --ckpt goes on with one; give one of them")
        start = Checkpoint.find_named(args.init_from)
        meta = start.read_meta()
        made_with = meta.settings.get("model_gin_config", args.model_gin_config)
        other = "" if made_with == args.model_gin_config else f" (made with --model_gin_config {shown_path(made_with)})"
        meta.identity.require(identity, f"{start.folder}{other}")
    there = list_checkpoints(run_dir)
    if args.anew and args.ckpt is None:
        raise ConfigError("--anew is of a run that goes on; give it with --ckpt, or begin with --init_from")
    if args.ckpt is None:
        if there:
            raise ConfigError(
                f"{run_dir} already holds checkpoints ({_listed(there)}); "
                f"go on with --ckpt {there[-1]}, or choose another --run_name"
            )
        return
    checkpoint = Checkpoint.find(run_dir, args.ckpt)
    checkpoint.read_meta().identity.require(identity, str(checkpoint.folder))
    if args.epochs <= args.ckpt:
        raise ConfigError(f"--epochs {args.epochs} is not beyond --ckpt {args.ckpt}; nothing is left to train")
    if not args.anew:
        resuming.require_resumable(checkpoint)
    if processes is not None and not args.anew:
        resuming.require_processes(checkpoint, processes)
    later = [epoch for epoch in there if epoch > args.ckpt]
    if later and not args.discard_later:
        raise ConfigError(
            f"{run_dir} holds later checkpoints ({_listed(later)}), which going on from {args.ckpt} would overwrite; "
            f"go on with --ckpt {there[-1]}, move them aside with --discard_later, or choose another --run_name"
        )


def prepare_run_folder(args: argparse.Namespace, run_dir: Path, settings: dict[str, Any], config: str) -> None:
    """Moves aside what is later than the checkpoint that training goes on after, and writes config.gin.

    Logs what was moved where, and how the settings differ from those that the checkpoint was trained with.
    """
    from gemma_metamon.runs import run_folder
    from gemma_metamon.runs.checkpoints import Checkpoint

    epoch = updates = -1
    if args.ckpt is not None:
        meta = Checkpoint.find(run_dir, args.ckpt).read_meta()
        epoch, updates = meta.epoch, meta.updates
        _warn_of_other_settings(meta, settings, config)
    moved = run_folder.move_later_aside(run_dir, epoch, updates)
    if moved is not None:
        logger.info("what came after epoch %d of %s is in %s now", max(epoch, 0), run_dir, moved)
    with written_whole(run_dir / "config.gin") as staged:
        staged.write_text(config, encoding="utf-8")


def _warn_of_other_settings(meta: "CheckpointMeta", settings: dict[str, Any], config: str) -> None:
    differences = [
        f"{name} was {meta.settings[name]!r} and is {settings[name]!r}"
        for name in COMPARED
        if name in meta.settings and meta.settings[name] != settings[name]
    ]
    before, now = meta.config.splitlines(), config.splitlines()
    differences += [f"{line!r} is new" for line in now if line not in before]
    differences += [f"{line!r} is gone" for line in before if line not in now]
    if differences:
        logger.warning(
            "going on after epoch %d with other settings than it was trained with: %s%s",
            meta.epoch,
            "; ".join(differences[:5]),
            f"; and {len(differences) - 5} more" if len(differences) > 5 else "",
        )


def _listed(epochs: list[int]) -> str:
    return ", ".join(map(str, epochs))
