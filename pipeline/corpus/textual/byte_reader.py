"""Rows addressed by bytes: what the readers of texts share, whichever way their rows end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.chunk import ChunkSize, Density, Span
from pipeline.corpus.blocks import PACKED_PLACE_BYTES, PLACE_BYTES, Block, line_place
from pipeline.corpus.rows import Columns, Rows
from pipeline.corpus.stream import COMPRESSION, Cursor, read_blocks
from pipeline.corpus.textual.lines import Ends, cut_spans, first_span, row_numbers
from pipeline.corpus.textual.record import Kinds
from pipeline.errors import CorpusError

SAMPLED_BYTES = 1 << 16
MORE_BYTES = 1 << 20  # after a place, for the row that begins in it


class ByteReader:
    """A file whose rows follow one another. A packed one stays open after a span, as it is unpacked from its start."""

    rows_have_places: ClassVar[bool] = False

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source
        self._cursor: Cursor | None = None

    def row_ends(
        self, blocks: Iterator[bytes], start: int, *, is_open: bool, kinds: Kinds, limit: int | None
    ) -> Iterator[Ends]:
        """Yield where rows end in blocks that begin at byte `start`, with one row at least each time.

        Open blocks go on to the end of the file. Adds to `kinds` what the first `limit` rows have in the columns that
        are its keys.
        """
        raise NotImplementedError

    def read(self, span: Span, columns: Columns) -> Rows:
        """Return the rows of a span."""
        raise NotImplementedError

    def head(self, columns: Columns) -> tuple[Rows, int]:
        """Return rows of about SAMPLED_BYTES from the start, and how many bytes they take."""
        span = first_span(self._ends(Span(row_start=0, row_stop=0), is_open=True), SAMPLED_BYTES)
        rows = self.read(span, columns)
        self.close()
        return rows, span.byte_stop - span.byte_start

    def place_at(self, share: float) -> int:
        """Return the number of the place that is a share into the file; a packed one has its beginning alone."""
        return line_place(self._path, share)

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        """Yield the rows that begin in a place, or all of the file; reads no other."""
        size_bytes, before = max(1, self._path.stat().st_size), 0
        is_packed = self._path.suffix.lower() in COMPRESSION
        if place is not None and not is_packed:
            span, n_taken = self._at_place(place * PLACE_BYTES, columns)
            yield _block(self.read(span, columns), n_taken / size_bytes, span)
            return
        ends = self._ends(Span(row_start=0, row_stop=0), is_open=True)
        for span, _ in cut_spans(
            ends, Span(row_start=0, row_stop=0), open_end=True, target_bytes=1 << 20, max_rows=1 << 16, limit=None
        ):
            rows = self.read(span, columns)
            at = self._cursor.position_in_file if self._cursor else span.byte_stop
            yield _block(rows, (at - before) / size_bytes, span)
            before = at
            if place is not None and at > PACKED_PLACE_BYTES:
                break
        self.close()

    def first_row_in(self, data: bytes, columns: Columns) -> int:
        """Return where the first row begins in bytes from the middle of the file, as far as it is known without what
        comes before; their number where none does."""
        raise NotImplementedError

    def cut(
        self, gap: Span, density: Density, size: ChunkSize, *, is_open: bool, limit: int | None, kinds: Kinds
    ) -> Iterator[tuple[Span, bool]]:
        """Yield spans of about the size of a chunk, each with whether it ends the file; reads the file once."""
        target_bytes = min(size.size_bytes, max(1, int(size.tokens / density.tokens_per_byte)))
        ends = self._ends(gap, is_open=is_open, kinds=kinds, limit=limit)
        return cut_spans(ends, gap, open_end=is_open, target_bytes=target_bytes, max_rows=size.rows, limit=limit)

    def byte_of(self, span: Span, row: int) -> int:
        """Return the byte where a row inside a span begins; raises CorpusError when the file has no such row."""
        n_before = row - span.row_start
        for stops, _ in self._ends(span, is_open=False):
            if n_before <= len(stops):
                return int(stops[n_before - 1])
            n_before -= len(stops)
        raise CorpusError(
            f"{self._path}: expected {span.n_rows} rows from row {span.row_start}, found fewer; run again"
        )

    def ends_at(self, span: Span) -> bool:
        """Whether the file has nothing after a span."""
        return next(read_blocks(self._path, span.byte_stop, None), b"") == b""

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of the rows that are not blank, in rising order."""
        return row_numbers(self._ends(Span(row_start=0, row_stop=0), is_open=True))

    def close(self) -> None:
        """Close the file if it is open; a later call opens it again."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    @contextlib.contextmanager
    def _at(self, span: Span) -> Iterator[Cursor]:
        """Give the file at the start of a span, whose bytes are to be read to their end; raises CorpusError where the
        file ends before."""
        cursor, self._cursor = self._cursor, None
        if cursor is not None and cursor.position > span.byte_start:
            cursor.close()
            cursor = None
        cursor = cursor or Cursor(self._path)
        with contextlib.ExitStack() as on_leaving:
            on_leaving.callback(cursor.close)
            cursor.skip_to(span.byte_start)
            yield cursor
            if cursor.position < span.byte_stop:
                raise CorpusError(
                    f"{self._path}: expected {span.byte_stop:,} bytes of lines, found {cursor.position:,}; run again"
                )
            if cursor.is_packed:
                self._cursor = cursor
                on_leaving.pop_all()

    def _at_place(self, start: int, columns: Columns) -> tuple[Span, int]:
        """Return the rows that begin from a byte of a plain file on, numbered from 0, and the bytes of the place."""
        with contextlib.closing(Cursor(self._path)) as cursor:
            cursor.skip_to(start)
            data = cursor.read(PLACE_BYTES + MORE_BYTES)
        first = self.first_row_in(data, columns) if start else 0
        begin, is_all = start + first, len(data) < PLACE_BYTES + MORE_BYTES
        found = self.row_ends(iter([data[first:]]), begin, is_open=False, kinds={}, limit=None)
        stops = [stop for stops, _ in found for stop in stops.tolist() if is_all or stop < start + len(data)]
        n_rows = sum(each < start + PLACE_BYTES for each in (begin, *stops[:-1])) if stops else 0
        stop = stops[n_rows - 1] if n_rows else begin
        return Span(row_start=0, row_stop=n_rows, byte_start=begin, byte_stop=stop), min(len(data), PLACE_BYTES)

    def _ends(
        self, gap: Span, *, is_open: bool, kinds: Kinds | None = None, limit: int | None = None
    ) -> Iterator[Ends]:
        blocks = read_blocks(self._path, gap.byte_start, None if is_open else gap.byte_stop)
        return self.row_ends(blocks, gap.byte_start, is_open=is_open, kinds=kinds or {}, limit=limit)


def _block(rows: Rows, share: float, span: Span) -> Block:
    texts = [*rows.text, *(None for _ in rows.rejects)]
    sizes = np.array([len(text.encode()) if text else 0 for text in texts], np.int64)
    n_bytes = span.byte_stop - span.byte_start
    return Block(share=share, n_bytes=n_bytes, sizes=sizes, texts=lambda picked: [texts[row] for row in picked])
