"""Chat data of recorded battles, a file of any length in bounded memory, that goes on where it was stopped.

First every battle becomes rows, in parts of some dozen battles beside the file that is to be made; each part is
written whole and then recorded, by several processes at a time. When all parts are there, what depends on all rows is
settled by three numbers of each: which are duplicates, and which are drawn for a subset. Then the parts are joined to
the file, and removed.
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from gemma_metamon.atomic_files import append_whole, written_whole
from gemma_metamon.battle.replays import load_battle, read_battle
from gemma_metamon.child_processes import in_workers
from gemma_metamon.data.battle_sources import BattleSource, ShardTask
from gemma_metamon.data.encoding import SetAside, hold_out_rank, require_format
from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError
from gemma_metamon.language.data.choosing import Chooser
from gemma_metamon.language.data.filters import Counts
from gemma_metamon.language.data.row_files import JSON_LINES, RowWriter, row_writer
from gemma_metamon.language.data.rows import Shape
from gemma_metamon.progress import progress_bar
from gemma_metamon.strict_json import Count, parse_json_object, read_dataclass, read_json_object

logger = logging.getLogger(__name__)

PART_BATTLES: Final = 64
_PLAN, _RECORDS, _LOCK = "plan.json", "parts.jsonl", ".lock"


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where rows go, and in what shape.

    Attributes:
        path: of the rows to train on; its suffix says how they are written: .jsonl, .arrow or .parquet.
        shape: "messages", or "gemini" for Vertex, which takes .jsonl alone.
        val_share: the share of battles whose rows go to `validation_path` instead, both players' views of each.
        subset: at most so many rows in all, drawn by the seed; None takes all.

    Raises:
        ConfigError: a suffix that says no format, or one that the shape is not written in.
    """

    path: Path
    shape: Shape = "messages"
    val_share: float = 0.0
    subset: int | None = None

    def __post_init__(self) -> None:
        if self.path.suffix not in (JSON_LINES, ".arrow", ".parquet"):
            raise ConfigError(f"--out {self.path} ends in no .jsonl, .arrow or .parquet; name the file so")
        if self.shape == "gemini" and self.path.suffix != JSON_LINES:
            raise ConfigError(
                f"--to gemini is a shape of JSON lines, as Vertex takes it; name --out {self.path.stem}.jsonl"
            )

    @property
    def validation_path(self) -> Path:
        """x.validation.jsonl beside x.jsonl."""
        return self.path.with_name(f"{self.path.stem}.validation{self.path.suffix}")

    @property
    def work(self) -> Path:
        """The folder of what is not finished."""
        return self.path.with_name(f"{self.path.name}.parts")

    def writer(self, path: Path) -> AbstractContextManager[RowWriter]:
        """Takes the rows of one of the two files, which is there when the block is done."""
        return row_writer(path, self.shape)


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """A line of parts.jsonl: a part that is finished.

    Attributes:
        part: its file, within the folder.
        rows: how many it has.
        battles, decisions, labelled, left_out: see `Counts`.
        set_aside: battle files that could not be used, each with the reason.
    """

    part: str
    rows: Count
    battles: Count
    decisions: Count
    labelled: Count
    left_out: dict[str, Count]
    set_aside: dict[str, str]


@dataclass
class Exported:
    """What came of it.

    Attributes:
        counts: what was read and left out.
        train: rows to train on.
        validation: rows of battles that are held out; with none there is no file of them.
        done_before: battle files that had been read before the work was stopped.
        set_aside: battle files that could not be used.
    """

    counts: Counts = field(default_factory=Counts)
    train: int = 0
    validation: int = 0
    done_before: int = 0
    set_aside: int = 0


def export(
    sources: Mapping[str, BattleSource],
    chooser: Chooser,
    output: Output,
    settings: Mapping[str, Any],
    set_aside: SetAside,
    *,
    workers: int = 1,
) -> Exported:
    """Writes the rows of all battles of the sources.

    Args:
        sources: by format.
        chooser: makes the rows.
        output: where they go.
        settings: all that the rows depend on, as JSON has it; what was begun with others is refused.
        set_aside: collects the battle files that cannot be used, and stops the work when they are too many.
        workers: processes that make rows; the file is the same for any number. Where the chooser asks agents, this
            process makes them alone.

    Raises:
        ConfigError: the file is there already, or was begun with other settings or battles.
        DataError: too many battle files cannot be used.
        GemmaMetamonError: another process writes the same file, or a worker was killed.
    """
    if output.path.exists():
        raise ConfigError(f"--out {output.path} is there already; remove it, or name another file")
    output.work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output.work / _LOCK, timeout=0):
            plans = {name: source.plan(PART_BATTLES) for name, source in sources.items()}
            _keep_plan(
                output.work / _PLAN, {"settings": dict(settings), "formats": {k: asdict(p) for k, p in plans.items()}}
            )
            records, done_before = _make_parts(
                sources, plans, chooser, output.work, set_aside, 1 if chooser.asks_agents else workers
            )
            exported = _join(records, output, keep_duplicates=chooser.filters.keep_duplicates)
            exported.done_before, exported.set_aside = done_before, len(set_aside.reasons)
    except Timeout as error:
        raise GemmaMetamonError(
            f"another process is writing {output.path}; wait for it, or name another --out"
        ) from error
    except BrokenProcessPool as error:
        raise GemmaMetamonError(
            "a worker was killed, perhaps for want of memory; run the same command with fewer --workers: what is done "
            "is kept"
        ) from error
    shutil.rmtree(output.work)
    return exported


def _keep_plan(path: Path, plan: Mapping[str, Any]) -> None:
    """Raises ConfigError where the work was begun by another plan."""
    text = json.dumps(plan, indent=1)
    if path.is_file():
        begun = read_json_object(path)
        if begun != json.loads(text):
            other = sorted(
                name
                for kind in ("settings", "formats")
                for name in {**begun.get(kind, {}), **plan[kind]}
                if begun.get(kind, {}).get(name) != json.loads(text)[kind].get(name)
            )
            raise ConfigError(
                f"{path.parent} was begun with other flags or battles ({', '.join(other)} differ); give the same to go "
                "on, or remove the folder to begin anew"
            )
        return
    with written_whole(path) as staged:
        staged.write_text(text, encoding="utf-8")


def _make_parts(
    sources: Mapping[str, BattleSource],
    plans: Mapping[str, Any],
    chooser: Chooser,
    work: Path,
    set_aside: SetAside,
    workers: int,
) -> tuple[list[PartRecord], int]:
    """The records of all parts in order, and how many battles there were already."""
    done = {record.part: record for record in _read_records(work) if (work / record.part).is_file()}
    parts = {
        name: [f"{name}/{i:05d}{JSON_LINES}" for i in range(-(-plan.battles // PART_BATTLES))]
        for name, plan in plans.items()
    }
    done_before = sum(record.battles + len(record.set_aside) for record in done.values())
    for record in done.values():
        _set_aside(record, set_aside, work)
    with progress_bar(
        desc="exporting",
        unit="battle",
        total=sum(plan.battles for plan in plans.values()),
        initial=done_before,
        smoothing=0.05,  # it moves by whole parts
    ) as bar:
        before = set(done)
        tasks = (
            (name, task)
            for name, source in sources.items()
            for task in source.tasks(work, parts[name], PART_BATTLES, before)
        )
        missing = sum(part not in before for listed in parts.values() for part in listed)
        for record in in_workers(partial(_make_part, chooser=chooser), tasks, max(1, min(workers, missing))):
            append_whole(work / _RECORDS, json.dumps(asdict(record)) + "\n")
            done[record.part] = record
            _set_aside(record, set_aside, work)
            bar.update(record.battles + len(record.set_aside))
    set_aside.check(complete=True)
    return [done[part] for listed in parts.values() for part in listed], done_before


def _set_aside(record: PartRecord, set_aside: SetAside, work: Path) -> None:
    set_aside.met += record.battles + len(record.set_aside)
    for name, reason in record.set_aside.items():
        set_aside.add(work / record.part.partition("/")[0] / name, reason)
    set_aside.check()


def _read_records(work: Path) -> list[PartRecord]:
    path = work / _RECORDS
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [read_dataclass(PartRecord, parse_json_object(line)) for line in lines]


def _make_part(named: tuple[str, ShardTask], chooser: Chooser) -> PartRecord:
    """Writes the rows of a format's battles of one task, each after its split's rank, its mark and its draw."""
    battle_format, task = named
    counts, rows, damaged = Counts(), 0, {}
    with written_whole(task.root / task.shard, durable=False) as staged, staged.open("w", encoding="utf-8") as file:
        for i, name in enumerate(task.names):
            content = task.contents[i] if task.contents is not None else None
            try:
                if isinstance(content, str):
                    raise DataError(content)
                battle = load_battle(task.where / name) if content is None else read_battle(name, content)
                require_format(battle, name, battle_format)
                candidates = chooser.rows(battle, name, counts)
            except (DataError, OSError) as error:
                damaged[name] = str(error) if name in str(error) else f"{name}: {error}"
                continue
            split = hold_out_rank(name)
            for candidate in candidates:
                file.write(f"{split!r} {candidate.mark} {candidate.rank} {candidate.text}\n")
            rows += len(candidates)
    left_out = dict(counts.left_out)
    return PartRecord(
        part=task.shard,
        rows=rows,
        battles=counts.battles,
        decisions=counts.decisions,
        labelled=counts.labelled,
        left_out=left_out,
        set_aside=damaged,
    )


def _join(records: list[PartRecord], output: Output, *, keep_duplicates: bool) -> Exported:
    """Joins the parts to the file, or the two files, without duplicates and down to the subset."""
    exported = Exported()
    for record in records:
        exported.counts.add(
            Counts(record.battles, record.decisions, record.labelled, left_out=Counter(record.left_out))
        )
    n_rows = sum(record.rows for record in records)
    marks, ranks = np.zeros(n_rows, np.uint64), np.zeros(n_rows, np.uint64)
    held_out = np.zeros(n_rows, dtype=bool)
    for i, (split, mark, rank, _) in enumerate(_lines(records, output.work)):
        marks[i], ranks[i], held_out[i] = int(mark), int(rank), float(split) < output.val_share
    keep = np.ones(n_rows, dtype=bool)
    if not keep_duplicates:
        keep[:] = False
        keep[np.unique(marks, return_index=True)[1]] = True
        exported.counts.left_out["duplicate"] += n_rows - int(keep.sum())
    if output.subset is not None and keep.sum() > output.subset:
        exported.counts.left_out["subset"] += int(keep.sum()) - output.subset
        kept = np.flatnonzero(keep)
        keep[:] = False
        keep[kept[np.argsort(ranks[kept], kind="stable")[: output.subset]]] = True
    if not keep.any():
        shutil.rmtree(output.work)
        reasons = ", ".join(f"{count} {reason}" for reason, count in exported.counts.left_out.most_common(4))
        raise DataError(
            f"none of {exported.counts.decisions} decisions is left ({reasons or 'no battle could be read'}); "
            "loosen the filters"
        )
    texts = (text for _, _, _, text in _lines(records, output.work))
    exported.train, exported.validation = _write(output, texts, keep, held_out)
    return exported


def _write(
    output: Output, texts: Iterable[str], keep: NDArray[np.bool_], held_out: NDArray[np.bool_]
) -> tuple[int, int]:
    """Writes the rows that are kept, (N,) flags, to the one or two files; returns how many went to each."""
    with ExitStack() as files:  # the last one opened is there first: where `path` is there, all is done
        train = files.enter_context(output.writer(output.path))
        validation = train
        if (keep & held_out).any():
            validation = files.enter_context(output.writer(output.validation_path))
        for kept, is_held_out, text in zip(keep, held_out, texts, strict=True):
            if kept:
                (validation if is_held_out else train).write(text)
    if validation is not train:
        return train.rows, validation.rows
    if output.val_share:
        output.validation_path.unlink(missing_ok=True)  # of an export before this one
        logger.warning(
            "no row is of a battle that --val_share %g holds out (by a hash of its id), so there is no %s; raise it, "
            "or export more battles",
            *(output.val_share, output.validation_path.name),
        )
    return train.rows, 0


def _lines(records: list[PartRecord], work: Path) -> Iterator[list[str]]:
    """Of all parts: what decides the split, mark, draw and text of each row."""
    for record in records:
        with (work / record.part).open(encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n").split(" ", 3)
