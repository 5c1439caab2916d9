"""Makes a prepared store of battle files, shard by shard, in several processes.

A shard is written whole, and then recorded in shards.jsonl. So after any interruption the same command goes on: it
leaves alone what is recorded and still there, and makes the rest.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from filelock import FileLock, Timeout

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.battle.replays import read_battle, read_battle_file
from gemma_metamon.child_processes import in_workers
from gemma_metamon.data.battle_sources import BattleSource, ShardTask, find_sources
from gemma_metamon.data.encoding import EncodedBattle, SetAside, encode_battle, encode_recorded, require_format
from gemma_metamon.data.shards import Shard, ShardForm, ShardRecord, size_complaint, write_shard
from gemma_metamon.data.store_files import (
    SHARDS,
    STORE,
    WORDS,
    FormatPlan,
    is_store,
    read_plan,
    read_records,
    write_plan,
    write_records,
)
from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError
from gemma_metamon.progress import progress_bar
from gemma_metamon.view import BattleView

LOCK = ".lock"
SHARD_BATTLES = 512
"""Battles in a shard, if nothing else is asked for."""


Task = TypeVar("Task")
Done = TypeVar("Done")
Made = tuple[ShardRecord, dict[Path, str]]
"""The record of a shard, and the battle files that could not be used, each with the reason."""


class InWorkers(Protocol):
    """What carries out tasks on other machines, where nothing of this one's disk is (cluster/tasks.py)."""

    def __call__(self, work: Callable[[Task], Done], tasks: Iterator[Task]) -> Iterator[Done]:
        """What comes of each task, as they are done."""


@dataclass
class Prepared:
    """What a store has of the formats that were asked for.

    Attributes:
        battles: of all shards.
        done_before: of the shards that were finished when the work began.
        timesteps: decisions of all battles together.
        shards: how many.
        size_bytes: of all shards.
        unknown_words: words that the vocabulary does not have, and how often each occurred.
    """

    battles: int = 0
    done_before: int = 0
    timesteps: int = 0
    shards: int = 0
    size_bytes: int = 0
    unknown_words: Counter[str] = field(default_factory=Counter)

    def add(self, record: ShardRecord, *, done_before: bool) -> None:
        """Counts a finished shard."""
        self.battles += record.battles
        self.done_before += record.battles if done_before else 0
        self.timesteps += record.timesteps
        self.shards += 1
        self.size_bytes += record.size_bytes
        self.unknown_words.update(record.unknown_words)


def prepare(
    source: Path,
    formats: Sequence[str],
    view: BattleView,
    root: Path,
    *,
    set_aside: SetAside,
    workers: int = 1,
    shard_battles: int = SHARD_BATTLES,
    progress: bool = False,
    elsewhere: InWorkers | None = None,
) -> Prepared:
    """Encodes the battles of `source` into the store `root`. Shards that are finished are left alone.

    Args:
        source: a folder of battle files, `source/<format>/*`, or of archives, `source/<format>.tar.gz`; or an archive.
        formats: the formats to prepare; the store may have others, too.
        view: what the agent is shown; one that differs from the store's is refused.
        root: the store's folder: a store, finished or not, or a folder that is new or empty.
        set_aside: collects the battle files that cannot be used, and stops the work when they are too many.
        workers: how many processes encode; with 1 this process does.
        shard_battles: how many battles go into a shard, for formats that the store does not have yet.
        progress: shows a progress bar.
        elsewhere: encodes on other machines, to which the battle files go from here, and from which the shards come;
            None encodes on this one.

    Returns:
        What the store now has of these formats.

    Raises:
        MissingFileError: there is no such folder, or a format has no battles.
        ConfigError: the store was prepared for something else, or `root` is a folder with other files.
        DataError: too many battle files cannot be used, or an archive is damaged (then none of its battles is used).
        GemmaMetamonError: another process prepares the same store, a worker was killed, or the disk is full.
    """
    sources = find_sources(source, formats, progress=progress)
    try:
        _require_free(root)
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / LOCK, timeout=0):
            plans = _plan(root, view, sources, shard_battles)
            make = partial(_in_processes, workers=workers) if elsewhere is None else partial(_elsewhere, elsewhere)
            return _make_shards(sources, plans, view, root, set_aside, make, progress=progress)
    except Timeout as error:
        raise GemmaMetamonError(f"another process is preparing {root}; wait for it, or choose another --out") from error
    except BrokenProcessPool as error:
        raise GemmaMetamonError(
            "a worker was killed, perhaps for want of memory; run the same command with fewer --workers: "
            "finished shards are kept"
        ) from error
    except OSError as error:
        if isinstance(error, GemmaMetamonError):
            raise
        raise GemmaMetamonError(
            f"{root} cannot be written ({error}); make room or choose another --out, then run the command again: "
            "finished shards are kept"
        ) from error


def _require_free(root: Path) -> None:
    """Raises ConfigError unless the folder is new, empty, a store, or left by work that was stopped at once."""
    begun = {LOCK, WORDS, *(f".{name}.part" for name in (WORDS, STORE))}
    strange = root.is_dir() and not is_store(root) and any(path.name not in begun for path in root.iterdir())
    if root.is_file() or strange:
        raise ConfigError(f"{root} is neither empty nor a prepared store; give --out a new folder")


def _make_shards(
    sources: Mapping[str, BattleSource],
    plans: Mapping[str, FormatPlan],
    view: BattleView,
    root: Path,
    set_aside: SetAside,
    make: Callable[[Iterator[ShardTask], BattleView], Iterator[Made]],
    *,
    progress: bool,
) -> Prepared:
    done = _keep_whole_shards(root)
    result = Prepared()

    def count(record: ShardRecord, damage: dict[Path, str], *, done_before: bool = False) -> None:
        result.add(record, done_before=done_before)
        set_aside.met += record.battles
        for path, reason in damage.items():
            set_aside.add(path, reason)
        set_aside.check()

    def tasks() -> Iterator[ShardTask]:
        for name, plan in plans.items():
            yield from sources[name].tasks(root, plan.shards(name), plan.shard_battles, done)

    for name, plan in plans.items():
        for shard in plan.shards(name):
            if shard in done:
                damage = _damage_of(root, sources[name].where, done[shard], view)
                count(done[shard], damage, done_before=True)
    with (
        (root / SHARDS).open("a", encoding="utf-8") as records,
        progress_bar(
            desc="preparing",
            unit="battle",
            total=sum(plan.battles for plan in plans.values()),
            initial=result.done_before,
            smoothing=0.05,  # it moves by whole shards
            disable=not progress,
        ) as bar,
    ):
        for record, damage in make(tasks(), view):
            records.write(json.dumps(asdict(record)) + "\n")
            records.flush()
            count(record, damage)
            bar.update(record.battles)
    set_aside.check(complete=True)
    return result


def _in_processes(tasks: Iterator[ShardTask], view: BattleView, workers: int) -> Iterator[Made]:
    return in_workers(partial(make_shard, view=view), tasks, workers)  # an archive's tasks hold its battles


def _elsewhere(run: InWorkers, tasks: Iterator[ShardTask], view: BattleView) -> Iterator[Made]:
    for task, made, content in run(partial(_make_shard_elsewhere, view=view), map(_with_contents, tasks)):
        with written_whole(task.root / task.shard) as staged:
            staged.write_bytes(content)
        yield made


def _with_contents(task: ShardTask) -> ShardTask:
    """The task with its battle files read, or the reasons why they cannot be."""

    def content(name: str) -> bytes | str:
        try:
            return read_battle_file(task.where / name)
        except (DataError, OSError) as error:
            return str(error)

    return task if task.contents is not None else replace(task, contents=[content(name) for name in task.names])


def _make_shard_elsewhere(task: ShardTask, view: BattleView) -> tuple[ShardTask, Made, bytes]:
    """The task without its contents, what `make_shard` says, and the shard."""
    with tempfile.TemporaryDirectory(prefix="gemma-metamon-") as folder:
        made = make_shard(replace(task, root=Path(folder)), view)
        return replace(task, contents=None), made, (Path(folder) / task.shard).read_bytes()


def _plan(
    root: Path, view: BattleView, sources: Mapping[str, BattleSource], shard_battles: int
) -> dict[str, FormatPlan]:
    """Adds the formats to store.json where it does not have them. Returns how these formats are divided into shards."""
    plans: dict[str, FormatPlan] = {}
    if is_store(root):
        identity, plans = read_plan(root)
        identity.require(view, root)
    for name, source in sources.items():
        there = plans.get(name)
        plan = source.plan(shard_battles if there is None else there.shard_battles)
        if there is not None and there != plan:
            raise ConfigError(
                f"{root} was begun with {there.battles} battle files of {name}, and now there are {plan.battles} "
                "or others; put back what there was, or prepare another store"
            )
        plans[name] = plan
    write_plan(root, view, plans)
    return {name: plans[name] for name in sources}


def _keep_whole_shards(root: Path) -> dict[str, ShardRecord]:
    """The records of the shards whose files are still there, with their size. Drops the other records."""
    records = {name: record for name, record in read_records(root).items() if size_complaint(root, record) is None}
    write_records(root, records.values())
    return records


def _damage_of(root: Path, where: Path, record: ShardRecord, view: BattleView) -> dict[Path, str]:
    if not record.damaged:
        return {}
    shard = Shard(root / record.shard, ShardForm.of(view), record.battles)
    rows = zip(shard.names.to_pylist(), shard.damage.to_pylist(), strict=True)
    return {where / name: reason for name, reason in rows if reason is not None}


def _encode_member(name: str, content: bytes, battle_format: str, view: BattleView) -> EncodedBattle:
    """A battle of an archive of that format."""
    battle = read_battle(name, content)
    require_format(battle, name, battle_format)
    return encode_recorded(battle, view)


def make_shard(task: ShardTask, view: BattleView) -> Made:
    """Encodes the battles of a task and writes their shard.

    Returns:
        The shard's record, and the battle files that could not be used, each with the reason.
    """
    view.vocabulary.unknown_counts.clear()
    battles: list[EncodedBattle | str] = []
    for i, name in enumerate(task.names):
        content = task.contents[i] if task.contents is not None else None
        try:
            if isinstance(content, str):
                raise DataError(content)
            battles.append(
                encode_battle(task.where / name, view)
                if content is None
                else _encode_member(name, content, Path(task.shard).parent.name, view)
            )
        except (DataError, OSError) as error:
            battles.append(str(error))
    record = write_shard(task.root, task.shard, task.names, battles, view)
    damage = {
        task.where / name: battle for name, battle in zip(task.names, battles, strict=True) if isinstance(battle, str)
    }
    return record, damage
