"""Steps that are carried out one after the other, each once, whenever and however often the work was stopped.

Which steps are finished stands in a file that is written whole before the first and after each of them, beside the
settings they belong to. One process at a time works in a folder: what a killed one has left running is waited for.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.child_processes import end_with_parent, signals_afterwards
from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError, TerminatedError
from gemma_metamon.strict_json import read_dataclass, read_json_object

Main: TypeAlias = Callable[[Sequence[str]], int]

STOP_TIMEOUT_S = 10.0
ORPHAN_TIMEOUT_S = 60.0
LOCK, STEP_LOCK = ".lock", ".step.lock"  # held by who carries out the steps, and by the process of the step at work


@dataclass(frozen=True)
class Step:
    """A step of a round, by its name."""

    round: int
    name: str

    def __str__(self) -> str:
        return f"round {self.round}: {self.name}"


@dataclass(frozen=True, kw_only=True)
class _Finished:
    round: int
    step: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _JournalFile:
    settings: dict[str, Any]
    finished: list[_Finished]


class Journal:
    """The finished steps of some work, with the seconds that each took.

    Args:
        path: the file; made before the first step, read where it is there.
        settings: flag -> value, what the steps depend on; anything that JSON holds. A flag that the file does not have
            was added after it was begun, and may have any value.

    Raises:
        ConfigError: the file was begun with other settings; names the first of them, and both values.
        DataError: the file is not one of these.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = dict(settings)
        self.seconds: dict[Step, float] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        try:
            content = read_dataclass(_JournalFile, read_json_object(self.path))
        except DataError as error:
            raise DataError(f"{self.path} is damaged ({error}); begin again in another folder") from error
        self.seconds = {Step(entry.round, entry.step): entry.seconds for entry in content.finished}
        begun_with = content.settings
        for flag, value in self.settings.items():
            if flag in begun_with and begun_with[flag] != value:  # else an older version began it, without this flag
                raise ConfigError(
                    f"{self.path.parent} was begun with --{flag} {_shown(begun_with[flag])}, and now it is "
                    f"{_shown(value)}; give the same again, or another folder"
                )

    def begin(self) -> None:
        """Makes the file, if need be: a stopped first step must not be gone on with under other settings."""
        if not self.path.exists():
            self._write()

    def finish(self, step: Step, seconds: float) -> None:
        """Writes down that a step is done, and how long it took."""
        self.seconds[step] = seconds
        self._write()

    def _write(self) -> None:
        finished = [
            _Finished(round=step.round, step=step.name, seconds=round(taken, 1)) for step, taken in self.seconds.items()
        ]
        content = _JournalFile(settings=self.settings, finished=finished)
        with written_whole(self.path) as staged:
            staged.write_text(json.dumps(asdict(content), indent=1), encoding="utf-8")


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def carry_out(steps: Iterable[Step], journal: Journal, work: Callable[[Step], None]) -> None:
    """Does `work` for each step that is not finished, in order. A step that was stopped is worked on again."""
    journal.begin()
    for step in steps:
        if step not in journal.seconds:
            started = time.monotonic()
            work(step)
            journal.finish(step, time.monotonic() - started)


@contextmanager
def only_worker(folder: Path) -> Iterator[None]:
    """For the length of the block nobody else works in this folder, which must exist.

    Waits for the step of a killed process, which ends by itself but may take its time. Raises GemmaMetamonError where
    another process works there.
    """
    from filelock import FileLock, Timeout

    busy = f"another process works in {folder}; wait for it, or choose another --out"
    lock, step_lock = FileLock(folder / LOCK, timeout=0), FileLock(folder / STEP_LOCK, timeout=ORPHAN_TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout as error:
        raise GemmaMetamonError(busy) from error
    try:
        try:
            with step_lock:
                pass
        except Timeout as error:
            raise GemmaMetamonError(busy) from error
        yield
    finally:
        lock.release()


def run_command(main: Main, arguments: Sequence[str], step: Step, folder: Path) -> None:
    """`gemma-metamon ARGUMENTS` in a process of its own, which ends with this one. Its results are shown on stderr.

    Raises GemmaMetamonError where it fails.

    Args:
        main: the command line as a function that another process can import; returns the exit status.
        arguments: of the command line.
        step: which step this is.
        folder: that the step works in, and this process alone (see `only_worker`).
    """
    import multiprocessing

    sys.stderr.write(f"\n{step}\n$ gemma-metamon {' '.join(arguments)}\n")
    sys.stderr.flush()
    process = multiprocessing.get_context("spawn").Process(
        target=_work_as_child, args=(main, list(arguments), folder / STEP_LOCK)
    )
    try:
        with signals_afterwards():
            process.start()
        process.join()
    except TerminatedError:  # it came to us alone
        if process.pid is not None:
            process.terminate()
        raise
    finally:  # ctrl-C in a terminal interrupts it, too; an interrupt that came to us alone must not wait for its end
        for harder in (process.terminate, process.kill):
            if process.pid is not None:  # it came before there was a process
                process.join(STOP_TIMEOUT_S)
                harder()
    if process.exitcode != 0:
        raise GemmaMetamonError(
            f"{step} ended with {process.exitcode}, see above; run the same command again to go on with it"
        )


def _work_as_child(main: Main, arguments: Sequence[str], lock: Path) -> None:
    from filelock import FileLock

    with FileLock(lock, timeout=ORPHAN_TIMEOUT_S), redirect_stdout(sys.stderr):
        end_with_parent()  # before the work: it may have been killed while we began, and another be at work already
        sys.exit(main(arguments))
