"""One Node process that plays battles: commands go in as JSON lines, answers come out of it through a thread."""

import json
import os
import subprocess
import tempfile
import threading
import time
from importlib import resources
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from gemma_metamon.child_processes import start_command
from gemma_metamon.showdown.accounts import PASSWORD_VARIABLE
from gemma_metamon.strict_json import on_one_line

ASSETS = resources.files("gemma_metamon.showdown.arena") / "assets"
END_TIMEOUT_S = 10.0
_CHUNK_BYTES = 1 << 20
_KEPT_WORDS_BYTES = 4096


class Worker:
    """A process of assets/worker.js. It ends with `close`, or with this process, however that ends.

    Args:
        node: the path of Node.js.
        package: the folder of the installed pokemon-showdown.
        answers: where (worker, lines) are put as they come, and (worker, None) once it has ended.
        max_heap_mb: of JavaScript objects; a process that needs more ends itself. None leaves it to Node.
    """

    def __init__(
        self,
        node: str,
        package: Path,
        answers: "SimpleQueue[tuple[Worker, list[bytes] | None]]",
        *,
        max_heap_mb: int | None = None,
    ) -> None:
        self.n_battles = 0
        """How many it plays."""
        self.sent = 0
        """Commands given to it."""
        self.done = 0
        """Commands that it is known to have carried out."""
        self._unsent = bytearray()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 as long as the process
        heap = [] if max_heap_mb is None else [f"--max-old-space-size={max_heap_mb}"]
        with resources.as_file(ASSETS) as folder:
            script = str((folder / "worker.js").absolute())
        self.began_at = time.monotonic()
        self.process = start_command(
            [node, *heap, script, str(os.getpid())],
            bufsize=0,
            cwd=package,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env={name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE},
            start_new_session=True,  # an interrupt in the terminal must reach Python alone, which then ends the worker
        )
        self._stdin, self._stdout = cast(FileIO, self.process.stdin), cast(FileIO, self.process.stdout)
        if os.name != "nt":  # one that hangs must not hold up whoever writes to it
            os.set_blocking(self._stdin.fileno(), False)
        self._reader = threading.Thread(target=self._read, args=(answers,), name="arena-worker", daemon=True)
        self._reader.start()

    @property
    def is_busy(self) -> bool:
        """Whether commands are still to be carried out."""
        return self.done < self.sent

    def give(self, command: dict[str, Any]) -> None:
        """Takes a command down; `flush` sends it."""
        self._unsent += json.dumps(command, separators=(",", ":")).encode() + b"\n"
        self.sent += 1

    def flush(self) -> bool:
        """Sends what was given, as far as the pipe takes it at once; whether that was all.

        A process that is gone takes all: it tells of its end itself, through its answers.
        """
        while self._unsent:
            try:
                n_taken = self._stdin.write(self._unsent)
            except BrokenPipeError:
                n_taken = len(self._unsent)
            if n_taken is None:  # the pipe is full
                return False
            del self._unsent[:n_taken]
        return True

    def how_it_ended(self) -> str:
        """In words, with the last that it said; for a process that has ended."""
        code = self.process.returncode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
        self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - _KEPT_WORDS_BYTES))
        lines = self._words.read().decode("utf-8", "replace").strip().splitlines()
        telling = next((line for line in lines if "rror" in line), lines[-1] if lines else "")
        return f"{how} ({on_one_line(telling.strip())})" if telling else how

    def close(self) -> None:
        """Ends the process: its lifeline first, then by signal if it does not listen."""
        self._stdin.close()
        try:
            self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self._stdout.close()
        self._words.close()

    def _read(self, answers: "SimpleQueue[tuple[Worker, list[bytes] | None]]") -> None:
        rest = b""
        while chunk := self._stdout.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                answers.put((self, lines))
        self.process.wait()
        answers.put((self, None))
