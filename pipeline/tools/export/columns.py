"""Columns: the passages of a dataset as tables that have its vectors in another form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.schema import EMBEDDING
from pipeline.tools.export.place import KEY
from pipeline.tools.passages import Passages, Vectors

Form = Callable[[Vectors], NDArray[Any]]  # of vectors, shape (n, dim), as numbers, shape (n, width)


def as_tables(passages: Passages, form: Form) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Return every column of a dataset with its vectors in another form: the schema, and the tables piece by piece."""
    columns = passages.schema()
    kind = _as_column(form(np.zeros((1, passages.dim), np.float32))).type
    schema = columns.append(pa.field(EMBEDDING, kind))

    def tables() -> Iterator[pa.Table]:
        for table, vectors in passages.pieces(columns.names):
            whole = pa.concat_tables([columns.empty_table(), table], promote_options="permissive")
            yield whole.append_column(schema.field(EMBEDDING), _as_column(form(vectors)))

    return schema, tables()


def write_parquet(path: Path, schema: pa.Schema, tables: Iterator[pa.Table], about: dict[str, Any]) -> None:
    """Write a file of the tables, a row group for each, with `about` in its metadata."""
    schema = schema.with_metadata({KEY: json.dumps(about)})
    plain = [name for name in schema.names if name != EMBEDDING]
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=plain) as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def _as_column(numbers: NDArray[Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), numbers.shape[1])
