"""pgvector: a folder with `schema.sql`, which makes a table, and `vectors.copy`, which COPY reads into it.

The file is in PostgreSQL's binary format, which is exact and smaller than text. A row is the number of its fields and
then each field after its length in bytes; numbers begin with their highest byte.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.tools.export.ids import IDS
from pipeline.tools.passages import Passages, Vectors

MAX_DIM = 16_000  # of a vector in pgvector
SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no extension
END = b"\xff\xff"
SQL_TYPES = {pa.string(): "text", pa.int64(): "bigint", pa.int32(): "integer"}
NUL, REPLACEMENT = "\0", "\ufffd"  # no text in PostgreSQL has a NUL


def to_pgvector(passages: Passages, path: Path, about: dict[str, Any]) -> None:
    """Write the folder; raises UsageError for more dims than pgvector takes."""
    if passages.dim > MAX_DIM:
        raise UsageError(
            f"export --to pgvector: expected {MAX_DIM:,} dims at most, found {passages.dim:,}; `slice` cuts them"
        )
    fields = [*IDS, *(field for field in passages.schema() if field.equals(pa.field("text", pa.string())))]
    nothing = pa.schema(fields).empty_table()
    path.mkdir()
    (path / "schema.sql").write_text(_sql(fields, passages.dim), encoding="utf-8")
    with (path / "vectors.copy").open("wb") as file:
        file.write(SIGNATURE)
        for table, vectors in passages.pieces([field.name for field in fields]):
            whole = pa.concat_tables([nothing, table], promote_options="permissive")  # null where a part has no texts
            file.write(_rows([whole.column(field.name) for field in fields], vectors))
        file.write(END)


def _sql(fields: list[pa.Field], dim: int) -> str:
    columns = [f'"{field.name}" {SQL_TYPES[field.type]}' for field in fields]
    listed = ",\n    ".join([*columns, f"embedding vector({dim})"])
    return (
        f"CREATE EXTENSION IF NOT EXISTS vector;\nCREATE TABLE passages (\n    {listed},\n"
        '    PRIMARY KEY (source, "row", passage)\n);\n'
    )


def _rows(columns: list[pa.ChunkedArray], vectors: Vectors) -> pa.Buffer:
    """Return rows of the binary format, put together by Arrow without an object for each."""
    n, dim = vectors.shape
    n_fields = _bytes_of(np.full((n, 1), len(columns) + 1, ">i2"))
    vector = np.empty((n, 8 + 4 * dim), np.uint8)
    vector[:, :8] = np.frombuffer(struct.pack(">ihh", 4 + 4 * dim, dim, 0), np.uint8)
    vector[:, 8:] = vectors.astype(">f4").view(np.uint8)
    fields = [piece for column in columns for piece in _field(column.combine_chunks())]
    _, ends, data = pc.binary_join_element_wise(n_fields, *fields, _bytes_of(vector), b"").buffers()
    return data.slice(0, int(np.frombuffer(ends, np.int32)[n]))


def _field(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return the length of each value in bytes, -1 for null, and the value."""
    if pa.types.is_string(column.type):
        values = pc.replace_substring(column, NUL, REPLACEMENT).cast(pa.binary())
    else:
        numbers = column.to_numpy()
        values = _bytes_of(numbers.astype(numbers.dtype.newbyteorder(">"))[:, None])
    lengths = pc.binary_length(values).fill_null(-1).to_numpy()
    return _bytes_of(lengths.astype(">i4")[:, None]), values.fill_null(b"")


def _bytes_of(numbers: NDArray[Any]) -> pa.Array:
    """Return each row of an array, shape (n, width), as its bytes."""
    flat = np.ascontiguousarray(numbers)
    width = flat.shape[1] * flat.itemsize
    return pa.Array.from_buffers(pa.binary(width), len(flat), [None, pa.py_buffer(flat)]).cast(pa.binary())
