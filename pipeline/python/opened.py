"""An opened dataset: its ids, vectors and columns, and search in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import dataset
from pipeline.dataset import Manifest, Store
from pipeline.errors import DamageError, UsageError
from pipeline.schema import EMBEDDING
from pipeline.shipped import find_config
from pipeline.tools import embed_query, nearest, own_config, passages_of

if TYPE_CHECKING:
    import pandas as pd


def open_dataset(path: str | Path) -> OpenedDataset:
    """Return the dataset in a folder, as it is now; says by a warning when rows of it are missing.

    Nothing of a dataset is executed. Raises UsageError for a folder that holds none, and DamageError for a manifest or
    a folder that is not as a run leaves it.
    """
    store = Store(root=Path(path))
    opened = OpenedDataset(store, dataset.open_dataset(store))
    found = opened.status()
    if found["state"] != "complete":
        n_rows, n_planned = found["input_rows"], found["planned_rows"]
        warnings.warn(
            f"dataset {path}: {found['state']}, with {n_rows:,} of {n_planned:,} rows; `embed-corpus run` completes it",
            stacklevel=2,
        )
    return opened


class OpenedDataset:
    """The passages of a dataset as it was when it was opened, in the order of the names of its parts.

    `ids()[i]`, `vectors()[i]` and row i of `to_pandas()` are of one passage; the passages of a row that was split have
    its id. Whatever reads parts raises DamageError for one that is damaged, or that a run has replaced since: open the
    dataset again then.
    """

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._passages = passages_of(store, manifest, may_be_none=True)

    def __repr__(self) -> str:
        model = self._passages.dataset.recipe.get("model.name")
        return f"<dataset {self._store.root}: {len(self):,} vectors of {self.dim} components by {model}>"

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self._passages)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._passages.dim

    def status(self) -> dict[str, Any]:
        """Return the object of `status --json`."""
        return dataset.status(self._store, self._manifest)

    def ids(self) -> list[str]:
        """Return the id of every passage."""
        return [name for table, _ in self._passages.pieces(["id"]) for name in table.column("id").to_pylist()]

    def vectors(self) -> NDArray[np.float32]:
        """Return all vectors, shape (n, dim), of unit length."""
        return self._filled(self._passages.vectors())

    def iter_vectors(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield ids and their vectors, shape (m, dim), a few MB at a time."""
        for table, vectors in self._passages.pieces(["id"]):
            yield table.column("id").to_pylist(), vectors

    def to_pandas(self) -> pd.DataFrame:
        """Return every column of the dataset, `embedding` with an array of float32 a row.

        Raises IncompleteError where the parts have a column in types that do not agree.
        """
        columns = self._passages.schema()
        tables: list[pa.Table] = [columns.empty_table()]

        def looked_at() -> Iterator[NDArray[np.float32]]:
            for table, vectors in self._passages.pieces(columns.names):
                tables.append(table)
                yield vectors

        vectors = self._filled(looked_at())
        frame: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        frame[EMBEDDING] = list(vectors)
        return frame

    def search(
        self, query: str, k: int = 10, *, config: str | Path | None = None, set: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Return the `k` passages nearest to a query, best first: each with its id, its score, which is the cosine, its
        text, None where the dataset has no texts, and its other columns.

        The model is that of your own config, as for `embed-corpus search`: `config`, else the one of configs/ that has
        the name of the dataset's model. Raises RecipeError for one that makes other vectors, EngineError for a model
        that cannot be had.
        """
        if k < 1:
            raise UsageError(f"search: expected k of at least 1, found {k}")
        own = own_config(self._passages.dataset, None if config is None else find_config(str(config)), list(set))
        hits = nearest(self._store, self._manifest, embed_query(query, own), k)
        return [{"id": hit["id"], "score": hit["score"], "text": hit.get("text"), **hit} for hit in hits]

    def _filled(self, pieces: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
        try:
            found = np.empty((len(self), self.dim), np.float32)
        except (MemoryError, ValueError) as error:  # ValueError for more bytes than there are addresses
            raise UsageError(
                f"{self}: expected room in memory for all vectors, found: {error}; `iter_vectors` yields a few at a "
                "time"
            ) from error
        at = 0
        for vectors in pieces:
            if at + len(vectors) > len(found):
                raise DamageError(
                    f"{self}: expected as many as its manifest says, found more; `embed-corpus verify` tells where"
                )
            found[at : at + len(vectors)] = vectors
            at += len(vectors)
        return found
