"""INT96: times in nanoseconds over all years, for which Arrow has types up to microseconds only."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.files import parquet_file

BATCH_ROWS = 1 << 14


def int96_columns(file: pq.ParquetFile, names: Collection[str]) -> list[str]:
    """Return which of these columns, or of these paths into structs, hold INT96 at any depth."""
    leaves = [file.metadata.schema.column(index) for index in range(len(file.metadata.schema))]
    paths = [f"{leaf.path}." for leaf in leaves if leaf.physical_type == "INT96"]
    return [name for name in names if any(path.startswith(f"{name}.") for path in paths)]


def check_int96(path: Path, file: pq.ParquetFile, group: int, names: Collection[str]) -> None:
    """Raise ValueError where a row group has a time that is no whole number of microseconds in these columns."""
    with parquet_file(path, int96_unit="ns") as finer:  # right for the years 1678 to 2262, a random time beyond
        batches = (
            each.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(names), use_threads=False)
            for each in (file, finer)
        )
        for in_us, in_ns in zip(*batches, strict=True):
            for name, *columns in zip(in_us.schema.names, in_us.columns, in_ns.columns, strict=True):
                for us, ns in zip(*map(_times, columns), strict=True):
                    if np.any((ns // 1000 == us) & (ns % 1000 != 0)):
                        raise ValueError(f"a time in nanoseconds in the INT96 column {name!r}, where microseconds fit")


def _times(column: pa.Array) -> Iterator[NDArray[np.int64]]:
    """Yield the timestamps at each leaf of a column as integers, nulls left out."""
    if pa.types.is_timestamp(column.type):
        yield column.drop_null().cast(pa.int64()).to_numpy()
    elif pa.types.is_struct(column.type):
        for inner in column.flatten():
            yield from _times(inner)
    elif pa.types.is_map(column.type):
        yield from (*_times(column.keys), *_times(column.items))
    elif pa.types.is_nested(column.type):
        yield from _times(column.flatten())
