"""Which checkpoints of a run stay: all epochs', unless --keep_last says how many; and what `last` and `best` name.

    <save_dir>/<run_name>/ckpts/last    a line with the name of the newest checkpoint's folder, which is whole
    <save_dir>/<run_name>/ckpts/best    the same of the epoch's that was best by the metric of --keep_best

Of a run that is mirrored to an object store, `.in_store` describes the checkpoints that the store alone has (see
`object_stores.mirrors`): they are counted, and one whose description is removed is removed there.

What either names is there: both are written before a checkpoint goes, and `best` is removed with the one that it named.
A checkpoint that was saved between two epochs goes as soon as an epoch's is newer.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gemma_metamon.atomic_files import remove_whole, written_whole
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.object_stores.checkpoints import IN_STORE
from gemma_metamon.runs.checkpoints import CHECKPOINTS, Checkpoint, list_all
from gemma_metamon.strict_json import shown

LAST, BEST = "last", "best"
HELD_OUT: Final = "held_out/"
METRICS: Final = (
    "agreement", "value_auc_turn_1", "value_auc_1_4", "value_auc_1_2", "value_auc_3_4", "critic_agreement",
    "critic_agreement_sigmas", "advantage_correlation", "advantage_correlation_sigmas",
)  # fmt: skip
"""Of what is measured on held-out battles, that of which more is better."""


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Which checkpoints stay. Raises ConfigError for a metric that says not which of two checkpoints is better.

    Args:
        last: so many of the newest epochs' checkpoints, and of those that were saved since the last epoch. None keeps
            all epochs' and the newest other one.
        best: the metric by which the best epoch's checkpoint stays, too; with or without "held_out/". None for none.
        always: epochs whose checkpoints stay, for the run itself reads them again.
    """

    last: int | None = None
    best: str | None = None
    always: frozenset[int] = frozenset({0})

    def __post_init__(self) -> None:
        if self.best is not None and self.best.removeprefix(HELD_OUT) not in METRICS:
            raise ConfigError(f"--keep_best {shown(self.best)} is none of {', '.join(METRICS)}")

    @property
    def needs_critics(self) -> bool:
        """Whether the metric is one of critics."""
        return self.best is not None and self.best.removeprefix(HELD_OUT) != "agreement"

    def most(self, epochs: int, *, between: bool) -> int:
        """How many checkpoints are on the disk at once, at most: a new one is written before an old one goes.

        Args:
            epochs: of the run.
            between: whether it is saved between epochs as well.
        """
        if self.last is None:
            return epochs + 1 + 2 * between
        kept = min(epochs + 1, self.last + len(self.always) + (self.best is not None))
        return kept + between * self.last + 1


def keep(run_dir: Path, keeping: Keeping, in_use: Collection[int] = ()) -> None:
    """Writes `last` and `best`, and then removes what need not stay. Raises OSError where it cannot.

    Args:
        run_dir: of a run that has a checkpoint.
        keeping: which stay.
        in_use: epochs whose checkpoints somebody reads, or is about to.
    """
    there = list_known(run_dir)
    _name(run_dir / CHECKPOINTS / LAST, there[-1])
    best = None if keeping.best is None else _best(there, HELD_OUT + keeping.best.removeprefix(HELD_OUT))
    if best is not None:
        _name(run_dir / CHECKPOINTS / BEST, best)
    epochs = [checkpoint for checkpoint in there if checkpoint.update is None]
    between = [checkpoint for checkpoint in there if checkpoint.update is not None]
    since = [checkpoint for checkpoint in between if not epochs or checkpoint.epoch >= epochs[-1].epoch]
    stays = {*(epochs if keeping.last is None else epochs[-keeping.last :]), *since[-(keeping.last or 1) :]}
    spared = {*keeping.always, *in_use} | (set() if best is None else {best.epoch})
    goes = [one for one in there if one not in stays and (one.update is not None or one.epoch not in spared)]
    _forget_best(run_dir, goes)
    for checkpoint in goes:
        remove_whole(checkpoint.folder)


def list_known(run_dir: Path) -> list[Checkpoint]:
    """The whole checkpoints of a run, in order, with those that only the store has that it is mirrored to.

    Of those nothing can be read but their description, `read_meta`.
    """
    here = list_all(run_dir)
    names = {checkpoint.folder.name for checkpoint in here}
    there = [one for one in list_all(run_dir / IN_STORE) if one.folder.name not in names]
    return sorted([*here, *there], key=lambda one: (one.epoch, one.update or 0))


def name_without(run_dir: Path, going: Collection[Checkpoint]) -> None:
    """Before checkpoints are taken away: `last` names the newest of the others, and `best` none of them.

    Args:
        run_dir: of the run.
        going: what is about to be taken away.

    Raises OSError where it cannot be written.
    """
    stays = [checkpoint for checkpoint in list_known(run_dir) if checkpoint not in going]
    if stays:
        _name(run_dir / CHECKPOINTS / LAST, stays[-1])
    else:
        (run_dir / CHECKPOINTS / LAST).unlink(missing_ok=True)
    _forget_best(run_dir, going)


def _forget_best(run_dir: Path, going: Collection[Checkpoint]) -> None:
    """Removes a `best` that names one of these: one of another start's --keep_best."""
    path = run_dir / CHECKPOINTS / BEST
    if path.is_file() and path.read_text(encoding="utf-8").strip() in {one.folder.name for one in going}:
        path.unlink()


def _best(there: Collection[Checkpoint], metric: str) -> Checkpoint | None:
    """The earliest of the best; None where it was measured of none."""
    values: dict[Checkpoint, float] = {}
    for checkpoint in there:
        if checkpoint.update is None:
            try:
                measured = checkpoint.read_meta().measured
            except DataError:  # damaged: whoever wants to use it is told so
                continue
            if metric in measured:
                values[checkpoint] = measured[metric]
    return max(values, key=lambda checkpoint: (values[checkpoint], -checkpoint.epoch), default=None)


def _name(path: Path, checkpoint: Checkpoint) -> None:
    named = f"{checkpoint.folder.name}\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != named:
        with written_whole(path) as staged:
            staged.write_text(named, encoding="utf-8")
