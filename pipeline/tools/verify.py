"""Verify: does every file of a dataset say what the manifest and the part's own receipt say? From the files alone."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.chunk import Shard, Taken
from pipeline.console import board
from pipeline.dataset import (
    RECEIPT_KEY,
    Manifest,
    Receipt,
    Store,
    batch_rows,
    count_duplicate_ids,
    foreign_files,
    parse_receipt,
    temporaries,
)
from pipeline.errors import CorpusError
from pipeline.files import file_checksum, open_own_parquet
from pipeline.recipe import dim_of, fingerprint
from pipeline.schema import PART, REASONS, REJECTS, find_fault, width_in
from pipeline.tools.places import Places
from pipeline.tools.texts import text_problems, with_next
from pipeline.vectors import invalid_rows

# What a run that was stopped leaves behind, and what the next one mends: no damage in a dataset that is incomplete.
LEFT_BY_A_RUN = ("orphan", "temporary", "torn", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as it should be."""

    kind: str
    path: str
    detail: str


def verify(store: Store, manifest: Manifest, *, at_rest: bool = True) -> tuple[list[Problem], int]:
    """Return what is wrong with a dataset, and how many rows have the id of an earlier row.

    Files are read in pieces. `at_rest`: no run writes to it, so that what the manifest does not name is a problem.
    """
    problems = list(_manifest_problems(manifest))
    manifest = trusted(manifest)
    whole = []
    for receipt in manifest.receipts.values():
        board().read()
        found = list(part_problems(store, manifest, receipt))
        problems += found
        if not found:
            whole.append(store.data_path(receipt.part))
    problems += _overlaps(manifest.receipts.values())
    if at_rest:
        problems += _strangers(store, manifest)
    return problems, count_duplicate_ids(whole)


def trusted(manifest: Manifest) -> Manifest:
    """Return a manifest without its dataset line where that contradicts itself."""
    dataset = manifest.dataset
    is_right = dataset is not None and dataset.fingerprint == fingerprint(dataset.recipe)
    return manifest if is_right else dataclasses.replace(manifest, dataset=None)


def _manifest_problems(manifest: Manifest) -> Iterator[Problem]:
    def problem(detail: str, kind: str = "manifest") -> Problem:
        return Problem(kind=kind, path="manifest.jsonl", detail=detail)

    if manifest.dataset is None:
        yield problem("expected a dataset line, found none")
    elif trusted(manifest).dataset is None:
        yield problem(f"the recipe is not that of the fingerprint {manifest.dataset.fingerprint}")
    if manifest.n_unreadable:
        yield problem(f"{manifest.n_unreadable} lines cannot be read; `run` mends them", "torn")


def part_problems(store: Store, manifest: Manifest, receipt: Receipt) -> Iterator[Problem]:
    """Yield what is wrong with a part and with its rejects."""
    data, rejects = (f"{folder}/{receipt.part}" for folder in ("data", "rejects"))
    for kind, detail in _data_problems(store, manifest, receipt):
        yield Problem(kind=kind, path=data, detail=detail)
    if receipt.has_rejects:
        for kind, detail in _rejects_problems(store, receipt):
            yield Problem(kind=kind, path=rejects, detail=detail)


def _data_problems(store: Store, manifest: Manifest, receipt: Receipt) -> Iterator[tuple[str, str]]:
    path = store.data_path(receipt.part)
    try:
        found, n_bytes = file_checksum(path), path.stat().st_size
        if (n_bytes, found) != (receipt.size_bytes, receipt.checksum):
            yield (
                "checksum",
                f"expected {receipt.checksum} of {receipt.size_bytes:,} bytes, found {found} of {n_bytes:,}",
            )
        with open_own_parquet(path) as file:
            yield from _content_problems(file, manifest, receipt)
    except (OSError, CorpusError) as error:
        yield _unreadable(error)
    if receipt.input_rows != receipt.embedded_rows + receipt.rejected_rows:
        yield "count", f"{receipt.input_rows:,} rows are not {receipt.embedded_rows:,} and {receipt.rejected_rows:,}"


def _content_problems(file: pq.ParquetFile, manifest: Manifest, receipt: Receipt) -> Iterator[tuple[str, str]]:
    dataset = manifest.dataset
    own = (file.metadata.metadata or {}).get(RECEIPT_KEY, b"")
    if not _says(own, msgspec.structs.replace(receipt, size_bytes=0, checksum="")):
        yield "receipt", "the receipt in the footer is not the manifest's"
    if dataset is not None and receipt.fingerprint != dataset.fingerprint:
        yield "fingerprint", f"expected {dataset.fingerprint}, found {receipt.fingerprint}"
    schema = file.schema_arrow
    dim = dim_of(dataset.recipe) if dataset else width_in(schema)
    if fault := find_fault(schema, dim, has_text=receipt.has_text):
        yield "schema", fault
        return
    sums = dict.fromkeys(("passages", "tokens", "embedded_rows", "truncated"), 0)
    places, before = Places(receipt.spans), (-1, -1)
    for batch, after in with_next(file.iter_batches(batch_rows(file, dim), use_threads=False)):
        batch.validate(full=True)
        yield from _value_problems(batch, places, sums["passages"], before)
        if receipt.has_text:
            yield from text_problems(batch, after, sums["passages"])
        place, passage = places.of(batch), _numbers(batch, "passage")
        before = (int(place[-1]), int(passage[-1])) if len(batch) else before
        sums["passages"] += len(batch)
        sums["tokens"] += int(_numbers(batch, "n_tokens").sum())
        sums["embedded_rows"] += int(np.count_nonzero(passage == 0))
        sums["truncated"] += batch.column("truncated").true_count
    for name, found in sums.items():
        expected = getattr(receipt, name)
        if expected != found:
            yield "count", f"expected {expected:,} {name.replace('_', ' ')}, found {found:,}"


def _says(own: bytes, receipt: Receipt) -> bool:
    try:
        return parse_receipt(own) == receipt
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _value_problems(
    batch: pa.RecordBatch, places: Places, first: int, before: tuple[int, int]
) -> Iterator[tuple[str, str]]:
    for name in PART.names:
        if batch.column(name).null_count:
            yield "null", f"{batch.column(name).null_count} nulls in column {name}"
    if pc.any(pc.equal(batch.column("id"), "")).as_py():
        yield "id", "an id is empty"
    row, passage, place = _numbers(batch, "row"), _numbers(batch, "passage"), places.of(batch)
    outside = place < 0
    if outside.any():
        yield "row", f"entry {first + int(outside.argmax())} is of another chunk"
    step, passage_step = np.diff(place, prepend=before[0]), np.diff(passage, prepend=before[1])
    falls = np.where(step == 0, passage_step != 1, (step < 0) | (passage != 0))
    if falls.any():
        at = int(falls.argmax())
        yield "row", f"entry {first + at} has row {row[at]}, passage {passage[at]}, after one that it cannot follow"
    flat = batch.column("embedding").flatten().to_numpy(zero_copy_only=False).astype(np.float16, copy=False)
    bad = invalid_rows(flat.reshape(len(batch), -1)) if len(batch) else np.array([], bool)
    if bad.any():
        at = first + int(bad.argmax())
        yield "vector", f"{int(bad.sum())} vectors not finite or not of unit length, the first is entry {at}"


def _numbers(batch: pa.RecordBatch, name: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = batch.column(name).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _rejects_problems(store: Store, receipt: Receipt) -> Iterator[tuple[str, str]]:
    path = store.rejects_path(receipt.part)
    try:
        if (found := file_checksum(path)) != receipt.rejects_checksum:
            yield "checksum", f"expected {receipt.rejects_checksum}, found {found}"
        with open_own_parquet(path) as file:
            if not file.schema_arrow.equals(REJECTS):
                yield "schema", f"expected columns {', '.join(REJECTS.names)}, found {file.schema_arrow.names}"
                return
            if file.metadata.num_rows != receipt.rejected_rows:
                yield "count", f"expected {receipt.rejected_rows:,} rejected rows, found {file.metadata.num_rows:,}"
            places, before, reasons, found_reasons = Places(receipt.spans), -1, pa.array(REASONS), Counter[str]()
            for batch in file.iter_batches(use_threads=False):
                batch.validate(full=True)
                place = places.of(batch)
                if (np.diff(place, prepend=before) <= 0).any():
                    yield "row", "a row is there twice or is of another chunk"
                if not pc.all(pc.is_in(batch.column("reason"), reasons)).as_py():
                    yield "reason", f"expected {', '.join(REASONS)}"
                found_reasons.update(batch.column("reason").to_pylist())
                before = int(place[-1]) if len(place) else before
            if receipt.reasons and receipt.reasons != found_reasons:
                yield "reason", f"expected {receipt.reasons}, found {dict(found_reasons)}"
    except (OSError, CorpusError) as error:
        yield _unreadable(error)


def _unreadable(error: OSError | CorpusError) -> tuple[str, str]:
    why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return "missing" if isinstance(error, FileNotFoundError) else "unreadable", why


def _overlaps(receipts: Iterable[Receipt]) -> Iterator[Problem]:
    taken: dict[Shard, Taken] = defaultdict(Taken)
    for receipt in receipts:
        apart = [each for each in receipt.spans if not taken[each.shard].meets(each.span)]
        for each in apart:
            if taken[each.shard].meets(each.span):
                continue  # of two spans of this very part
            taken[each.shard].add(each.span)
        if len(apart) < len(receipt.spans):
            yield Problem(kind="overlap", path=f"data/{receipt.part}", detail="has rows that another part has")


def _strangers(store: Store, manifest: Manifest) -> Iterator[Problem]:
    named = {
        "data": manifest.receipts.keys(),
        "rejects": {receipt.part for receipt in manifest.receipts.values() if receipt.has_rejects},
    }
    foreign = foreign_files(store, manifest.receipts)
    for name in foreign:
        yield Problem(kind="foreign", path=name, detail="made by no run, and left alone; move it away")
    for folder, parts in named.items():
        for path in sorted((store.root / folder).glob("*.parquet")):
            if path.name not in parts and f"{folder}/{path.name}" not in foreign:
                yield Problem(kind="orphan", path=f"{folder}/{path.name}", detail="not in the manifest")
    for path in temporaries(store):
        yield Problem(kind="temporary", path=str(path.relative_to(store.root)), detail="left by a run that was stopped")


def as_tables(problems: list[Problem]) -> list[dict[str, Any]]:
    """Return problems as plain objects."""
    return [msgspec.to_builtins(problem) for problem in problems]
