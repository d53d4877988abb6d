"""Rows that are JSON objects, each in bytes of its own: lines, or the elements of an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from pipeline.corpus.partitions import given_columns
from pipeline.corpus.rows import Columns, Reject, Rows, ids_of_rows, no_column
from pipeline.corpus.sniff.misnamed import check_object
from pipeline.corpus.tabular.declared import as_declared
from pipeline.corpus.tabular.types import TEXTS
from pipeline.corpus.texts import as_ids, as_texts, render_all
from pipeline.corpus.textual.byte_reader import ByteReader
from pipeline.corpus.textual.record import Records, add_kinds_of, has_value_at, values_at
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
        own = self._first_records()
        records = [{**self._given, **record} for record in own]
        has = dict.fromkeys(key for record in records for key in record)
        missing = [name for name in needed if not any(has_value_at(record, name) for record in records)]
        if len(own) == 1 and (missing or any(isinstance(own[0].get(name), dict) for name in needed)):
            check_object(self._path, own[0])
        if records and missing:
            raise no_column(self._path, missing[0], tuple(has))
        paths = [name for name in columns.keep if any(has_value_at(record, name) for record in records)]
        return {**dict.fromkeys((*has, *paths)), **dict.fromkeys(self._given, pa.string())}

    def rows_of(
        self, batches: Iterable[Records], first_row: int, rejects: Mapping[int, Reject], columns: Columns
    ) -> Rows:
        """Return the rows that records are, one after the other; those that are None are none.

        `rejects` says why some are none, by their rows.
        """
        rows = Rows(kept=pa.table({}), kinds={name: set() for name in columns.keep})
        values: dict[str, list[Any]] = {name: [] for name in columns.keep}
        for records in batches:
            numbers = range(first_row, first_row := first_row + len(records))
            if rejects:
                found = zip(numbers, records, strict=True)
                records = [None if record is None else rejects.get(row, record) for row, record in found]
            with_text = self._add(rows, numbers, records, columns)
            for name in columns.keep:
                values[name] += values_at(with_text, name)
        types = columns.types
        kept = {
            name: self._kept(name, each, pa.string() if name in columns.declared else types.get(kept_name(name)))
            for name, each in values.items()
        }
        kept = as_declared(kept, rows, 0, columns)
        rows.kept = pa.table({kept_name(name): each for name, each in kept.items()})
        return rows

    def _add(self, rows: Rows, numbers: Sequence[int], found: Records, columns: Columns) -> Sequence[Mapping[str, Any]]:
        """Add what was found by its rows, in their order; return the objects that have a text."""
        wrong: list[tuple[int, str, Reject]] = []
        records = cast("Sequence[dict[str, Any]]", found)
        if set(map(type, found)) != {dict}:
            by_row = list(zip(numbers, found, strict=True))
            wrong = [(row, f"{self._source}:{row}", why) for row, why in by_row if isinstance(why, Reject)]
            numbers = [row for row, record in by_row if isinstance(record, dict)]
            records = [record for record in found if isinstance(record, dict)]
        add_kinds_of(rows.kinds, records)
        if self._given:
            records = [{**self._given, **record} for record in records]
        ids = as_ids(values_at(records, columns.id)) if columns.id is not None else [None] * len(records)
        texts = render_all([values_at(records, name) for name in columns.text], columns)
        n_before = len(rows.rejects)
        taken = rows.add(numbers, ids_of_rows(ids, self._source, numbers), texts)
        rows.rejects[n_before:] = sorted([*rows.rejects[n_before:], *wrong], key=itemgetter(0))
        return records if taken is None else [records[at] for at in taken]

    def _kept(self, name: str, values: list[Any], kind: pa.DataType | None) -> pa.Array:
        if kind is None or kind in TEXTS:
            return pa.array(as_texts(values), kind or pa.string())
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise CorpusError(
                f"{self._path}: expected values of type {kind} in the kept column {name!r}, found: {error}; run again"
            ) from error
