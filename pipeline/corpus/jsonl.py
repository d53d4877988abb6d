"""Line files: JSONL and NDJSON, plain, .gz and .zst. Cut into spans and read back in constant memory."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import MAX_CHUNK_BYTES, MAX_CHUNK_ROWS, Density, Span
from pipeline.corpus.record import UTF8_BOM, Kinds, add_kinds, has_value_at, parse, value_at, watched
from pipeline.corpus.rows import Columns, Reject, Rows, as_id, as_text, no_column, render
from pipeline.corpus.stream import COMPRESSION, Cursor, read_blocks
from pipeline.corpus.types import TEXTS
from pipeline.errors import CorpusError
from pipeline.schema import kept_name

HEAD_BYTES = 1 << 18
SAMPLED_BYTES = 1 << 16
MAX_LINE_BYTES = 16 << 20  # a tokenizer may need 300 times as much
MAGIC = {b"PAR1": "Parquet", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "a zip archive"}

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
        nothing = Span(row_start=0, row_stop=0)
        first = scan(self._path, nothing, open_end=True, target_bytes=SAMPLED_BYTES, limit=None)
        span, _ = next(first, (nothing, True))
        rows = self.read(span, columns)
        self.close()
        return rows, span.byte_stop

    def cut(
        self, gap: Span, density: Density, n_tokens: int, *, is_open: bool, limit: int | None, kinds: Kinds
    ) -> Iterator[tuple[Span, bool]]:
        """Yield spans of about `n_tokens`, each with whether it ends the file; reads the file once."""
        target_bytes = min(MAX_CHUNK_BYTES, max(1, int(n_tokens / density.tokens_per_byte)))
        return scan(self._path, gap, open_end=is_open, target_bytes=target_bytes, limit=limit, kinds=kinds)

    def byte_of(self, span: Span, row: int) -> int:
        """Return the byte where a row inside a span begins; raises CorpusError when the file has no such row."""
        target_bytes, limit = max(1, span.byte_stop), row - span.row_start
        first = next(scan(self._path, span, open_end=False, target_bytes=target_bytes, limit=limit), None)
        if first is None:
            raise CorpusError(
                f"{self._path}: expected {span.n_rows} rows from row {span.row_start}, found none; run again"
            )
        return first[0].byte_stop

    def ends_at(self, span: Span) -> bool:
        """Whether the file has nothing after a span."""
        return next(read_blocks(self._path, span.byte_stop, None), b"") == b""

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of the lines that are rows, in rising order."""
        row, is_blank, head = 0, True, UTF8_BOM  # of the line that a block ends in the middle of
        for block in read_blocks(self._path, 0, None):
            first, *others = block.removeprefix(head).split(b"\n")
            blank = [is_blank and _is_blank(first), *map(_is_blank, others)]
            is_blank, head = blank.pop(), b""
            yield np.flatnonzero(~np.array(blank, bool)) + row
            row += len(blank)
        if not is_blank:
            yield np.array([row])

    def read(self, span: Span, columns: Columns) -> Rows:
        """Read the rows of a span; blank lines are no rows."""
        data = self._bytes(span)
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
            if _is_blank(line):
                continue
            record = parse(line)
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
        data = next(read_blocks(self._path, 0, HEAD_BYTES), b"")
        for magic, kind in MAGIC.items():
            if data.startswith(magic):
                raise CorpusError(f"{self._path}: expected lines of JSON, found {kind}; rename it")
        lines = data.removeprefix(UTF8_BOM).split(b"\n")
        whole = lines if len(data) < HEAD_BYTES else lines[:-1]
        return [record for line in whole if line.strip() and not isinstance(record := parse(line), Reject)]

    def _bytes(self, span: Span) -> bytes:
        cursor, self._cursor = self._cursor, None
        if cursor is not None and cursor.position > span.byte_start:
            cursor.close()
            cursor = None
        cursor = cursor or Cursor(self._path)
        with contextlib.ExitStack() as on_leaving:
            on_leaving.callback(cursor.close)
            cursor.skip_to(span.byte_start)
            data = cursor.read(span.byte_stop - span.byte_start)
            if len(data) < span.byte_stop - span.byte_start:
                raise CorpusError(
                    f"{self._path}: expected {span.byte_stop:,} bytes of lines, found {cursor.position:,}; run again"
                )
            if cursor.is_packed:
                self._cursor = cursor
                on_leaving.pop_all()
        return data


def scan(
    path: Path, gap: Span, *, open_end: bool, target_bytes: int, limit: int | None = None, kinds: Kinds | None = None
) -> Iterator[tuple[Span, bool]]:
    """Cut the lines of a gap into spans of about `target_bytes`, each with whether it ends the file.

    Adds to `kinds`, if there are any columns in it, what the lines of the spans have.
    Raises CorpusError for a line over MAX_LINE_BYTES and for a stream that cannot be read.
    """
    row, byte, n_rows = gap.row_start, gap.byte_start, 0  # where the span being collected starts; its rows so far
    line_start = read_to = gap.byte_start
    row_limit = gap.row_start + limit if limit is not None else sys.maxsize
    held: Span | None = None
    blocks = read_blocks(path, gap.byte_start, None if open_end else gap.byte_stop)
    for block in watched(blocks, kinds, limit, MAX_LINE_BYTES) if kinds else blocks:
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + (read_to + 1)
        read_to += len(block)
        at = 0
        while at < len(ends):
            full = at + min(MAX_CHUNK_ROWS, row_limit - row) - n_rows - 1
            cut = min(int(np.searchsorted(ends, byte + target_bytes)), full)
            if cut >= len(ends):
                n_rows += len(ends) - at
                break
            if held:
                yield held, False
            held = Span(row_start=row, row_stop=row + n_rows + cut + 1 - at, byte_start=byte, byte_stop=int(ends[cut]))
            row, byte, n_rows, at = held.row_stop, held.byte_stop, 0, cut + 1
            if row == row_limit:
                yield held, False
                return
        line_start = int(ends[-1]) if len(ends) else line_start
        if read_to - line_start > MAX_LINE_BYTES:
            raise CorpusError(
                f"{path} row {row + n_rows}: expected lines of at most {MAX_LINE_BYTES:,} bytes, found a longer one; "
                "is this one JSON document instead of one per line?"
            )
    if read_to > byte:
        if held:
            yield held, False
        n_rows += read_to > line_start  # a last line without its newline
        held = Span(row_start=row, row_stop=row + n_rows, byte_start=byte, byte_stop=read_to)
    if held:
        yield held, open_end


def _is_blank(line: bytes) -> bool:
    return not line or line.isspace()
