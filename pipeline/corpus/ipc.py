"""Arrow IPC shards, also called Feather: files and streams, addressed by row and read by record batch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import ChunkSize, Density, Span, cut_rows, rows_per_chunk
from pipeline.corpus.blocks import PACKED_PLACE_BYTES, Block
from pipeline.corpus.rows import Columns, Rows
from pipeline.corpus.tabular.batches import Batches
from pipeline.corpus.tabular.table import Table, joined
from pipeline.corpus.textual.record import Kinds
from pipeline.files import readable

BATCH_ROWS = 4096
SAMPLED_ROWS = 64
SUFFIXES = (".arrow", ".feather")
WHOLE = "an Arrow IPC file or stream"


class IpcReader:
    """A file of record batches, each of which is held whole. It stays open after a span.

    A stream has no index: rows further on are found by reading those before them.
    """

    rows_have_places: ClassVar[bool] = True

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._table = Table(path, source)
        self._decoder: _Decoder | None = None

    def column_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        """Return the plain type of each column, and of each kept path into structs."""
        with readable(self._path, "", WHOLE), Batches(self._path) as batches:
            return self._table.column_types(batches.schema, columns, needed)

    def head(self, columns: Columns) -> tuple[Rows, int]:
        """Return the first SAMPLED_ROWS; their bytes are not known, and 0."""
        first = next((n_rows for n_rows in self._counts() if n_rows), 0)
        rows = self.read(Span(row_start=0, row_stop=min(SAMPLED_ROWS, first)), columns)
        self.close()
        return rows, 0

    def place_at(self, share: float) -> int:
        """Return the number of the record batch that is a share into a file; a stream has its beginning alone."""
        with readable(self._path, "", WHOLE), Batches(self._path) as batches:
            return min(int(share * batches.n_indexed), max(0, batches.n_indexed - 1))

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        """Yield the rows of a record batch, of the beginning of a stream, or of all; reads the text columns alone."""
        columns = replace(columns, id=None, keep=())
        size_bytes = max(1, self._path.stat().st_size)
        with readable(self._path, "", WHOLE), Batches(self._path) as batches:
            names = _top_names(self._table, batches.schema, columns)
            before = 0
            for batch in batches.at(place, names):
                at = batches.position
                share = 1 / batches.n_indexed if batches.n_indexed else (at - before) / size_bytes
                yield self._table.block(batch, share, columns)
                before = at
                if place is not None and not batches.n_indexed and at > PACKED_PLACE_BYTES:
                    break

    def cut(
        self, gap: Span, density: Density, size: ChunkSize, *, is_open: bool, limit: int | None, kinds: Kinds
    ) -> Iterator[tuple[Span, bool]]:
        """Yield spans of about the size of a chunk, each with whether it ends the file; reads a stream to its end."""
        n_rows = sum(self._counts())
        step = rows_per_chunk(int(n_rows * density.tokens_per_row), n_rows, self._path.stat().st_size, size)
        stop = n_rows if is_open else gap.row_stop
        for span in cut_rows(gap.row_start, stop if limit is None else min(stop, gap.row_start + limit), step):
            yield span, span.row_stop == n_rows

    def byte_of(self, span: Span, row: int) -> int:
        """Return 0: record batches are addressed by row."""
        return 0

    def ends_at(self, span: Span) -> bool:
        """Whether the file has no row after a span."""
        return span.row_stop == sum(self._counts())

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of all rows, in rising order."""
        first = 0
        for n_rows in self._counts():
            yield np.arange(first, first + n_rows)
            first += n_rows

    def read(self, span: Span, columns: Columns) -> Rows:
        """Read the rows of a span."""
        rows = Rows(kept=pa.table({}))
        kept: list[pa.Table] = []
        where = f" rows {span.row_start}-{span.row_stop - 1}"
        with readable(self._path, where, "record batches that can be read"), contextlib.ExitStack() as on_leaving:
            decoder, self._decoder = self._decoder, None
            if decoder is not None and not decoder.leads_to(span.row_start, columns):
                decoder.close()
                decoder = None
            decoder = decoder or _Decoder(self._table, columns, span.row_start)
            on_leaving.callback(decoder.close)
            for first, batch in decoder.batches(span):
                kept.append(self._table.add(rows, range(first, first + len(batch)), batch, columns))
            if rows.n_rows != span.n_rows:
                raise ValueError(f"{rows.n_rows} of {span.n_rows} rows")
            self._decoder = decoder
            on_leaving.pop_all()
        rows.kept = joined(kept)
        return rows

    def close(self) -> None:
        """Close the file if it is open; a later call opens it again."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _counts(self) -> Iterator[int]:
        """Yield the rows of each record batch."""
        with readable(self._path, "", WHOLE), Batches(self._path) as batches:
            yield from batches.counts()


class _Decoder:
    """Reads a file forwards, and goes on in the record batch where the last span stopped."""

    def __init__(self, table: Table, columns: Columns, row: int) -> None:
        self._asked = columns
        self._file = Batches(table.path)
        names = _top_names(table, self._file.schema, columns)
        self._row = row  # where the last span stopped
        self._batches = self._file.after(row, names)
        self._held: list[tuple[int, pa.RecordBatch]] = []  # the batch in which it stopped

    def leads_to(self, row: int, columns: Columns) -> bool:
        """Whether a row comes next, or later in a stream, which can only be read from its start."""
        return columns == self._asked and (row == self._row or (row > self._row and not self._file.n_indexed))

    def batches(self, span: Span) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of a span in batches, each with its first row; spans must follow one another."""
        for first, batch in itertools.chain(self._held, self._batches):
            start, stop = max(first, span.row_start), min(first + len(batch), span.row_stop)
            for at in range(start, stop, BATCH_ROWS):
                yield at, batch.slice(at - first, min(BATCH_ROWS, stop - at))
            if first + len(batch) >= span.row_stop:
                self._held = [(first, batch)]
                break
        self._row = span.row_stop

    def close(self) -> None:
        """Close the file and let go of what was decoded of it."""
        self._batches, self._held = iter(()), []
        self._file.close()


def _top_names(table: Table, schema: pa.Schema, columns: Columns) -> list[str]:
    """Return the columns of a file that are read, paths into structs by their first name."""
    found = table.names_in(schema, columns)
    return list(dict.fromkeys(name if name in schema.names else name.partition(".")[0] for name in found))
