"""Parquet shards: addressed by row, read by row group and by column."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.chunk import Span
from pipeline.corpus import parked
from pipeline.corpus.rows import Columns, Reject, Rows, as_text, render
from pipeline.files import open_parquet, parquet_file, readable

BATCH_ROWS = 4096


def schema(path: Path) -> pa.Schema:
    """Return the Arrow schema of a file; raises CorpusError when its footer cannot be read."""
    with open_parquet(path) as file:
        return file.schema_arrow


def size(path: Path) -> tuple[int, int]:
    """Return the number of rows of a file and their bytes before compression, which bound those of the texts.

    Raises CorpusError when its footer cannot be read.
    """
    # Not the bytes of the text columns alone: to ask for a column whose statistics are damaged kills the process.
    with open_parquet(path) as file:
        metadata = file.metadata
        n_bytes = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
        return metadata.num_rows, n_bytes


def field_type(schema: pa.Schema, name: str) -> pa.DataType | None:
    """Return the type of a column, or of a dotted path into structs; None where there is none."""
    if name in schema.names:
        return schema.field(name).type
    steps = name.split(".")
    kind = schema.field(steps[0]).type if steps[0] in schema.names else None
    for step in steps[1:]:
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            return None
        kind = kind.field(step).type
    return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type can be texts: strings or bytes, plain or dictionary-encoded, or nothing but nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")
    return any(getattr(pa.types, f"is_{test}")(kind) for test in tests)


def read(path: Path, source: str, span: Span, columns: Columns) -> Rows:
    """Read the rows of a span; raises CorpusError when a page of it is damaged or holds fewer than it should."""
    rows = Rows(kept=pa.table({}))
    kept: list[pa.Table] = []
    where = f" rows {span.row_start}-{span.row_stop - 1}"
    with readable(path, where, "pages that can be read"), contextlib.ExitStack() as on_leaving:
        stat = path.stat()
        key = (path, stat.st_size, stat.st_mtime_ns, columns)
        reader: _Reader | None = parked.take(key)
        if reader is not None and not reader.leads_to(span.row_start):
            reader.close()
            reader = None
        reader = reader or _Reader(path, where, columns)
        on_leaving.callback(reader.close)
        for first_row, batch in reader.batches(span):
            kept.append(_add(rows, source, first_row, batch, reader.columns))
        if rows.n_rows != span.n_rows:
            raise ValueError(f"{rows.n_rows} of {span.n_rows} rows")
        if reader.is_inside_group:
            parked.park(key, reader)
            on_leaving.pop_all()
    rows.kept = pa.concat_tables(kept) if kept else rows.kept
    return rows


class _Reader:
    """Reads a file forwards, and goes on in the middle of a row group, which can only be decoded from its start."""

    def __init__(self, path: Path, rows: str, columns: Columns) -> None:
        self._file = parquet_file(path, rows)
        if columns.id is not None and field_type(self._file.schema_arrow, columns.id) is None:
            columns = dataclasses.replace(columns, id=None)
        self.columns = columns
        metadata = self._file.metadata
        self._ends = np.cumsum([metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)])
        self._row = 0  # where the last span stopped
        self._batches: Iterator[tuple[int, pa.RecordBatch]] | None = None
        self._held: list[tuple[int, pa.RecordBatch]] = []  # the batch in which it stopped

    @property
    def is_inside_group(self) -> bool:
        """Whether the last span stopped in the middle of a row group."""
        return self._row not in self._ends

    def leads_to(self, row: int) -> bool:
        """Whether a row comes next or later in the row group where the last span stopped."""
        return bool(self._row <= row < self._ends[np.searchsorted(self._ends, self._row, side="right")])

    def batches(self, span: Span) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of a span in batches, each with its first row; the span must not lie before the last one."""
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
        columns = self.columns
        names = list(dict.fromkeys((*columns.text, *([columns.id] if columns.id else []), *columns.keep)))
        first_group = int(np.searchsorted(self._ends, row, side="right"))
        first = int(self._ends[first_group - 1]) if first_group else 0
        for group in range(first_group, len(self._ends)):
            for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=names, use_threads=False):
                yield first, batch
                first += len(batch)


def _add(rows: Rows, source: str, first_row: int, batch: pa.RecordBatch, columns: Columns) -> pa.Table:
    texts = [_strings(_column(batch, name)) for name in columns.text]
    ids = _texts(_column(batch, columns.id)) if columns.id else [None] * len(batch)
    taken: list[int] = []
    for index, values in enumerate(zip(*texts, strict=True)):
        row = first_row + index
        row_id = ids[index] or f"{source}:{row}"
        text = next((v for v in values if isinstance(v, Reject)), None) or render(values, columns)
        if isinstance(text, Reject):
            rows.rejects.append((row, row_id, text))
            continue
        taken.append(index)
        rows.row.append(row)
        rows.id.append(row_id)
        rows.text.append(text)
    kept = {name: _kept(_column(batch, name), name in columns.keep_as_text) for name in columns.keep}
    return pa.table(kept).take(np.array(taken, np.int64)) if kept else pa.table({})


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name in batch.schema.names:
        return batch.column(name)
    first, *steps = name.split(".")
    return pc.struct_field(batch.column(first), steps)


def _strings(column: pa.Array) -> list[str | Reject | None]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not pa.types.is_null(column.type):
        try:
            return column.cast(pa.large_binary()).cast(pa.large_string()).to_pylist()  # type: ignore[no-any-return]
        except pa.ArrowInvalid:
            return [_decoded(value) for value in column.cast(pa.large_binary()).to_pylist()]
    return column.to_pylist()  # type: ignore[no-any-return]


def _decoded(value: bytes | None) -> str | Reject | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        return Reject(reason="invalid_utf8", detail=str(error), text=value.decode(errors="replace") if value else None)


def _texts(column: pa.Array) -> list[str | None]:
    if pa.types.is_integer(column.type):
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    if is_text(column.type):
        return [value.text if isinstance(value, Reject) else value for value in _strings(column)]
    return [as_text(value) for value in column.to_pylist()]


def _kept(column: pa.Array, as_string: bool) -> pa.Array:
    if as_string:
        return pa.array(_texts(column), pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        if pa.types.is_nested(column.type):
            raise
        return pa.array(_texts(column), column.type)
    return column
