"""Record batches: what the readers of tables share, the types of their columns and the rows of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.corpus.blocks import Block
from pipeline.corpus.partitions import given_columns
from pipeline.corpus.rows import Columns, Reject, Rows, ids_of_rows, no_column
from pipeline.corpus.tabular.arrow import (
    byte_lengths,
    column_of,
    field_type,
    is_plain,
    is_text,
    to_ids,
    to_kept,
    to_strings,
)
from pipeline.corpus.tabular.declared import as_declared, can_be
from pipeline.corpus.tabular.types import plain_type
from pipeline.corpus.texts import render, render_all
from pipeline.errors import CorpusError
from pipeline.files import UNREADABLE
from pipeline.schema import kept_name

PLAIN_BYTES = 8  # of a number or a date in a text, about


class Table:
    """A file of columns: a name for what is said of it, and the columns that its folders give where it has none."""

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self.source = source
        self.given = given_columns(source)

    def column_types(self, schema: pa.Schema, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        """Return the plain type of each column, and of each kept path into structs.

        Raises CorpusError for a column that is not there, that is there twice, or that has no texts.
        """
        self._check_once(schema, (*needed, *columns.keep, "id"))
        schema = self._with_given(schema)
        types = dict(zip(schema.names, schema.types, strict=True))
        types |= {name: field_type(schema, name) for name in (*needed, *columns.keep)}
        for name in (*needed, *columns.keep):
            kind = types[name]
            if kind is None:
                raise no_column(self.path, name, schema.names)
            if name in columns.text and not (is_text(kind) or (columns.template and is_plain(kind))):
                error = CorpusError(f"{self.path}: expected text in column {name!r}, found {kind}")
                error.column = name
                raise error
            if name in columns.declared and not can_be(kind, columns.declared[name]):
                raise CorpusError(
                    f"{self.path}: expected values that can be {columns.declared[name]} (corpus.types) in column "
                    f"{name!r}, found {kind}"
                )
        return {name: plain_type(kind) for name, kind in types.items() if kind is not None}

    def names_in(self, schema: pa.Schema, columns: Columns) -> list[str]:
        """Return the columns of the file that are read, each once; the first of all where folders give all of them.

        Raises CorpusError for a column that neither has, or that is there twice.
        """
        wanted = dict.fromkeys((*columns.text, *columns.keep, *([columns.id] if columns.id else [])))
        self._check_once(schema, tuple(wanted))
        found = [name for name in wanted if field_type(schema, name) is not None]
        if missing := [name for name in wanted if name not in (*found, *self.given, columns.id)]:
            raise no_column(self.path, missing[0], schema.names)
        return found or schema.names[:1]

    def add(self, rows: Rows, numbers: Sequence[int], batch: pa.RecordBatch, columns: Columns) -> pa.Table:
        """Add the rows of a batch, by their numbers, and return the kept columns of those that have a text."""
        batch = self._filled(batch)
        texts = [_values(column_of(batch, name)) for name in columns.text]
        has_id = columns.id is not None and field_type(batch.schema, columns.id) is not None
        ids = to_ids(column_of(batch, columns.id)) if has_id and columns.id else [None] * len(batch)
        n_before = len(rows.row)
        taken = rows.add(numbers, ids_of_rows(ids, self.source, numbers), render_all(texts, columns))
        if not columns.keep:
            return pa.table({})
        types = columns.types
        own = {name: {} if name in columns.declared else types for name in columns.keep}
        kept = {name: self._kept(name, column_of(batch, name), own[name]) for name in columns.keep}
        if taken is not None:
            kept = {name: values.take(pa.array(taken, pa.int64())) for name, values in kept.items()}
        found = as_declared(kept, rows, n_before, columns)
        return pa.table({kept_name(name): values for name, values in found.items()})

    def block(self, batch: pa.RecordBatch, share: float, columns: Columns) -> Block:
        """Return the rows of a batch, which is a share of its file, for an estimate: their texts alone count."""
        whole = self._filled(batch)
        sizes = np.zeros(len(batch), np.int64)
        for name in columns.text:
            column = column_of(whole, name)
            sizes += byte_lengths(column) if is_text(column.type) else PLAIN_BYTES

        def texts(numbers: Sequence[int]) -> list[str | None]:
            some = whole.take(pa.array(numbers, pa.int64()))
            values = zip(*(_values(column_of(some, name)) for name in columns.text), strict=True)
            found = (render(each, columns) for each in values)
            return [None if isinstance(text, Reject) else text for text in found]

        return Block(share=share, n_bytes=int(sizes.sum()), sizes=sizes, texts=texts)

    def _filled(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch with the columns that folders give."""
        for name, value in self.given.items():
            if name not in batch.schema.names:
                batch = batch.append_column(name, pa.array([value] * len(batch), pa.string()))
        return batch

    def _kept(self, name: str, column: pa.Array, types: Mapping[str, pa.DataType]) -> pa.Array:
        kind = types.get(kept_name(name)) or plain_type(column.type)
        try:
            return to_kept(column, kind)
        except UNREADABLE as error:
            raise CorpusError(
                f"{self.path}: expected values of type {kind} in the kept column {name!r}, found: {error}; mend them "
                "or leave the column out of corpus.keep"
            ) from error

    def _check_once(self, schema: pa.Schema, names: Sequence[str]) -> None:
        for name in names:
            if schema.names.count(name.partition(".")[0]) > 1:
                raise CorpusError(f"{self.path}: expected one column {name!r}, found several of that name")

    def _with_given(self, schema: pa.Schema) -> pa.Schema:
        fields = [pa.field(name, pa.string()) for name in self.given if name not in schema.names]
        return pa.schema([*schema, *fields])


def _values(column: pa.Array) -> Sequence[str | Reject | None]:
    return to_strings(column) if is_text(column.type) else to_ids(column)


def joined(kept: Iterable[pa.Table]) -> pa.Table:
    """Return the kept columns of several batches as one table; nothing for none."""
    tables = list(kept)
    return pa.concat_tables(tables) if tables else pa.table({})
