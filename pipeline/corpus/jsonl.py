"""Line files: JSONL and NDJSON, plain, .gz and .zst. Cut into spans and read back in constant memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import MAX_CHUNK_BYTES, Density, Span
from pipeline.corpus.lines import UTF8_BOM, first_span, is_blank, read_head, read_lines, row_numbers, scan
from pipeline.corpus.misnamed import check_kind
from pipeline.corpus.rows import Columns, Reject, Rows, as_text, render
from pipeline.corpus.stream import COMPRESSION, Cursor, read_blocks
from pipeline.errors import CorpusError

SAMPLED_BYTES = 1 << 16

SUFFIXES = tuple(kind + packing for kind in (".jsonl", ".ndjson") for packing in ("", *COMPRESSION))

_decode = msgspec.json.Decoder().decode


class JsonlReader:
    """A file with one JSON object a line. A packed one stays open after a span, as it is unpacked from its start."""

    rows_have_places: ClassVar[bool] = False

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source
        self._cursor: Cursor | None = None

    def kept_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, str]:
        """Return the type of each kept column, which is text; looks at the first HEAD_BYTES."""
        records = self._first_records()
        has = dict.fromkeys(key for record in records for key in record)
        missing = [name for name in needed if not any(has_value_at(record, name) for record in records)]
        if records and missing:
            raise CorpusError(f"{self._path}: expected column {missing[0]!r}, found {', '.join(has) or 'none'}")
        return dict.fromkeys(columns.keep, "string")

    def head(self, columns: Columns) -> tuple[Rows, int]:
        """Return rows of about SAMPLED_BYTES from the start, and how many bytes they take."""
        span = first_span(self._path, SAMPLED_BYTES)
        rows = self.read(span, columns)
        self.close()
        return rows, span.byte_stop - span.byte_start

    def cut(
        self, gap: Span, density: Density, n_tokens: int, *, is_open: bool, limit: int | None
    ) -> Iterator[tuple[Span, bool]]:
        """Yield spans of about `n_tokens`, each with whether it ends the file; reads the file once."""
        target_bytes = min(MAX_CHUNK_BYTES, max(1, int(n_tokens / density.tokens_per_byte)))
        return scan(self._path, gap, open_end=is_open, target_bytes=target_bytes, limit=limit)

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
        rows = Rows(kept=pa.table({}))
        kept: list[list[str | None]] = [[] for _ in columns.keep]
        for row, line in enumerate(data.split(b"\n"), span.row_start):
            if is_blank(line):
                continue
            record = too_long.get(row) or parse(line)
            row_id = f"{self._source}:{row}"
            if isinstance(record, Reject):
                rows.rejects.append((row, row_id, record))
                continue
            if columns.id is not None:
                row_id = as_text(value_at(record, columns.id)) or row_id
            text = render([value_at(record, name) for name in columns.text], columns)
            if isinstance(text, Reject):
                rows.rejects.append((row, row_id, text))
                continue
            rows.row.append(row)
            rows.id.append(row_id)
            rows.text.append(text)
            for values, name in zip(kept, columns.keep, strict=True):
                values.append(as_text(value_at(record, name)))
        rows.kept = pa.table({name: pa.array(v, pa.string()) for name, v in zip(columns.keep, kept, strict=True)})
        return rows

    def close(self) -> None:
        """Close the file if it is open; a later call opens it again."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

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


def parse(line: bytes) -> dict[str, Any] | Reject:
    """Return the object on a line, or why there is none."""
    try:
        try:
            record = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            record = json.loads(line.decode())  # takes NaN and lone surrogates, which other writers emit
    except UnicodeDecodeError as error:
        return Reject(reason="invalid_utf8", detail=str(error), text=line.decode(errors="replace"))
    except (ValueError, RecursionError) as error:
        return Reject(reason="malformed_json", detail=str(error), text=line.decode())
    if not isinstance(record, dict):
        detail = f"expected an object, found {type(record).__name__}"
        return Reject(reason="malformed_json", detail=detail, text=line.decode())
    return record


def value_at(record: dict[str, Any], name: str) -> Any:
    """Return the value of a column, or of a dotted path into objects; None where there is none."""
    if name in record:
        return record[name]
    value: Any = record
    for key in name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def has_value_at(record: dict[str, Any], name: str) -> bool:
    """Whether a row has a column, if only with a null in it."""
    if name in record:
        return True
    first, dot, rest = name.partition(".")
    inner = record.get(first)
    return bool(dot) and (has_value_at(inner, rest) if isinstance(inner, dict) else first in record and inner is None)
