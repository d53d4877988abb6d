"""Parts as a reader of a dataset has them: opened, and their ids counted."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import CorpusError, DamageError
from pipeline.files import open_own_parquet
from pipeline.schema import find_fault

N_BUCKETS = 64


@contextlib.contextmanager
def open_part(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a part, or the rejects of one, to be read in pieces; raises DamageError when it cannot be read."""
    try:
        with open_own_parquet(path) as file:
            yield file
    except CorpusError as error:
        raise DamageError(f"{error}; `embed-corpus verify --repair` drops the part and a run makes it again") from error


@contextlib.contextmanager
def open_vectors(path: Path, width: int) -> Iterator[pq.ParquetFile]:
    """Open a part that has the columns of one and vectors of a width; raises DamageError."""
    with open_part(path) as file:
        if fault := find_fault(file.schema_arrow, width):
            raise DamageError(
                f"{path}: {fault}; `embed-corpus verify --repair` drops the part and a run makes it again"
            )
        yield file


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
            with open_part(part) as file:
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
