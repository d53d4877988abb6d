"""The footer of a part, which has its receipt and its recipe, and whether the part is what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from pipeline.dataset.manifest import Receipt, parse_receipt
from pipeline.errors import CorpusError
from pipeline.files import open_own_parquet
from pipeline.recipe import dim_of, fingerprint
from pipeline.schema import find_fault

RECEIPT_KEY = b"embed_corpus.receipt"
RECIPE_KEY = b"embed_corpus.recipe"
BATCH_BYTES = 2 << 20  # of vectors
WITHOUT = (CorpusError, OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # a part of ours


def receipt_in(path: Path) -> Receipt | None:
    """Return the receipt in the footer of a file; None where there is none."""
    try:
        with open_own_parquet(path) as file:
            return parse_receipt(_value(file, RECEIPT_KEY))
    except WITHOUT:
        return None


def recipe_in(path: Path) -> dict[str, Any]:
    """Return the recipe in the footer of a part; an empty one where there is none."""
    try:
        with open_own_parquet(path) as file:
            return _recipe(file)
    except WITHOUT:
        return {}


def proven_receipt_in(path: Path) -> Receipt | None:
    """Return the receipt in the footer of a part that has all that it says; else None.

    These are its name, the recipe of its fingerprint, that recipe's columns and types, and every passage; the values
    of vectors are `verify`'s. All pages are read.
    """
    try:
        with open_own_parquet(path) as file:
            receipt, recipe = parse_receipt(_value(file, RECEIPT_KEY)), _recipe(file)
            names = (receipt.part, receipt.fingerprint) == (path.name, fingerprint(recipe))
            dim = dim_of(recipe)
            if not names or not receipt.is_consistent or find_fault(file.schema_arrow, dim, has_text=receipt.has_text):
                return None
            n_rows = sum(map(len, file.iter_batches(batch_rows(file, dim))))
            return receipt if n_rows == receipt.passages else None
    except WITHOUT:
        return None


def batch_rows(file: pq.ParquetFile, dim: int) -> int:
    """Return how many rows of a part are read at a time: no more than a row group has, however long their texts are."""
    groups = map(file.metadata.row_group, range(file.num_row_groups))
    return max(1, min(BATCH_BYTES // (2 * dim), max((group.num_rows for group in groups), default=1)))


def _value(file: pq.ParquetFile, key: bytes) -> bytes:
    value: bytes = (file.metadata.metadata or {})[key]
    return value


def _recipe(file: pq.ParquetFile) -> dict[str, Any]:
    return msgspec.json.decode(_value(file, RECIPE_KEY), type=dict[str, Any])
