"""How many battles fit in a batch, and what each size yields: measured by training a little, in processes of its own.

A process that runs out of memory, or is killed for it, ends with a row; whoever asked goes on. On a CPU a limit
(RLIMIT_DATA) makes what does not fit an error before the machine has to swap or kill; on CUDA it is the allocator's.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.child_processes import end_with_parent, signals_afterwards
from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.runs.sizes import available_bytes
from gemma_metamon.strict_json import read_dataclass, read_json

HEADROOM: Final = 0.1
"""The share of free memory that is left alone: later batches may hold longer texts than any that was measured."""
DRAWN_PER_BATTLE: Final = 4
"""The first, largest update of a size has the longest of so many windows for each of its battles."""


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """What was found of one batch size.

    Attributes:
        batch_size: battles in a batch.
        fits: whether updates of it were made within the limit.
        battles_per_s: learnt from, 0.0 where it does not fit.
        timesteps_per_s: the same in timesteps, padding left out.
        peak_bytes: the most memory of the process (CPU) or of its tensors (CUDA); 0 where it is not known.
        reason: why it does not fit; empty where it does.
    """

    batch_size: int
    fits: bool
    battles_per_s: float = 0.0
    timesteps_per_s: float = 0.0
    peak_bytes: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """What find-batch-size writes and `train --batch_size_from` reads.

    Attributes:
        model_gin_config: that was measured.
        device: cpu or cuda.
        limit_bytes: of memory.
        batch_size_per_gpu: to train with.
        grad_accum: to train with.
        global_batch: battles of an update in all processes together.
        processes: that will train.
        rows: what was measured, in order of size.
    """

    model_gin_config: str
    device: str
    limit_bytes: int
    batch_size_per_gpu: int
    grad_accum: int
    global_batch: int
    processes: int
    rows: list[SizeRow]

    def __post_init__(self) -> None:
        if min(self.batch_size_per_gpu, self.grad_accum) < 1:
            raise ConfigError(
                f"batch_size_per_gpu {self.batch_size_per_gpu} and grad_accum {self.grad_accum} must be at least 1; "
                "run find-batch-size again"
            )

    @classmethod
    def read(cls, path: Path) -> "BatchSizes":
        """Raises MissingFileError where there is no such file, DataError where it holds something else."""
        return read_dataclass(cls, read_json(path))

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        with written_whole(path) as staged:
            staged.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def divide(global_batch: int, processes: int, largest: int) -> tuple[int, int]:
    """The largest batch size, and grad_accum, with which an update has exactly so many battles.

    Args:
        global_batch: battles of an update in all processes.
        processes: that train.
        largest: the most battles that fit in a batch of one process.

    Raises:
        ConfigError: so many processes cannot share them evenly.
    """
    if global_batch % processes:
        raise ConfigError(f"--global_batch {global_batch} is no multiple of {processes} processes; choose one that is")
    share = global_batch // processes
    size = next(size for size in range(min(largest, share), 0, -1) if share % size == 0)
    return size, share // size


def find_largest(measure: Callable[[Sequence[int]], Iterator[SizeRow]], most: int) -> Iterator[SizeRow]:
    """Rows as they are measured: sizes doubled until one does not fit, then between, to within an eighth.

    Args:
        measure: gives the rows of sizes in order; it ends after the first that does not fit.
        most: larger ones are not tried.
    """
    sizes = [1]
    while sizes[-1] < most:
        sizes.append(min(2 * sizes[-1], most))
    fitting, failing = 0, most + 1
    for row in measure(sizes):
        yield row
        if row.fits:
            fitting = row.batch_size
        else:
            failing = row.batch_size
    if not fitting or failing > most:
        return
    while failing - fitting > max(fitting // 8, 1):
        (row,) = measure([(fitting + failing) // 2])
        yield row
        if row.fits:
            fitting = row.batch_size
        else:
            failing = row.batch_size


def device_type() -> str:
    """Where Accelerate trains: "cuda" where there is one, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def default_limit(device_type: str) -> int:
    """The memory that training may take: what is free now, less HEADROOM. Raises ConfigError where it is not known."""
    if device_type == "cuda":
        import torch

        there: int | None = torch.cuda.mem_get_info()[0]
    else:
        there = available_bytes()
    if there is None:
        raise ConfigError("this system does not tell how much memory is free; give --memory_gb")
    return int(there * (1 - HEADROOM))


def measure_in_process(
    sizes: Sequence[int], limit_bytes: int, build: "Callable[..., Any]", *arguments: Any
) -> Iterator[SizeRow]:
    """The rows of these sizes, from a new process, up to the first that does not fit.

    Args:
        sizes: in rising order, because what a process has taken it does not give back.
        limit_bytes: of memory.
        build: makes the Trainer; a function that a new process can import.
        *arguments: of it.

    Raises:
        GemmaMetamonError: that building it raised; or the process ended in a way that is no matter of memory.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(theirs, list(sizes), limit_bytes, build, arguments), daemon=True)
    with signals_afterwards():
        process.start()
    theirs.close()
    try:
        for size in sizes:
            try:
                found = ours.recv()
            except EOFError:
                process.join()
                yield _ended(size, process.exitcode or 0)
                return
            if isinstance(found, GemmaMetamonError):
                raise found
            yield found
            if not found.fits:
                return
    finally:
        process.kill()
        process.join()
        ours.close()


def _ended(size: int, code: int) -> SizeRow:
    """The row of a size whose process said nothing more: the kernel kills for want of memory, C++ aborts."""
    if code < 0 and -code in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS):
        reason = f"its process was ended by {signal.Signals(-code).name}, as for want of memory"
        return SizeRow(batch_size=size, fits=False, reason=reason)
    raise GemmaMetamonError(f"the process that measured batches of {size} ended with status {code}; see what it said")


def _measure(
    pipe: Connection, sizes: Sequence[int], limit_bytes: int, build: Callable[..., Any], arguments: Sequence[Any]
) -> None:
    """In the new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    with contextlib.suppress(OSError):  # of Linux: if something must be killed, then this
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        trainer = _within_limit(limit_bytes, lambda: build(*arguments))
    except GemmaMetamonError as error:
        pipe.send(error)
        return
    if isinstance(trainer, str):
        pipe.send(SizeRow(batch_size=sizes[0], fits=False, reason=trainer))
        return
    on_cuda = trainer.accelerator.device.type == "cuda"
    _set_limit(limit_bytes, on_cuda=on_cuda)
    for size in sizes:
        found = _within_limit(limit_bytes, functools.partial(_yield_of, trainer, size))
        if isinstance(found, str):
            pipe.send(SizeRow(batch_size=size, fits=False, reason=found))
            os._exit(0)  # what memory is left may not do for a clean end
        if found.peak_bytes > limit_bytes:  # where the system takes no limit
            found = SizeRow(batch_size=size, fits=False, reason=f"it took {found.peak_bytes / 1e9:.2f} GB")
        pipe.send(found)
        if not found.fits:
            return


def _set_limit(limit_bytes: int, *, on_cuda: bool) -> None:
    import torch

    if on_cuda:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(limit_bytes / total, 1.0))
        return
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on Windows, no effect on macOS
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def _within_limit(limit_bytes: int, work: Callable[[], Any]) -> Any:
    """What comes of it, or the reason as text where memory did not do."""
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        reason = want_of_memory(error)
        if reason is None:
            raise
    return f"beyond {limit_bytes / 1e9:.2f} GB" + (f": {reason}" if reason else "")


def want_of_memory(error: MemoryError | RuntimeError) -> str | None:
    """What an error says of memory that did not do, in a few words; None of another error."""
    import torch

    said = str(error)
    # on a CPU torch has no class of its own for this
    of_torch = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in said or "not enough memory" in said
    if not (of_torch or isinstance(error, MemoryError)):
        return None
    said = said.partition("DefaultCPUAllocator: ")[2] or said
    return " ".join(said.split("\n", 1)[0].split())[:160]


def _yield_of(trainer: Any, size: int) -> SizeRow:
    """Two updates: the first with the longest windows of many, for the memory; the second as drawn, for the time."""
    import torch

    from gemma_metamon.data.dataset import collate
    from gemma_metamon.nets.batch import padded_timesteps
    from gemma_metamon.training.meter import Meter

    device, dataset = trainer.accelerator.device, trainer.dataset
    on_cuda = device.type == "cuda"
    drawn = [dataset[number] for number in range(DRAWN_PER_BATTLE * size)]
    longest = collate(sorted(drawn, key=lambda window: len(window.rl2s))[-size:])
    usual = collate(drawn[:size])
    timesteps = int((~padded_timesteps(usual.rl2s)).sum())
    del drawn
    trainer.agent.train()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = 0.0
    for batch in (longest, usual):
        started = time.perf_counter()
        trainer.guard.begin()
        trainer._learn(batch.to(device), Meter())
        if on_cuda:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    return SizeRow(
        batch_size=size,
        fits=True,
        battles_per_s=size / seconds,
        timesteps_per_s=timesteps / seconds,
        peak_bytes=torch.cuda.max_memory_reserved(device) if on_cuda else _peak_bytes(),
    )


def _peak_bytes() -> int:
    """The most memory that this process has had; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
