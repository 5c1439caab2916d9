"""Steps that are carried out one after the other, each once, whenever and however often the work was stopped.

Which steps are finished stands in a file that is written whole after each of them, beside the settings they belong to.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError
from gemma_metamon.strict_json import read_json_object
from gemma_metamon.whole_files import written_whole

STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Step:
    """A step of a round, by its name."""

    round: int
    name: str

    def __str__(self) -> str:
        return f"round {self.round}: {self.name}"


class Journal:
    """The finished steps of some work, with the seconds that each took.

    Args:
        path: the file; made with the first step, read where it is there.
        settings: flag -> value, what the steps depend on; anything that JSON holds.

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
            content = read_json_object(self.path)
            begun_with = dict(content["settings"])
            self.seconds = {Step(entry["round"], entry["step"]): entry["seconds"] for entry in content["finished"]}
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{self.path} is damaged ({error!r}); begin again in another folder") from error
        for flag, value in self.settings.items():
            if begun_with.get(flag) != value:
                raise ConfigError(
                    f"{self.path.parent} was begun with --{flag} {_shown(begun_with.get(flag))}, and now it is "
                    f"{_shown(value)}; give the same again, or another folder"
                )

    def finish(self, step: Step, seconds: float) -> None:
        self.seconds[step] = seconds
        finished = [
            {"round": step.round, "step": step.name, "seconds": round(taken, 1)} for step, taken in self.seconds.items()
        ]
        with written_whole(self.path) as staged:
            staged.write_text(json.dumps({"settings": self.settings, "finished": finished}, indent=1), encoding="utf-8")


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def carry_out(steps: Iterable[Step], journal: Journal, work: Callable[[Step], None]) -> None:
    """Does `work` for each step that is not finished, in order. A step that was stopped is worked on again."""
    for step in steps:
        if step not in journal.seconds:
            started = time.monotonic()
            work(step)
            journal.finish(step, time.monotonic() - started)


def run_command(arguments: Sequence[str], step: Step) -> None:
    """`gemma-metamon ARGUMENTS` in a process of its own, which ends with this one. Its results are shown on stderr.

    Raises GemmaMetamonError where it fails.
    """
    import multiprocessing

    print(f"\n{step}\n$ gemma-metamon {' '.join(arguments)}", file=sys.stderr, flush=True)
    process = multiprocessing.get_context("spawn").Process(target=_work_as_child, args=(list(arguments),))
    process.start()
    try:
        process.join()
    finally:  # ctrl-C in a terminal interrupts it, too; an interrupt that came to us alone must not wait for its end
        process.join(STOP_TIMEOUT_S)
        process.terminate()
    if process.exitcode != 0:
        raise GemmaMetamonError(
            f"{step} ended with {process.exitcode}, see above; run the same command again to go on with it"
        )


def _work_as_child(arguments: Sequence[str]) -> None:
    import multiprocessing

    from gemma_metamon.commands import main

    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()
    with redirect_stdout(sys.stderr):
        sys.exit(main(arguments))


def _end_after(sentinel: int) -> None:
    """A killed parent cannot say that the work is off."""
    from multiprocessing.connection import wait

    wait([sentinel])
    os._exit(1)
