"""Parts as a reader of a dataset has them: opened, and their ids counted."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.chunk import ShardSpan
from pipeline.errors import CorpusError, DamageError
from pipeline.files import open_own_parquet
from pipeline.schema import REJECTS, find_fault, width_in

N_BUCKETS = 64


MENDING = "`embed-corpus verify --repair` drops the part and a run makes it again"


@contextlib.contextmanager
def open_part(path: Path, width: int | None = None, *, has_text: bool = False) -> Iterator[pq.ParquetFile]:
    """Open a part, to be read in pieces; raises DamageError when it cannot be read or lacks the columns of one.

    Where a width is given its vectors have to have it, and with `has_text` it has to have the passages themselves.
    """
    with _open(path) as file:
        schema = file.schema_arrow
        if fault := find_fault(schema, width_in(schema) if width is None else width, has_text=has_text):
            raise DamageError(f"{path}: {fault}; {MENDING}")
        yield file


def rows_within(table: pa.Table, each: ShardSpan) -> pa.Table:
    """Return what a part, or its rejects, has of the rows of a span."""
    row, span = table.column("row"), each.span
    is_inside = pc.and_(pc.greater_equal(row, span.row_start), pc.less(row, span.row_stop))
    return table.filter(pc.and_(is_inside, pc.equal(table.column("source"), each.source)))


@contextlib.contextmanager
def open_rejects(path: Path) -> Iterator[pq.ParquetFile]:
    """Open the rejects of a part, to be read in pieces; raises DamageError as `open_part` does."""
    with _open(path) as file:
        if not file.schema_arrow.equals(REJECTS):
            names = ", ".join(file.schema_arrow.names)
            raise DamageError(f"{path}: expected columns {', '.join(REJECTS.names)}, found {names}; {MENDING}")
        yield file


@contextlib.contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with open_own_parquet(path) as file:
            yield file
    except CorpusError as error:
        raise DamageError(f"{error}; {MENDING}") from error


def count_duplicate_ids(parts: Iterable[Path]) -> int:
    """Return how many rows have the id of an earlier row; the passages of one split row count once.

    64-bit hashes of the ids are spread over temporary files, small ones in memory, by their leading bits, then counted
    file by file.
    """
    from pandas.util import hash_array

    n_duplicates = 0
    with contextlib.ExitStack() as stack:
        buckets = [stack.enter_context(tempfile.SpooledTemporaryFile(1 << 14)) for _ in range(N_BUCKETS)]
        for part in parts:
            with _open(part) as file:
                for batch in file.iter_batches(columns=["id", "passage"], use_threads=False):
                    ids = batch.column("id").filter(pc.equal(batch.column("passage"), 0))
                    hashes = hash_array(ids.to_numpy(zero_copy_only=False), categorize=False)
                    bucket_of = hashes >> np.uint64(58)
                    for index in np.unique(bucket_of):
                        buckets[index].write(hashes[bucket_of == index].tobytes())
        for bucket in buckets:
            bucket.seek(0)
            hashes = np.frombuffer(bucket.read(), np.uint64)
            n_duplicates += len(hashes) - len(np.unique(hashes))
    return n_duplicates
