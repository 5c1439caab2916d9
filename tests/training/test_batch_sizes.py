"""Which batch sizes are tried, how a global batch is divided, and that want of memory is a row."""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_agent import TINY, train_command

from gemma_metamon.commands import build_parser, main
from gemma_metamon.commands._training_plan import take_batch_size
from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError
from gemma_metamon.runs.sizes import available_bytes, memory_bytes
from gemma_metamon.training import batch_sizes
from gemma_metamon.training.batch_sizes import (
    BatchSizes,
    SizeRow,
    device_type,
    divide,
    find_largest,
    measure_in_process,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux has them")


@settings(max_examples=50, derandomize=True)
@given(st.integers(0, 300), st.integers(1, 256))
def test_the_largest_that_fits_is_found_to_within_an_eighth(largest: int, most: int) -> None:
    tried: list[int] = []

    def measure(sizes: Sequence[int]) -> Iterator[SizeRow]:
        for size in sizes:
            tried.append(size)
            yield SizeRow(batch_size=size, fits=size <= largest)
            if size > largest:
                return

    rows = list(find_largest(measure, most))
    assert [row.batch_size for row in rows] == tried
    assert len(set(tried)) == len(tried)
    assert max(tried) <= most
    best = max((row.batch_size for row in rows if row.fits), default=0)
    assert best <= min(largest, most) <= best + max(best // 8, 1)
    if most <= largest:
        assert best == most


@settings(max_examples=50, derandomize=True)
@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 100))
def test_a_global_batch_is_divided_exactly(share: int, processes: int, largest: int) -> None:
    size, grad_accum = divide(share * processes, processes, largest)
    assert size * grad_accum * processes == share * processes
    assert size <= largest
    assert not any(share % larger == 0 for larger in range(size + 1, min(largest, share) + 1))


def test_a_global_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="--global_batch 10 is no multiple of 4 processes"):
        divide(10, 4, 100)


@linux
def test_what_is_available_is_no_more_than_there_is() -> None:
    available, there = available_bytes(), memory_bytes()
    assert available is not None
    assert there is not None
    assert 0 < available < there


def of_cpu() -> Any:
    """In the place of a Trainer: what is measured of it is the test's own."""
    return SimpleNamespace(accelerator=SimpleNamespace(device=SimpleNamespace(type="cpu")))


def taking_it_all() -> Any:
    import torch

    def take(trainer: Any, size: int) -> SizeRow:
        taken = torch.zeros(size * 100_000_000, dtype=torch.uint8)
        return SizeRow(batch_size=size, fits=True, peak_bytes=int(taken.numel()))

    batch_sizes._yield_of = take
    return of_cpu()


def killed_for_memory() -> Any:
    def take(trainer: Any, size: int) -> SizeRow:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    batch_sizes._yield_of = take
    return of_cpu()


def mistaken() -> Any:
    raise ConfigError("no such thing")


@linux
@pytest.mark.slow
def test_a_process_that_has_no_memory_left_or_is_killed_is_a_row_and_not_the_end() -> None:
    limit = 2_000_000_000
    rows = list(measure_in_process([1, 4, 64, 128], limit, taking_it_all))
    assert [(row.batch_size, row.fits) for row in rows] == [(1, True), (4, True), (64, False)]
    assert rows[-1].reason.startswith("beyond 2.00 GB: ")
    (row,) = measure_in_process([8, 16], limit, killed_for_memory)
    assert (row.batch_size, row.fits) == (8, False)
    assert row.reason == "its process was ended by SIGKILL, as for want of memory"
    with pytest.raises(GemmaMetamonError, match="no such thing"):
        list(measure_in_process([8], limit, mistaken))


@linux
@pytest.mark.slow
def test_train_takes_the_batch_size_that_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sizes.json"
    flags = train_command(tmp_path / "runs")[1:]
    at = flags.index("--batch_size_per_gpu")
    flags = [*flags[:at], *flags[at + 2 :]]
    assert main(["find-batch-size", *flags, "--global_batch", "6", "--max_batch_size", "4", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "the largest that fits: 4 (--max_batch_size ended the search)" in printed
    assert "train with --batch_size_per_gpu 3 --grad_accum 2: 6 battles an update" in printed
    assert not (tmp_path / "runs").exists()
    found = BatchSizes.read(out)
    assert [row.batch_size for row in found.rows] == [1, 2, 4]
    assert all(row.fits and row.battles_per_s > 0 and 0 < row.peak_bytes < found.limit_bytes for row in found.rows)
    assert main(["train", *flags, "--batch_size_from", str(out), "--steps_per_epoch", "1"]) == 0
    meta = json.loads((tmp_path / "runs" / "run" / "ckpts" / "epoch_1" / "checkpoint.json").read_text())
    assert (meta["settings"]["batch_size_per_gpu"], meta["settings"]["grad_accum"]) == (3, 2)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"batch_size_per_gpu": 3}')
    with pytest.raises(DataError):
        BatchSizes.read(tmp_path / "x.json")


def test_a_file_of_sizes_that_was_found_for_another_training_is_taken_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = train_command(tmp_path)
    at = command.index("--batch_size_per_gpu")
    command[at : at + 2] = ["--batch_size_from", str(tmp_path / "sizes.json")]
    sizes = BatchSizes(
        model_gin_config=TINY,
        device=device_type(),
        limit_bytes=1,
        batch_size_per_gpu=8,
        grad_accum=3,
        global_batch=96,
        processes=4,
        rows=[],
    )

    def warned(found: BatchSizes, *, trains: bool = True) -> str:
        found.write(tmp_path / "sizes.json")
        caplog.clear()
        take_batch_size(build_parser().parse_args(command), trains=trains)
        return "; ".join(record.getMessage() for record in caplog.records if record.levelname == "WARNING")

    said = warned(sizes)
    assert "is for 4 processes, whose update has 96 battles; 1 train here, and an update has 24: give" in said
    assert warned(sizes, trains=False) == ""
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert warned(sizes) == ""
    assert "was measured on 'elsewhere', and this is " in warned(replace(sizes, device="elsewhere"))
    assert "was measured with other.gin" in warned(replace(sizes, model_gin_config="other.gin"))
    monkeypatch.setenv("RANK", "1")
    assert warned(replace(sizes, device="elsewhere")) == ""
