"""Datasets as earlier versions made them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.dataset.footer import RECEIPT_KEY


def as_of_earlier_versions(output: Path) -> None:
    """Write the receipts of a dataset anew, in parts and manifest, as versions did whose parts had one shard each."""
    changed = {}
    for path in (output / "data").iterdir():
        table = pq.read_table(path)
        metadata = dict(table.schema.metadata)
        receipt = _earlier(json.loads(metadata[RECEIPT_KEY]))
        metadata[RECEIPT_KEY] = json.dumps(receipt).encode()
        pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", write_page_checksum=True)
        changed[path.name] = receipt | {
            "size_bytes": path.stat().st_size,
            "checksum": hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(),
        }
    lines = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    lines = [changed[line["part"]] if line["kind"] == "receipt" else line for line in lines]
    (output / "manifest.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def _earlier(receipt: dict[str, Any]) -> dict[str, Any]:
    [each] = receipt.pop("spans")
    shard = {"source": each["shard"]["source"], "shard_size_bytes": each["shard"]["size_bytes"]}
    return receipt | shard | {"shard_mtime_ns": each["shard"]["mtime_ns"], "span": each["span"], "last": each["last"]}
