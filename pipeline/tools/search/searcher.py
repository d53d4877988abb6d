"""Answers to queries: on one dataset, with one engine that is loaded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from pipeline.config import Config
from pipeline.dataset import Dataset, Manifest, Store, read_dataset, width_of
from pipeline.errors import DamageError, UsageError
from pipeline.tools.own_config import is_said, own_config
from pipeline.tools.search.hits import nearest
from pipeline.tools.search.scan import Scan, Vector, check_columns
from pipeline.tools.search.where import Condition, parse_where
from pipeline.vectors import MIN_NORM, to_unit_float16

T = TypeVar("T")
Query = str | ArrayLike  # words, or a vector of shape (dim,) of any length but 0


class Searcher:
    """Finds what is nearest to queries: in a dataset as a manifest has it, or without one as it is at each query.

    The config is the reader's own, as `own_config` has it. Where `keeps`, vectors that were read stay in memory up to
    1 GiB; else they are read for each query.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest | None = None,
        *,
        config: Path | Config | None = None,
        overrides: Sequence[str] = (),
        keeps: bool = False,
    ) -> None:
        self._store, self._manifest = store, manifest
        self._config, self._overrides = config, tuple(overrides)
        self._keeps = keeps
        self._scan: Scan | None = None
        self._encoder: tuple[Dataset, Encoder] | None = None

    def prepare(self, where: str = "") -> None:
        """Load the engine, once it is sure that the dataset can be asked; raises as `find` does."""
        condition = _parsed(where)

        def prepared(manifest: Manifest) -> None:
            self._checked(manifest, condition)
            self._encoder_of(manifest)

        self._read(prepared)

    def find(self, query: Query, k: int = 10, where: str = "") -> list[dict[str, Any]]:
        """Return the `k` nearest ids, best first: `score` (the cosine), `id`, `source`, `row` and all other columns.

        Those are `passage`, `char_start`, `char_end`, `n_tokens`, `truncated`, kept ones, and `text` where the dataset
        has it. Of the passages of one id the best one counts. `where` is a condition on columns (see `parse_where`).

        Raises UsageError for a query, `k` or condition that cannot be answered, DamageError for parts that cannot be
        read, RecipeError where the config does not make the vectors of the dataset, EngineError where no engine loads.
        """
        if k < 1:
            raise UsageError(f"search: expected -k of at least 1, found {k}")
        if isinstance(query, str) and not query.strip():
            raise UsageError("search: expected a query, found nothing but white space")
        condition = _parsed(where)

        def found_in(manifest: Manifest) -> list[dict[str, Any]]:
            scan = self._checked(manifest, condition)
            vector = self._encoder_of(manifest).encode(query) if isinstance(query, str) else _unit(query, scan.dim)
            return nearest(scan, vector, k, condition)

        return self._read(found_in)

    def _read(self, read: Callable[[Manifest], T]) -> T:
        return read_dataset(self._store, read) if self._manifest is None else read(self._manifest)

    def _checked(self, manifest: Manifest, where: Condition | None) -> Scan:
        """Return the scan of a dataset as it is now, which has the columns of a condition."""
        receipts = tuple(manifest.receipts[part] for part in sorted(manifest.receipts))
        if self._scan is None or self._scan.receipts != receipts:
            before = self._scan.kept if self._scan else {}
            named = {(receipt.part, receipt.checksum) for receipt in receipts}
            self._scan = Scan(
                store=self._store,
                receipts=receipts,
                dim=width_of(self._dataset(manifest)),
                keeps=self._keeps,
                kept={key: vectors for key, vectors in before.items() if key in named},
            )
        if where is not None:
            check_columns(self._scan, where)
        return self._scan

    def _encoder_of(self, manifest: Manifest) -> Encoder:
        dataset = self._dataset(manifest)
        if self._encoder is None or self._encoder[0] != dataset:
            config = own_config(dataset, self._config, self._overrides)
            self._encoder = dataset, Encoder(config, as_said=is_said("engine.kind", self._overrides))
        return self._encoder[1]

    def _dataset(self, manifest: Manifest) -> Dataset:
        if manifest.dataset is None:
            raise DamageError(
                f"dataset {self._store.root}: the manifest has no dataset line; `embed-corpus run` mends it"
            )
        return manifest.dataset


class Encoder:
    """Gives queries the vectors that the model of a dataset gives them; the engine is loaded once.

    It is the lightest one that does, or where `as_said` that of the config.
    """

    def __init__(self, config: Config, *, as_said: bool = False) -> None:
        from pipeline.engines import make_embedder, make_lightest
        from pipeline.model import make_tokenizer

        self._config = config
        self.embedder = make_embedder(config) if as_said else make_lightest(config)
        self._tokenizer = make_tokenizer(config, max_tokens=config.model.max_tokens)

    def encode(self, query: str) -> Vector:
        """Return the unit vector of a query behind the model's query prompt, shape (dim,), as a dataset stores it."""
        ids = self._tokenizer.windows([self._config.model.query_prompt + query])[0][0].ids
        vector: Vector = to_unit_float16(self.embedder.embed([ids]), self._config.dim)[0].astype(np.float32)
        return vector


def _parsed(where: str) -> Condition | None:
    return parse_where(where) if where.strip() else None


def _unit(query: ArrayLike, dim: int) -> Vector:
    """Return a vector in unit length; raises UsageError for one that has no direction or another width."""
    vector = np.asarray(query, np.float32)
    norm = np.linalg.norm(vector)
    if vector.shape != (dim,) or not MIN_NORM <= norm < np.inf:
        raise UsageError(f"search: expected a vector of shape ({dim},) with a length, found {vector.shape}, {norm}")
    unit: Vector = vector / norm
    return unit
