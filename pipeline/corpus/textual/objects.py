"""Rows that are JSON objects, each in bytes of its own: lines, or the elements of an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.chunk import MAX_LINE_BYTES
from pipeline.corpus.partitions import given_columns
from pipeline.corpus.rows import Columns, Reject, Rows, as_id, as_text, no_column, render
from pipeline.corpus.tabular.declared import as_declared
from pipeline.corpus.tabular.types import TEXTS
from pipeline.corpus.textual.byte_reader import ByteReader
from pipeline.corpus.textual.lines import is_blank
from pipeline.corpus.textual.record import add_kinds, has_value_at, parse, value_at
from pipeline.errors import CorpusError
from pipeline.schema import kept_name


class ObjectReader(ByteReader):
    """A file of JSON objects. The folders it is in give each the columns that it does not have itself."""

    def __init__(self, path: Path, source: str) -> None:
        super().__init__(path, source)
        self._given = given_columns(source)

    def _first_records(self) -> list[dict[str, Any]]:
        """Return the first objects of the file; raises CorpusError for a file of another kind."""
        raise NotImplementedError

    def column_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        """Return the columns that the first objects have, without types: the rows alone tell those. What a folder gives
        is text."""
        records = [{**self._given, **record} for record in self._first_records()]
        has = dict.fromkeys(key for record in records for key in record)
        missing = [name for name in needed if not any(has_value_at(record, name) for record in records)]
        if records and missing:
            raise no_column(self._path, missing[0], tuple(has))
        paths = [name for name in columns.keep if any(has_value_at(record, name) for record in records)]
        return {**dict.fromkeys((*has, *paths)), **dict.fromkeys(self._given, pa.string())}

    def rows_of(
        self, objects: Sequence[bytes], first_row: int, rejects: Mapping[int, Reject], columns: Columns
    ) -> Rows:
        """Return the rows that objects are, one after the other; blank ones are none.

        `rejects` says why some are none, by their rows.
        """
        rows = Rows(kept=pa.table({}), kinds={name: set() for name in columns.keep})
        kept: list[list[Any]] = [[] for _ in columns.keep]
        add_kinds(rows.kinds, objects, MAX_LINE_BYTES)
        for row, data in enumerate(objects, first_row):
            if is_blank(data):
                continue
            record = rejects.get(row) or parse(data)
            row_id = f"{self._source}:{row}"
            if isinstance(record, Reject):
                rows.rejects.append((row, row_id, record))
                continue
            if self._given:
                record = {**self._given, **record}
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
        found = {
            name: self._kept(name, values, pa.string() if name in columns.declared else types.get(kept_name(name)))
            for name, values in zip(columns.keep, kept, strict=True)
        }
        found = as_declared(found, rows, 0, columns)
        rows.kept = pa.table({kept_name(name): values for name, values in found.items()})
        return rows

    def _kept(self, name: str, values: list[Any], kind: pa.DataType | None) -> pa.Array:
        if kind is None or kind in TEXTS:
            return pa.array(map(as_text, values), kind or pa.string())
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise CorpusError(
                f"{self._path}: expected values of type {kind} in the kept column {name!r}, found: {error}; run again"
            ) from error
