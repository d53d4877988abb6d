"""Datasets of random vectors, written part by part without a run: as large as a test wants them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.chunk import Shard, ShardSpan, Span, make_chunk
from pipeline.dataset import Dataset, Receipt, Run, Store
from pipeline.schema import PART
from pipeline.vectors import fixed_size_list, to_unit_float16


def write_dataset(output: Path, n_parts: int, rows_a_part: int, *, dim: int = 384, dims: tuple[int, ...] = ()) -> Store:
    """Write a complete dataset whose vectors keep most of their length in their first components."""
    store, random = Store(root=output), np.random.default_rng(7)
    recipe = {"model.name": "random", "run.dim": dim}
    dataset = Dataset(fingerprint="f" * 16, recipe=recipe, config={"model": {"dims": list(dims)}})
    weights = 1 / np.sqrt(np.arange(1, dim + 1, dtype=np.float32))
    receipts = []
    with store.lock():
        for number in range(n_parts):
            rows = np.arange(number * rows_a_part, (number + 1) * rows_a_part)
            vectors = random.standard_normal((rows_a_part, dim), dtype=np.float32) * weights
            receipts.append(_publish(store, rows, fixed_size_list(to_unit_float16(vectors, dim)), dataset))
        store.rewrite_manifest([dataset, *receipts, Run(state="complete", input="in", started_at=1.0)])
    return store


def _publish(store: Store, rows: np.ndarray, vectors: pa.Array, dataset: Dataset) -> Receipt:
    n = len(rows)
    span = Span(row_start=int(rows[0]), row_stop=int(rows[-1]) + 1)
    shard = Shard(source="a.parquet", size_bytes=1, mtime_ns=1)
    chunk = make_chunk([ShardSpan(shard=shard, span=span, last=False)], dataset.fingerprint)
    zeros = np.zeros(n, np.int32)
    values = {
        "id": pa.array([f"doc-{row}" for row in rows]),
        "source": pa.array(["a.parquet"] * n),
        "row": pa.array(rows, pa.int64()),
        **dict.fromkeys(("passage", "char_start", "char_end", "n_tokens"), pa.array(zeros)),
        "truncated": pa.array(np.zeros(n, np.bool_)),
        "content_hash": pa.array([row.to_bytes(16, "big") for row in rows.tolist()], pa.binary(16)),
    }
    table = pa.table(values, schema=PART).append_column("embedding", vectors)
    receipt = Receipt(
        chunk=chunk.id,
        part=chunk.part_name,
        has_rejects=False,
        fingerprint=dataset.fingerprint,
        spans=chunk.spans,
        input_rows=n,
        embedded_rows=n,
        rejected_rows=0,
        passages=n,
        truncated=0,
        tokens=0,
    )
    return store.publish(receipt, table, None, json.dumps(dataset.recipe))


if __name__ == "__main__":
    write_dataset(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
