"""Players as they are named on the command line: a scripted player's class, or a run folder with or without an epoch.

Here and not in showdown/, which knows no checkpoints.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gemma_metamon.errors import ConfigError

if TYPE_CHECKING:
    from gemma_metamon.showdown.contestants import Contestant
    from gemma_metamon.showdown.players import Observer

logger = logging.getLogger(__name__)


def contestants(
    specs: Sequence[str],
    *,
    device: str | None,
    sample: bool,
    temperature: float,
    max_battles: int,
    seed: int,
    observer: "Observer | None" = None,
    dtype: str = "float32",
) -> "list[Contestant]":
    """One contestant for each spec, in their order. All names and folders are looked at before the first is loaded.

    Args:
        specs: "SimpleHeuristicsPlayer", "runs/first" (its last checkpoint), "runs/first@3" (that of epoch 3).
        device: of the checkpoints; None is CUDA where there is some, else the CPU.
        sample: whether checkpoints draw their actions.
        temperature: of the draws.
        max_battles: the most battles that one checkpoint has in play at a time, those just ending included.
        seed: of the draws.
        observer: is told of the checkpoints' decisions.
        dtype: of the checkpoints' largest weights, see `prepare_to_act`.

    Raises:
        ConfigError: a name that is neither a scripted player nor a folder.
        MissingFileError: a folder without checkpoints, or without that one.
        DataError, CheckpointMismatchError: a checkpoint that cannot be used.
    """
    from gemma_metamon.nets.acting import prepare_to_act
    from gemma_metamon.nets.tstep_encoder import GemmaTstepEncoder
    from gemma_metamon.showdown.contestants import learned, scripted
    from gemma_metamon.showdown.players import BatchedPolicy
    from gemma_metamon.training import checkpoints

    folders = checkpoint_folders(specs)
    labels = {
        folder: f"{folder.parent.parent.resolve().name}@{folder.name.removeprefix('epoch_')}"
        for folder in folders.values()
    }
    found: dict[Path | str, Contestant] = {}
    for spec in specs:
        folder = folders.get(spec)
        if folder is None:
            found.setdefault(spec, scripted(spec))
        elif folder not in found:
            agent, meta = checkpoints.load_agent(folder, device)
            prepare_to_act(agent, dtype)
            encoder = cast("Any", agent).tstep_encoder
            if isinstance(encoder, GemmaTstepEncoder):
                logger.info("%s", encoder.describe())
            shared = list(labels.values()).count(labels[folder]) > 1  # runs of one name in two folders
            name = f"{folder.parent.parent}@{meta.epoch}" if shared else labels[folder]
            policy = BatchedPolicy(
                agent, meta.view(), max_battles=max_battles, sample=sample, temperature=temperature, seed=seed
            )
            found[folder] = learned(name, policy, observer)
    return [found[folders.get(spec, spec)] for spec in specs]


def checkpoint_folders(specs: Sequence[str]) -> dict[str, Path]:
    """For those of the specs that are checkpoints, their folders. Raises ConfigError or MissingFileError as above."""
    from gemma_metamon.showdown.baselines import PLAYERS

    return {spec: _checkpoint_folder(spec) for spec in specs if spec not in PLAYERS}


def _checkpoint_folder(spec: str) -> Path:
    from gemma_metamon.showdown.baselines import player_class
    from gemma_metamon.training.checkpoints import find_named

    if not Path(spec).is_dir() and "/" not in spec and "@" not in spec:
        try:
            player_class(spec)
        except ConfigError as error:
            raise ConfigError(f"{error}; nor is {spec!r} the folder of a run") from None
    return find_named(spec)
