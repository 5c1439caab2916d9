"""The processes that read battles for a training: what they are told, and what becomes of one that fails."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
from torch.utils.data import DataLoader

from gemma_metamon.data.dataset import BattleDataset, Window, WindowNumbers, collate
from gemma_metamon.errors import DataError, GemmaMetamonError
from gemma_metamon.nets.batch import Batch
from gemma_metamon.runs.run_folder import how_to_go_on

_LOST = torch.distributed.DistError if torch.distributed.is_available() else ()
_GLOO_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/transport")
"""How gloo, whose errors are bare RuntimeErrors, says that a process is gone."""


def open_loader(
    dataset: BattleDataset, numbers: WindowNumbers, batch_size: int, workers: int, *, pin_memory: bool
) -> "DataLoader[Window]":
    """Batches of these windows, in their order.

    Args:
        dataset: the battles.
        numbers: of the windows.
        batch_size: windows in a batch.
        workers: processes that read battles; 0 reads them here.
        pin_memory: whether batches go to a GPU.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=numbers,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_be_a_reader,
        pin_memory=pin_memory,
        # of its own: a loader that is opened in the middle of an epoch must take nothing from the training's
        generator=torch.Generator().manual_seed(dataset.seed),
    )


def read_batches(loader: Iterable[Batch]) -> Iterator[Batch]:
    """A loader's batches. Of a reader that dies while it hands one over, a RuntimeError tells as of any other."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches, None)
        except (RuntimeError, GemmaMetamonError):
            raise
        except Exception as error:  # any line of the hand-over may raise it
            time.sleep(1)  # where a reader is gone, a signal brings torch's own error, which is raised here
            if not isinstance(error, (EOFError, ConnectionError)):
                raise
            raise RuntimeError(f"DataLoader worker is gone ({error!r})") from error
        if batch is None:
            return
        yield batch


def _be_a_reader(_number: int) -> None:
    """In a process that reads battles: it ends when the training does, and not before.

    A terminal's Ctrl-C, and SIGTERM from SLURM or torchrun, come to all processes of a training at once. The one that
    trains then makes an update to its end and saves, and needs the battles of it. Its thread that hands battles over
    says nothing of a training that has ended.
    """
    said = sys.excepthook

    def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, (EOFError, ConnectionError)):
            said(kind, error, trace)

    sys.excepthook = say
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # where it is not, SIGTERM ends it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_for_the_training, daemon=True).start()


def _end_for_the_training() -> None:
    """SIGTERM counts where the training has sent it."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def failures_in_a_sentence(run_dir: Path) -> Iterator[None]:
    """What happens in a process that reads battles, or becomes of another that trains, as one sentence."""
    try:
        yield
    except DataError as error:  # torch puts the traceback of its process in front
        raise DataError(str(error).strip().rpartition("\n")[2].removeprefix(f"{_full_name(DataError)}: ")) from error
    except RuntimeError as error:
        said = " ".join(str(error).split())
        if "DataLoader worker" in said:
            raise GemmaMetamonError(
                f"a process that reads battles was killed, perhaps for want of memory ({str(error).splitlines()[0]}); "
                f"{how_to_go_on(run_dir)}, perhaps with fewer --dloader_workers"
            ) from error
        if isinstance(error, _LOST) or any(words in said for words in _GLOO_LOST):
            raise GemmaMetamonError(
                f"another process of this training is gone ({said[:200]}); {how_to_go_on(run_dir)}"
            ) from error
        raise


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
