"""Copy rows of parts into a new part, vectors and all, without the input and without an engine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from pipeline.chunk import ShardSpan, make_chunk
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.parts import MENDING, open_part, open_rejects, rows_within
from pipeline.dataset.store import Store
from pipeline.errors import DamageError
from pipeline.files import file_checksum

Taken = Sequence[tuple[Receipt, Sequence[ShardSpan]]]  # parts, each with the spans of it that are copied


def copy_spans(store: Store, taken: Taken, place: Store, *, keeps_work: bool = False) -> Receipt:
    """Publish one part with these spans of parts of one recipe, in the order given, and return its receipt.

    The parts have their kept columns in the same types. `keeps_work`: they are copied whole and leave, and the receipt
    says what the engine did for them, so that its speed stays known; else it says that nothing was embedded.
    Raises DamageError for a part that cannot be read; `check_whole` tells before whether it is as it was published.
    """
    spans = [replace(each, salt=receipt.checksum) for receipt, of_part in taken for each in of_part]
    first = taken[0][0]
    tables, rejects, lost = [], [], 0.0
    for receipt, of_part in taken:
        with open_part(store.data_path(receipt.part), has_text=receipt.has_text) as file:
            own = _within(file.read(use_threads=False), receipt, of_part)
        tables += own
        n_truncated = sum(int(np.count_nonzero(table.column("truncated"))) for table in own)
        lost += receipt.lost_tokens * n_truncated / max(1, receipt.truncated)  # of some of its rows about so many
        if receipt.has_rejects:
            with open_rejects(store.rejects_path(receipt.part)) as file:
                rejects += _within(file.read(use_threads=False), receipt, of_part)
    table = pa.concat_tables(tables)
    rejected = pa.concat_tables(rejects) if rejects else None
    n_embedded = int(np.count_nonzero(table.column("passage").to_numpy() == 0))
    n_rejected = len(rejected) if rejected is not None else 0
    chunk = make_chunk(spans, first.fingerprint)
    copied = msgspec.structs.replace(
        first,
        chunk=chunk.id,
        part=chunk.part_name,
        has_rejects=n_rejected > 0,
        spans=chunk.spans,
        input_rows=n_embedded + n_rejected,
        embedded_rows=n_embedded,
        rejected_rows=n_rejected,
        reasons=dict(sorted(Counter(rejected.column("reason").to_pylist()).items())) if rejected is not None else {},
        passages=len(table),
        truncated=int(np.count_nonzero(table.column("truncated"))),
        lost_tokens=round(lost),
        tokens=int(np.sum(table.column("n_tokens"), dtype=np.int64)),
        kinds=_united([receipt.kinds for receipt, _ in taken]),
        rejects_checksum="",
        size_bytes=0,
        checksum="",
        **_work_of({receipt.part: receipt for receipt, _ in taken} if keeps_work else {}, n_embedded),
    )
    return place.publish(copied, table, rejected if n_rejected else None, json.dumps(store.recipe_of(first.part)))


def check_whole(store: Store, receipt: Receipt) -> None:
    """Raise DamageError for a part, or its rejects, with a bit of another value: a copy of it would look sound."""
    files = {store.data_path(receipt.part): receipt.checksum}
    if receipt.has_rejects:
        files[store.rejects_path(receipt.part)] = receipt.rejects_checksum
    for path, expected in files.items():
        try:
            found = file_checksum(path)
        except OSError as error:
            raise DamageError(
                f"{path}: expected a file that can be read, found: {error.strerror}; {MENDING}"
            ) from error
        if found != expected:
            raise DamageError(f"{path}: expected the bytes that were published, found others; {MENDING}")


def _within(table: pa.Table, receipt: Receipt, spans: Sequence[ShardSpan]) -> list[pa.Table]:
    table = table.replace_schema_metadata(None)
    return [table] if tuple(spans) == receipt.spans else [rows_within(table, each) for each in spans]


def _united(kinds: Sequence[dict[str, list[str]]]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for of_part in kinds for name in of_part)
    return {name: sorted({kind for of_part in kinds for kind in of_part.get(name, ())}) for name in names}


def _work_of(by_part: Mapping[str, Receipt], n_copied: int) -> dict[str, Any]:
    """Return what the receipts of parts say of the engine's work; of no part that all rows were copied."""
    receipts = by_part.values()
    return {
        "reused_rows": sum(receipt.reused_rows for receipt in receipts) if receipts else n_copied,
        "engine_calls": sum(receipt.engine_calls for receipt in receipts),
        "engine_texts": sum(receipt.engine_texts for receipt in receipts),
        "engine_tokens": sum(receipt.engine_tokens for receipt in receipts),
        "engine_s": sum(receipt.engine_s for receipt in receipts),
        "engine_ready_at": max((receipt.engine_ready_at for receipt in receipts), default=0.0),
    }
