"""Verify: does every file of a dataset say what the manifest and the part's own receipt say? From the files alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.duplicates import count_duplicate_ids
from pipeline.manifest import Manifest, Receipt
from pipeline.parts import FIXED, REJECTS
from pipeline.store import RECEIPT_KEY, Store, checksum
from pipeline.vectors import defects


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as it should be."""

    kind: str
    path: str
    detail: str


def verify(store: Store, manifest: Manifest) -> tuple[list[Problem], int]:
    """Return what is wrong with a dataset, and how many rows have the id of an earlier row.

    Parts are read one row group at a time.
    """
    problems: list[Problem] = []
    if manifest.dataset is None:
        problems.append(Problem(kind="manifest", path="manifest.jsonl", detail="expected a dataset line, found none"))
    if manifest.n_unreadable:
        detail = f"{manifest.n_unreadable} lines cannot be read; `run` mends them"
        problems.append(Problem(kind="manifest", path="manifest.jsonl", detail=detail))
    whole = []
    for receipt in manifest.receipts.values():
        found = list(_part_problems(store, manifest, receipt))
        problems += found
        if not found:
            whole.append(store.data_path(receipt.part))
    problems += _strangers(store, manifest)
    return problems, count_duplicate_ids(whole)


def _part_problems(store: Store, manifest: Manifest, receipt: Receipt) -> Iterator[Problem]:
    path = f"data/{receipt.part}"

    def problem(kind: str, detail: str) -> Problem:
        return Problem(kind=kind, path=path, detail=detail)

    try:
        data = pa.py_buffer(store.data_path(receipt.part).read_bytes())
    except OSError as error:
        yield problem("missing", f"expected a part, found: {error.strerror}")
        return
    if checksum(data) != receipt.checksum:
        yield problem("checksum", f"expected {receipt.checksum}, found {checksum(data)}")
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            yield from (problem(kind, detail) for kind, detail in _content_problems(file, manifest, receipt))
    except (OSError, pa.ArrowException) as error:
        yield problem("unreadable", str(error))
    if receipt.has_rejects:
        yield from _rejects_problems(store, receipt)


def _content_problems(file: pq.ParquetFile, manifest: Manifest, receipt: Receipt) -> Iterator[tuple[str, str]]:
    dataset = manifest.dataset
    own = (file.metadata.metadata or {}).get(RECEIPT_KEY, b"")
    if own != msgspec.json.encode(msgspec.structs.replace(receipt, size_bytes=0, checksum="")):
        yield "receipt", "the receipt in the footer is not the manifest's"
    if dataset is not None and receipt.fingerprint != dataset.fingerprint:
        yield "fingerprint", f"expected {dataset.fingerprint}, found {receipt.fingerprint}"
    dim = dataset.recipe["run.dim"] if dataset else None
    schema = file.schema_arrow
    kind = schema.field("embedding").type if "embedding" in schema.names else None
    if any(name not in schema.names or schema.field(name).type != FIXED.field(name).type for name in FIXED.names):
        yield "schema", f"expected columns {', '.join(FIXED.names)}, found {', '.join(schema.names)}"
        return
    if kind != pa.list_(pa.float16(), dim or getattr(kind, "list_size", -1)):
        yield "schema", f"expected embedding fixed_size_list<float16>[{dim}], found {kind}"
        return
    rows, tokens, distinct = 0, 0, 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        rows, tokens = rows + len(table), tokens + (pc.sum(table.column("n_tokens")).as_py() or 0)
        distinct += len(table.filter(pc.equal(table.column("passage"), 0)))
        yield from _value_problems(table, receipt, rows - len(table))
    for name, expected, found in (
        ("passages", receipt.passages, rows),
        ("tokens", receipt.tokens, tokens),
        ("embedded rows", receipt.embedded_rows, distinct),
    ):
        if expected != found:
            yield "count", f"expected {expected:,} {name}, found {found:,}"


def _value_problems(table: pa.Table, receipt: Receipt, first: int) -> Iterator[tuple[str, str]]:
    for name in FIXED.names:
        if table.column(name).null_count:
            yield "null", f"{table.column(name).null_count} nulls in column {name}"
    row = table.column("row").to_numpy()
    outside = (row < receipt.span.row_start) | (row >= receipt.span.row_stop)
    if outside.any() or pc.any(pc.not_equal(table.column("source"), receipt.source)).as_py():
        yield "row", f"entry {first + int(outside.argmax())} is of another chunk"
    vectors = table.column("embedding").combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float16, copy=False)
    bad = defects(flat.reshape(len(table), -1)) if len(table) else np.array([], bool)
    if bad.any():
        at = first + int(bad.argmax())
        yield "vector", f"{int(bad.sum())} vectors not finite or not of unit length, the first is entry {at}"


def _rejects_problems(store: Store, receipt: Receipt) -> Iterator[Problem]:
    path = f"rejects/{receipt.part}"
    try:
        table = pq.read_table(store.rejects_path(receipt.part), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        yield Problem(kind="unreadable", path=path, detail=str(error))
        return
    if table.schema.names != REJECTS.names or len(table) != receipt.rejected_rows:
        detail = f"expected {receipt.rejected_rows} rejected rows, found {len(table)}"
        yield Problem(kind="count", path=path, detail=detail)


def _strangers(store: Store, manifest: Manifest) -> Iterator[Problem]:
    for part in sorted(store.part_sizes().keys() - manifest.receipts.keys()):
        yield Problem(kind="orphan", path=f"data/{part}", detail="not in the manifest; `run` adopts or removes it")


def as_tables(problems: list[Problem]) -> list[dict[str, Any]]:
    """Return problems as plain objects."""
    return [msgspec.to_builtins(problem) for problem in problems]
