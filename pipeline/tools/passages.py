"""Passages: those of a dataset in its order, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.dataset import Dataset, Manifest, Receipt, Store, open_part, width_of
from pipeline.errors import DamageError, IncompleteError, UsageError
from pipeline.schema import EMBEDDING, PART
from pipeline.vectors import invalid_rows, to_numpy

PIECE_BYTES = 4 << 20  # of a piece in memory
Vectors = NDArray[np.float32]  # shape (n, dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passages:
    """The passages of a dataset, in the order of the names of its parts, as other readers of data/ have them."""

    store: Store
    dataset: Dataset
    receipts: tuple[Receipt, ...]
    dim: int

    def __len__(self) -> int:
        return sum(receipt.passages for receipt in self.receipts)

    def pieces(self, columns: Sequence[str] = ()) -> Iterator[tuple[pa.Table, Vectors]]:
        """Yield some columns and the vectors of every passage; all are checked.

        Raises DamageError for a part that cannot be read, or that is not what its receipt says.
        """
        for receipt in self.receipts:
            names, n_rows = [*columns, EMBEDDING], 0
            with open_part(self.store.data_path(receipt.part), self.dim) as file:
                for batch in file.iter_batches(self._piece_rows(file), columns=names, use_threads=False):
                    table = pa.Table.from_batches([batch])
                    vectors = to_numpy(table.column(EMBEDDING))
                    if invalid_rows(vectors).any():
                        raise ValueError("vectors that are not finite or not of unit length")
                    n_rows += len(table)
                    yield table.drop_columns([EMBEDDING]), vectors.astype(np.float32)
                if n_rows != receipt.passages:
                    raise ValueError(f"{n_rows:,} passages where its receipt says {receipt.passages:,}")

    def vectors(self) -> Iterator[Vectors]:
        """Yield the vectors of every passage as `pieces` does."""
        return (vectors for _, vectors in self.pieces())

    def _piece_rows(self, file: pq.ParquetFile) -> int:
        """How many passages of a part are in memory at a time."""
        groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
        row_bytes: int = sum(group.total_byte_size for group in groups) // max(1, file.metadata.num_rows)
        return max(1, PIECE_BYTES // max(4 * self.dim, row_bytes))

    def schema(self) -> pa.Schema:
        """Return the columns that the parts have beside the vectors; one that some parts lack is null there.

        Raises DamageError as `pieces` does, and IncompleteError where parts have a column in types that do not agree.
        """
        found: list[pa.Schema] = []
        for receipt in self.receipts:
            with open_part(self.store.data_path(receipt.part), self.dim) as file:
                schema = file.schema_arrow.remove_metadata()
            if schema not in found:
                found.append(schema)
        if not found:
            return PART
        try:
            joined = pa.unify_schemas(found, promote_options="permissive")
        except pa.ArrowException as error:
            raise IncompleteError(
                f"dataset {self.store.root}: expected each column in one type, found {error}; `embed-corpus run` makes "
                "the parts alike"
            ) from error
        return joined.remove(joined.get_field_index(EMBEDDING))


def passages_of(store: Store, manifest: Manifest, *, may_be_none: bool = False) -> Passages:
    """Return the passages of a dataset; raises DamageError for one without a width and UsageError for an empty one."""
    if manifest.dataset is None:
        raise DamageError(f"dataset {store.root}: the manifest has no dataset line; `embed-corpus run` mends it")
    receipts = tuple(manifest.receipts[part] for part in sorted(manifest.receipts) if manifest.receipts[part].passages)
    if not receipts and not may_be_none:
        raise UsageError(f"dataset {store.root}: expected passages, found none; `embed-corpus run` makes them")
    return Passages(store=store, dataset=manifest.dataset, receipts=receipts, dim=width_of(manifest.dataset))
