"""The scan: every vector of a dataset against one, part by part, with the best of each kept and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.dataset import Receipt, Store, open_part
from pipeline.errors import UsageError
from pipeline.schema import EMBEDDING
from pipeline.tools.search.mask import mask
from pipeline.tools.search.where import Condition, columns_of
from pipeline.vectors import to_numpy

PIECE_ROWS = 4096  # of vectors that are numbers at a time, in each thread
KEPT_BYTES = 1 << 30  # of vectors in memory; a larger dataset is read for each query
MAX_THREADS = 8

Vector = NDArray[np.float32]  # shape (dim,), of unit length
# The first row of a piece, the cosine of each row, and which rows count (None: all).
Scored = tuple[int, NDArray[np.float32], NDArray[np.bool_] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best entries of a scan, best first, those of equal score in the order of the dataset; all of shape (n,)."""

    scores: NDArray[np.float32]
    parts: NDArray[np.int64]  # at which place of the receipts
    rows: NDArray[np.int64]  # of the part, from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The vectors of the parts of a dataset; those that were read are kept where `keeps`, if all of them fit."""

    store: Store
    receipts: tuple[Receipt, ...]
    dim: int
    keeps: bool = False
    kept: dict[tuple[str, str], NDArray[np.float16]] = field(default_factory=dict)  # by part and its checksum

    def best(self, vector: Vector, n: int, where: Condition | None = None) -> Best:
        """Return the `n` entries with the largest cosine to a vector, of those that meet a condition.

        In memory are one piece of a part for each thread, and the vectors where they are kept. Raises DamageError for a
        part that cannot be read or whose vectors are not finite, and UsageError for a condition on a column that a part
        has not or not in such a type.
        """
        found = [Best(scores=np.empty(0, np.float32), parts=np.empty(0, np.int64), rows=np.empty(0, np.int64))]
        pool = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1), "scan")
        try:
            # A thread for each part: those of BLAS would wait for each other.
            with threadpool_limits(limits=1, user_api="blas"):
                for best in pool.map(lambda at: self._best_of(at, vector, n, where), range(len(self.receipts))):
                    found = [_merged(found[0], best, n)]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return found[0]

    def _best_of(self, at: int, vector: Vector, n: int, where: Condition | None) -> Best:
        """Return the best entries of one part."""
        scores, rows = np.empty(0, np.float32), np.empty(0, np.int64)
        for first, found, is_met in self._scored(self.receipts[at], vector, where):
            least = scores[-1] if len(scores) == n else -np.inf
            here = np.flatnonzero(found > least if is_met is None else (found > least) & is_met)
            if len(here):
                scores, rows = _first(np.concatenate([scores, found[here]]), np.concatenate([rows, first + here]), n)
        return Best(scores=scores, parts=np.full(len(rows), at), rows=rows)

    def _scored(self, receipt: Receipt, vector: Vector, where: Condition | None) -> Iterator[Scored]:
        """Yield the pieces of a part; row groups of which no row meets the condition are left out."""
        kept = self.kept.get((receipt.part, receipt.checksum))
        if kept is not None and where is None:
            yield from _scored(kept, vector, 0, None)
            return
        with open_part(self.store.data_path(receipt.part), self.dim) as file:
            is_met = None if where is None else _mask(file, where)
            if self._keeps_all:
                kept = self._kept(receipt, file) if kept is None else kept
                yield from _scored(kept, vector, 0, is_met)
                return
            first = 0
            for group in range(file.num_row_groups):
                n_rows = file.metadata.row_group(group).num_rows
                here = None if is_met is None else is_met[first : first + n_rows]
                if here is None or here.any():
                    for start, vectors in _read(file, group):
                        inside = None if here is None else here[start : start + len(vectors)]
                        yield from _scored(vectors, vector, first + start, inside)
                first += n_rows

    @property
    def _keeps_all(self) -> bool:
        return self.keeps and 2 * self.dim * sum(receipt.passages for receipt in self.receipts) <= KEPT_BYTES

    def _kept(self, receipt: Receipt, file: pq.ParquetFile) -> NDArray[np.float16]:
        """Return all vectors of a part, and keep them."""
        if file.metadata.num_rows != receipt.passages:
            raise ValueError(f"{file.metadata.num_rows:,} passages where its receipt says {receipt.passages:,}")
        pieces = [vectors for group in range(file.num_row_groups) for _, vectors in _read(file, group)]
        kept: NDArray[np.float16] = np.concatenate([np.empty((0, self.dim), np.float16), *pieces])
        self.kept[receipt.part, receipt.checksum] = kept
        return kept


def _scored(
    vectors: NDArray[np.float16], vector: Vector, first: int, is_met: NDArray[np.bool_] | None
) -> Iterator[Scored]:
    """Yield pieces of vectors with the place of the first; raises ValueError for vectors that are not finite."""
    for start in range(0, len(vectors), PIECE_ROWS):
        here = slice(start, start + PIECE_ROWS)
        with np.errstate(all="ignore"):
            found = vectors[here].astype(np.float32) @ vector
        if not np.isfinite(found).all():
            raise ValueError("vectors that are not finite")
        yield first + start, found, None if is_met is None else is_met[here]


def _read(file: pq.ParquetFile, group: int) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Yield the vectors of a row group in pieces, each with the place of its first in the group."""
    first = 0
    for batch in file.iter_batches(PIECE_ROWS, row_groups=[group], columns=[EMBEDDING], use_threads=False):
        yield first, to_numpy(pa.chunked_array([batch.column(0)]))
        first += len(batch)


def _mask(file: pq.ParquetFile, where: Condition) -> NDArray[np.bool_]:
    """Return for each row of a part whether it meets a condition, shape (n,); reads the columns of the condition."""
    names = columns_of(where)
    present = [name for name in names if name in file.schema_arrow.names]
    found = [np.empty(0, np.bool_)]
    for batch in file.iter_batches(PIECE_ROWS, columns=present or ["row"], use_threads=False):
        table = pa.Table.from_batches([batch])
        for name in set(names) - set(present):  # a part of before the column was kept
            table = table.append_column(name, pa.nulls(len(table)))
        found.append(mask(where, table))
    return np.concatenate(found)


def _merged(one: Best, other: Best, n: int) -> Best:
    scores, at = _first(np.concatenate([one.scores, other.scores]), np.arange(len(one.rows) + len(other.rows)), n)
    parts, rows = np.concatenate([one.parts, other.parts]), np.concatenate([one.rows, other.rows])
    return Best(scores=scores, parts=parts[at], rows=rows[at])


def _first(
    scores: NDArray[np.float32], rows: NDArray[np.int64], n: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the n best scores and their rows, best first; of equal ones the first row comes first."""
    order = np.lexsort((rows, -scores))[:n]
    return scores[order], rows[order]


def check_columns(scan: Scan, where: Condition) -> None:
    """Raise UsageError where a condition names a column that no part has, with the columns that there are."""
    missing, known = set(columns_of(where)), dict[str, None]()
    for receipt in scan.receipts:
        with open_part(scan.store.data_path(receipt.part), scan.dim) as file:
            known |= dict.fromkeys(name for name in file.schema_arrow.names if name != EMBEDDING)
        missing -= known.keys()
        if not missing:
            return
    if known:
        raise UsageError(f"--where: expected columns of the dataset, {', '.join(known)}, found {min(missing)}")
