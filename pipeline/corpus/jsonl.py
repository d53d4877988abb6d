"""Line files: JSONL and NDJSON, plain, .gz and .zst. Cut into spans and read back in constant memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import MAX_LINE_BYTES, ChunkSize, Density, Span
from pipeline.corpus.blocks import Block, line_blocks, line_place
from pipeline.corpus.lines import first_span, is_blank, read_head, read_lines, row_numbers, scan
from pipeline.corpus.misnamed import check_kind
from pipeline.corpus.record import UTF8_BOM, Kinds, add_kinds, has_value_at, parse, value_at
from pipeline.corpus.rows import Columns, Reject, Rows, as_id, as_text, no_column, render
from pipeline.corpus.stream import COMPRESSION, Cursor, read_blocks
from pipeline.corpus.types import TEXTS
from pipeline.errors import CorpusError
from pipeline.schema import kept_name

SAMPLED_BYTES = 1 << 16

SUFFIXES = tuple(kind + packing for kind in (".jsonl", ".ndjson") for packing in ("", *COMPRESSION))


class JsonlReader:
    """A file with one JSON object a line. A packed one stays open after a span, as it is unpacked from its start."""

    rows_have_places: ClassVar[bool] = False

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source
        self._cursor: Cursor | None = None

    def column_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        """Return the columns that the first HEAD_BYTES have, without types: lines alone tell those."""
        records = self._first_records()
        has = dict.fromkeys(key for record in records for key in record)
        missing = [name for name in needed if not any(has_value_at(record, name) for record in records)]
        if records and missing:
            raise no_column(self._path, missing[0], tuple(has))
        paths = [name for name in columns.keep if any(has_value_at(record, name) for record in records)]
        return dict.fromkeys((*has, *paths))

    def head(self, columns: Columns) -> tuple[Rows, int]:
        """Return rows of about SAMPLED_BYTES from the start, and how many bytes they take."""
        span = first_span(self._path, SAMPLED_BYTES)
        rows = self.read(span, columns)
        self.close()
        return rows, span.byte_stop - span.byte_start

    def place_at(self, share: float) -> int:
        """Return the number of the place that is a share into the file; a packed one has its beginning alone."""
        return line_place(self._path, share)

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        """Yield the lines of a place, or of all of the file; reads no other."""

        def text_of(line: bytes) -> str | None:
            record = parse(line.removeprefix(UTF8_BOM))
            if isinstance(record, Reject):
                return None
            text = render([value_at(record, name) for name in columns.text], columns)
            return None if isinstance(text, Reject) else text

        return line_blocks(self._path, place, text_of)

    def cut(
        self, gap: Span, density: Density, size: ChunkSize, *, is_open: bool, limit: int | None, kinds: Kinds
    ) -> Iterator[tuple[Span, bool]]:
        """Yield spans of about the size of a chunk, each with whether it ends the file; reads the file once."""
        target_bytes = min(size.size_bytes, max(1, int(size.tokens / density.tokens_per_byte)))
        return scan(
            self._path,
            gap,
            open_end=is_open,
            target_bytes=target_bytes,
            max_rows=size.rows,
            limit=limit,
            kinds=kinds,
        )

    def byte_of(self, span: Span, row: int) -> int:
        """Return the byte where a row inside a span begins; raises CorpusError when the file has no such row."""
        target_bytes, limit = max(1, span.byte_stop), row - span.row_start
        before = [piece for piece, _ in scan(self._path, span, open_end=False, target_bytes=target_bytes, limit=limit)]
        if not before:
            raise CorpusError(
                f"{self._path}: expected {span.n_rows} rows from row {span.row_start}, found none; run again"
            )
        return before[-1].byte_stop

    def ends_at(self, span: Span) -> bool:
        """Whether the file has nothing after a span."""
        return next(read_blocks(self._path, span.byte_stop, None), b"") == b""

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Return the numbers of the lines that are rows, in rising order."""
        return row_numbers(self._path)

    def read(self, span: Span, columns: Columns) -> Rows:
        """Read the rows of a span; blank lines are no rows."""
        data, too_long = self._bytes(span)
        n_lines = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
        if n_lines != span.n_rows:
            raise CorpusError(
                f"{self._path} rows {span.row_start}-{span.row_stop - 1}: expected {span.n_rows:,} lines, found "
                f"{n_lines:,}; run again to embed it as it is now"
            )
        if span.byte_start == 0:
            data = data.removeprefix(UTF8_BOM)
        rows = Rows(kept=pa.table({}), kinds={name: set() for name in columns.keep})
        kept: list[list[Any]] = [[] for _ in columns.keep]
        lines = data.split(b"\n")
        add_kinds(rows.kinds, lines, MAX_LINE_BYTES)
        for row, line in enumerate(lines, span.row_start):
            if is_blank(line):
                continue
            record = too_long.get(row) or parse(line)
            row_id = f"{self._source}:{row}"
            if isinstance(record, Reject):
                rows.rejects.append((row, row_id, record))
                continue
            if columns.id is not None:
                row_id = as_id(value_at(record, columns.id)) or row_id
            text = render([value_at(record, name) for name in columns.text], columns)
            if isinstance(text, Reject):
                rows.rejects.append((row, row_id, text))
                continue
            rows.row.append(row)
            rows.id.append(row_id)
            rows.text.append(text)
            for values, name in zip(kept, columns.keep, strict=True):
                values.append(value_at(record, name))
        types = columns.types
        rows.kept = pa.table(
            {
                kept_name(name): self._kept(name, values, types.get(kept_name(name), pa.string()))
                for name, values in zip(columns.keep, kept, strict=True)
            }
        )
        return rows

    def close(self) -> None:
        """Close the file if it is open; a later call opens it again."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    def _kept(self, name: str, values: list[Any], kind: pa.DataType) -> pa.Array:
        if kind in TEXTS:
            return pa.array(map(as_text, values), kind)
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise CorpusError(
                f"{self._path}: expected values of type {kind} in the kept column {name!r}, found: {error}; run again"
            ) from error

    def _first_records(self) -> list[dict[str, Any]]:
        head = read_head(self._path)
        records = [record for line in head.lines if not isinstance(record := parse(line), Reject)]
        check_kind(self._path, head, n_objects=len(records))
        return records

    def _bytes(self, span: Span) -> tuple[bytes, dict[int, Reject]]:
        cursor, self._cursor = self._cursor, None
        if cursor is not None and cursor.position > span.byte_start:
            cursor.close()
            cursor = None
        cursor = cursor or Cursor(self._path)
        with contextlib.ExitStack() as on_leaving:
            on_leaving.callback(cursor.close)
            cursor.skip_to(span.byte_start)
            data, too_long = read_lines(cursor, span)
            if cursor.position < span.byte_stop:
                raise CorpusError(
                    f"{self._path}: expected {span.byte_stop:,} bytes of lines, found {cursor.position:,}; run again"
                )
            if cursor.is_packed:
                self._cursor = cursor
                on_leaving.pop_all()
        return data, too_long
