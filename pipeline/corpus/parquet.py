"""Parquet shards: addressed by row, read by row group and by column."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.chunk import ChunkSize, Density, Span, cut_rows, rows_per_chunk
from pipeline.corpus.blocks import Block
from pipeline.corpus.rows import Columns, Rows
from pipeline.corpus.tabular.int96 import check_int96, int96_columns
from pipeline.corpus.tabular.table import Table, joined
from pipeline.corpus.textual.record import Kinds
from pipeline.files import open_parquet, parquet_file, readable

BATCH_ROWS = 4096
BLOCK_ROWS = 1 << 16
SAMPLED_ROWS = 64
SUFFIXES = (".parquet", ".pq")


class ParquetReader:
    """A Parquet file. It stays open after a span that ends inside a row group, which is decoded from its start."""

    rows_have_places: ClassVar[bool] = True

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._table = Table(path, source)
        self._decoder: _Decoder | None = None

    def column_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        """Return the plain type of each column, and of each kept path into structs."""
        with open_parquet(self._path) as file:
            return self._table.column_types(file.schema_arrow, columns, needed)

    def head(self, columns: Columns) -> tuple[Rows, int]:
        """Return the first SAMPLED_ROWS; their bytes are not known, and 0."""
        rows = self.read(Span(row_start=0, row_stop=min(SAMPLED_ROWS, self._size()[0])), columns)
        self.close()
        return rows, 0

    def place_at(self, share: float) -> int:
        """Return the number of the row group that is a share into the file."""
        with open_parquet(self._path) as file:
            sizes = _group_bytes(file.metadata)
        return min(int(np.searchsorted(np.cumsum(sizes), share * sum(sizes), side="right")), max(0, len(sizes) - 1))

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        """Yield the rows of a row group, or of all; reads the text columns alone."""
        columns = replace(columns, id=None, keep=())
        with open_parquet(self._path) as file:
            sizes, names = _group_bytes(file.metadata), self._table.names_in(file.schema_arrow, columns)
            for group in range(len(sizes)) if place is None else range(place, min(place + 1, len(sizes))):
                share = sizes[group] / max(1, sum(sizes)) / max(1, file.metadata.row_group(group).num_rows)
                for batch in file.iter_batches(BATCH_ROWS, [group], names, use_threads=False):
                    yield self._table.block(batch, share * len(batch), columns)

    def cut(
        self, gap: Span, density: Density, size: ChunkSize, *, is_open: bool, limit: int | None, kinds: Kinds
    ) -> Iterator[tuple[Span, bool]]:
        """Yield spans of about the size of a chunk, each with whether it ends the file; reads the footer alone."""
        n_rows, n_bytes = self._size()
        step = rows_per_chunk(int(n_rows * density.tokens_per_row), n_rows, n_bytes, size)
        stop = n_rows if is_open else gap.row_stop
        for span in cut_rows(gap.row_start, stop if limit is None else min(stop, gap.row_start + limit), step):
            yield span, span.row_stop == n_rows

    def byte_of(self, span: Span, row: int) -> int:
        """Return 0: Parquet is addressed by row."""
        return 0

    def ends_at(self, span: Span) -> bool:
        """Whether the file has no row after a span."""
        return span.row_stop == self._size()[0]

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of all rows, in rising order."""
        n_rows = self._size()[0]
        for start in range(0, n_rows, BLOCK_ROWS):
            yield np.arange(start, min(start + BLOCK_ROWS, n_rows))

    def read(self, span: Span, columns: Columns) -> Rows:
        """Read the rows of a span."""
        rows = Rows(kept=pa.table({}))
        kept: list[pa.Table] = []
        where = f" rows {span.row_start}-{span.row_stop - 1}"
        with readable(self._path, where, "pages that can be read"), contextlib.ExitStack() as on_leaving:
            decoder, self._decoder = self._decoder, None
            if decoder is not None and not decoder.leads_to(span.row_start, columns):
                decoder.close()
                decoder = None
            decoder = decoder or _Decoder(self._table, where, columns)
            on_leaving.callback(decoder.close)
            for first_row, batch in decoder.batches(span):
                kept.append(self._table.add(rows, range(first_row, first_row + len(batch)), batch, columns))
            if rows.n_rows != span.n_rows:
                raise ValueError(f"{rows.n_rows} of {span.n_rows} rows")
            if decoder.is_inside_group:
                self._decoder = decoder
                on_leaving.pop_all()
        rows.kept = joined(kept)
        return rows

    def close(self) -> None:
        """Close the file if it is open; a later call opens it again."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _size(self) -> tuple[int, int]:
        """Return the number of rows and their bytes before compression, which bound those of the texts."""
        # Not the bytes of the text columns alone: to ask for a column whose statistics are damaged kills the process.
        with open_parquet(self._path) as file:
            return file.metadata.num_rows, sum(_group_bytes(file.metadata))


def _group_bytes(metadata: pq.FileMetaData) -> list[int]:
    return [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]


class _Decoder:
    """Reads a file forwards, and goes on in the middle of a row group, which can only be decoded from its start."""

    def __init__(self, table: Table, rows: str, columns: Columns) -> None:
        self._path = table.path
        self._file = parquet_file(table.path, rows)
        self._asked = columns
        self._names = table.names_in(self._file.schema_arrow, columns)
        metadata = self._file.metadata
        self._ends = np.cumsum([metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)])
        self._row = 0  # where the last span stopped
        self._batches: Iterator[tuple[int, pa.RecordBatch]] | None = None
        self._held: list[tuple[int, pa.RecordBatch]] = []  # the batch in which it stopped

    @property
    def is_inside_group(self) -> bool:
        """Whether the last span stopped in the middle of a row group."""
        return self._row not in self._ends

    def leads_to(self, row: int, columns: Columns) -> bool:
        """Whether a row comes next or later in the row group where the last span stopped."""
        return columns == self._asked and bool(
            self._row <= row < self._ends[np.searchsorted(self._ends, self._row, side="right")]
        )

    def batches(self, span: Span) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of a span in batches, each with its first row; spans must come in rising order."""
        self._batches = self._batches or self._decode(span.row_start)
        for first, batch in itertools.chain(self._held, self._batches):
            start, stop = max(first, span.row_start), min(first + len(batch), span.row_stop)
            if start < stop:
                yield start, batch.slice(start - first, stop - start)
            if first + len(batch) >= span.row_stop:
                self._held = [(first, batch)]
                break
        self._row = span.row_stop

    def close(self) -> None:
        """Close the file and let go of what was decoded of it."""
        self._batches, self._held = None, []
        self._file.close()

    def _decode(self, row: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield all batches from the row group on that holds a row."""
        names = self._names
        first_group = int(np.searchsorted(self._ends, row, side="right"))
        first = int(self._ends[first_group - 1]) if first_group else 0
        in_int96 = int96_columns(self._file, [name for name in names if name not in self._asked.text])
        for group in range(first_group, len(self._ends)):
            if in_int96:
                check_int96(self._path, self._file, group, in_int96)
            for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=names, use_threads=False):
                yield first, batch
                first += len(batch)
