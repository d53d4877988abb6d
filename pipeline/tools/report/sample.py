"""Sample: some passages of a dataset with their vectors, by a fixed seed, at a price that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.dataset import Dataset, open_part
from pipeline.schema import EMBEDDING
from pipeline.tools.passages import Passages, Vectors
from pipeline.vectors import invalid_rows, to_numpy

SEED = 0
MAX_PASSAGES = 5_000
MAX_PARTS = 200  # that are opened
MAX_GROUPS = 400  # of rows, some MB each, that are read
SHOWN = 240  # characters of a text
COLUMNS = ["id", "source", "n_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Some passages, in the order of the dataset; each list and array has an entry a passage."""

    dataset: Dataset
    ids: list[str]
    sources: list[str]
    n_tokens: list[int]
    texts: list[str]  # their beginnings; empty without a column `text`
    unit: Vectors  # shape (n, dim)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return int(self.unit.shape[1])

    def vectors(self) -> Iterator[Vectors]:
        """Yield the vectors, all at once."""
        yield self.unit


def draw(passages: Passages) -> Sample:
    """Return at most MAX_PASSAGES passages, each as likely as any other up to the clustering that bounds the reading.

    Raises DamageError for a part that cannot be read, or whose vectors are none.
    """
    random = np.random.default_rng(SEED)
    sizes = np.array([receipt.passages for receipt in passages.receipts])
    chosen = np.arange(len(sizes))
    if len(sizes) > MAX_PARTS:
        chosen = np.sort(random.choice(len(sizes), MAX_PARTS, replace=False, p=sizes / sizes.sum()))
    quota = random.multivariate_hypergeometric(sizes[chosen], min(MAX_PASSAGES, int(sizes[chosen].sum())))
    groups_each = -(-MAX_GROUPS // len(chosen))
    tables: list[pa.Table] = []
    for index, n in zip(chosen, quota, strict=True):
        with open_part(passages.store.data_path(passages.receipts[index].part), passages.dim) as file:
            tables += _drawn(file, int(n), groups_each, random)
    table = pa.concat_tables(tables, promote_options="default")
    text = table.column("text").to_pylist() if "text" in table.column_names else []
    return Sample(
        dataset=passages.dataset,
        ids=table.column("id").to_pylist(),
        sources=table.column("source").to_pylist(),
        n_tokens=table.column("n_tokens").to_pylist(),
        texts=text,
        unit=to_numpy(table.column(EMBEDDING)).astype(np.float32),
    )


def _drawn(file: pq.ParquetFile, n: int, n_groups: int, random: np.random.Generator) -> Iterator[pa.Table]:
    """Yield `n` passages of a part, or as many as its groups hold that are read, in their order."""
    has_text = "text" in file.schema_arrow.names
    columns = [*COLUMNS, *(["text"] if has_text else []), EMBEDDING]
    groups = np.sort(random.permutation(file.num_row_groups)[:n_groups])
    sizes = [file.metadata.row_group(int(group)).num_rows for group in groups]
    quota = random.multivariate_hypergeometric(sizes, min(n, sum(sizes)))
    for group, n_rows, n_drawn in zip(groups, sizes, quota, strict=True):
        if not n_drawn:
            continue
        rows: NDArray[np.int64] = np.sort(random.choice(n_rows, int(n_drawn), replace=False))
        table = file.read_row_group(int(group), columns=columns, use_threads=False).take(rows).combine_chunks()
        if invalid_rows(to_numpy(table.column(EMBEDDING))).any():
            raise ValueError("vectors that are not finite or not of unit length")
        if has_text:
            shown = [None if text is None else str(text)[:SHOWN] for text in table.column("text").to_pylist()]
            table = table.set_column(table.column_names.index("text"), "text", pa.array(shown, pa.string()))
        yield table


def flattened(vectors: Vectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first two principal components of some vectors, shape (n, 2), and the share of the variance of each.

    The subspace is found by power iteration from a fixed seed, which for two components takes a fraction of a whole
    decomposition (Halko, Martinsson and Tropp, 2011). The signs are those with the largest value positive.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    n_columns = min(12, *centred.shape)
    basis = np.random.default_rng(SEED).standard_normal((centred.shape[1], n_columns))
    for _ in range(8):
        basis, _ = np.linalg.qr(centred.T @ (centred @ basis))
    left, lengths, _ = np.linalg.svd(centred @ basis, full_matrices=False)
    places = np.zeros((len(vectors), 2))
    found = left[:, :2] * lengths[:2]
    places[:, : found.shape[1]] = found
    largest = places[np.argmax(np.abs(places), axis=0), [0, 1]]
    shares = np.zeros(2)
    shares[: found.shape[1]] = lengths[:2] ** 2 / max(float((centred**2).sum()), 1e-12)
    return places * np.where(largest < 0, -1.0, 1.0), shares
