"""Files of chat rows: JSON lines in the shape that a trainer wants, Arrow or Parquet."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.language.data.rows import Shape, as_gemini

JSON_LINES: Final = ".jsonl"
ARROW, PARQUET = ".arrow", ".parquet"
_BATCH_ROWS = 1000
SCHEMA: Final = pa.schema(
    [
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("battle_id", pa.string()),
        ("turn", pa.int32()),
        ("decision", pa.int32()),
        ("legal", pa.list_(pa.string())),
        ("choice", pa.string()),
        ("result", pa.string()),
        ("format", pa.string()),
        ("player", pa.string()),
        ("opponent", pa.string()),
        ("rating", pa.int32()),
        ("labelled", pa.bool_()),
        ("advantages", pa.list_(pa.float32())),
    ]
)
"""Of `ChatRow`, in Arrow's types."""


class RowWriter:
    """Takes rows as JSON text, one after the other.

    Attributes:
        rows: how many were taken.
    """

    def __init__(self) -> None:
        self.rows = 0

    def write(self, text: str) -> None:
        """One row."""
        self.rows += 1
        self._write(text)

    def close(self) -> None:
        """Writes what is left."""

    def _write(self, text: str) -> None:
        raise NotImplementedError


class _Lines(RowWriter):
    def __init__(self, path: Path, shape: Shape) -> None:
        super().__init__()
        self._file = path.open("w", encoding="utf-8")
        self._shape = shape

    def _write(self, text: str) -> None:
        if self._shape == "gemini":
            text = json.dumps(as_gemini(json.loads(text)["messages"]), ensure_ascii=False)
        self._file.write(f"{text}\n")

    def close(self) -> None:
        self._file.close()


class _Table(RowWriter):
    """Arrow or Parquet, some thousand rows at a time."""

    def __init__(self, path: Path, *, parquet: bool) -> None:
        super().__init__()
        self._file: Any = pq.ParquetWriter(path, SCHEMA) if parquet else pa.ipc.new_file(str(path), SCHEMA)
        self._waiting: list[dict[str, Any]] = []

    def _write(self, text: str) -> None:
        self._waiting.append(json.loads(text))
        if len(self._waiting) == _BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write_batch(pa.RecordBatch.from_pylist(self._waiting, SCHEMA))
        self._waiting = []


@contextmanager
def row_writer(path: Path, shape: Shape) -> Iterator[RowWriter]:
    """Writes a file of rows, by its suffix; it is there when the block is done, whole, or not at all."""
    with written_whole(path) as staged:
        if path.suffix == JSON_LINES:
            writer: RowWriter = _Lines(staged, shape)
        else:
            writer = _Table(staged, parquet=path.suffix == PARQUET)
        try:
            yield writer
        finally:
            writer.close()


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow or Parquet file, some thousand at a time. Raises pyarrow's errors and OSError."""
    if path.suffix == PARQUET:
        for batch in pq.ParquetFile(path).iter_batches(_BATCH_ROWS):
            yield from batch.to_pylist()
        return
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        for number in range(file.num_record_batches):
            yield from file.get_batch(number).to_pylist()
