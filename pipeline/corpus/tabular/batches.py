"""Record batches of Arrow IPC: one after the other, with the columns that are asked for, and checked."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pyarrow as pa
from pyarrow import ipc

FILE_MAGIC = b"ARROW1"


class Batches:
    """The record batches of a file or a stream, with the columns that are asked for; raises what pyarrow raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._is_file = file.read(len(FILE_MAGIC)) == FILE_MAGIC
        with contextlib.ExitStack() as on_failure:
            self._source = on_failure.enter_context(pa.OSFile(str(path)))
            self.schema: pa.Schema = self._open(self._source).schema
            on_failure.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def counts(self) -> Iterator[int]:
        """Yield the rows of each record batch, by its narrowest column where a file has several."""
        narrow = min(range(len(self.schema)), key=lambda at: _width(self.schema.field(at).type), default=None)
        if narrow is None:
            return
        for batch in self._all([narrow], 0):
            yield batch.num_rows

    def after(self, row: int, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the record batches from the one on that has a row, each with its first row and with these columns."""
        skipped, first = 0, 0
        if self._is_file:
            for n_rows in self.counts():
                if first + n_rows > row:
                    break
                skipped, first = skipped + 1, first + n_rows
        for batch in self._all([self.schema.names.index(name) for name in names], skipped):
            if first + batch.num_rows > row:
                yield first, _checked(batch)
            first += batch.num_rows

    @property
    def n_indexed(self) -> int:
        """How many record batches a file has; 0 of a stream, which does not say."""
        return int(self._open(self._source).num_record_batches) if self._is_file else 0

    @property
    def position(self) -> int:
        """The byte up to which a stream was read."""
        return int(self._source.tell())

    def at(self, place: int | None, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield one record batch of a file, or all from its start, with these columns."""
        found = self._all([self.schema.names.index(name) for name in names], place or 0)
        yield from map(_checked, itertools.islice(found, 1) if place is not None and self._is_file else found)

    def _all(self, fields: Sequence[int], skipped: int) -> Iterator[pa.RecordBatch]:
        self._source.seek(0)
        reader = self._open(self._source, fields)
        if self._is_file:
            yield from map(reader.get_batch, range(skipped, reader.num_record_batches))
        else:
            yield from reader
            if self._source.read(1):  # which a reader of the stream passes over
                raise ValueError("more after the end of its stream; write it as one stream")

    def _open(self, source: pa.NativeFile, fields: Sequence[int] = ()) -> ipc.RecordBatchStreamReader:
        options = ipc.IpcReadOptions(included_fields=list(fields), use_threads=False)
        return (ipc.open_file if self._is_file else ipc.open_stream)(source, options=options)


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose buffers hold what its types say; strings that are no UTF-8 make their column bytes.

    Raises ArrowInvalid for another: to read it might kill the process.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
        columns = [column.view(as_bytes.get(column.type, column.type)) for column in batch.columns]
        batch = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        batch.validate(full=True)
    return batch


def _width(kind: pa.DataType) -> int:
    """Return how many bits a value has; many for one of any length."""
    try:
        return int(kind.bit_width)
    except ValueError:
        return 1 << 16
