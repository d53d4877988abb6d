"""What several tests need: corpora on disk, the command line as a process, and a dataset as rows."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.chunk import Chunk, Shard, ShardSpan, Span, make_chunk
from pipeline.config import Config, load_config
from pipeline.dataset.store import Store
from pipeline.model.dtype import settle_dtype, this_device
from tests.support.forked import is_usual, run_forked

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HASHING = ("--set", "engine.kind=hashing")


def embed_corpus(
    *arguments: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, from nothing where the environment is another."""
    environment = {**os.environ, **(env or {})}
    if is_usual(environment):
        return run_forked(["pipeline", *map(str, arguments)], environment, timeout_s)
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=timeout_s, env=environment)


def command(*arguments: str | Path) -> list[str]:
    """Return the command line as a list."""
    return [sys.executable, "-m", "pipeline", *map(str, arguments)]


def local_config(*overrides: str, **options: Any) -> Config:
    """Return configs/local.toml as a run on this machine takes it."""
    return settle_dtype(load_config(REPOSITORY / "configs/local.toml", overrides, **options), this_device())


def status(output: Path) -> dict[str, Any]:
    """Return `status --json`."""
    found: dict[str, Any] = json.loads(embed_corpus("status", output, "--json").stdout)
    return found


def texts(n_rows: int, *, start: int = 0) -> list[dict[str, str]]:
    """Return rows with distinct texts of 3 to 22 words."""
    return [
        {"id": f"doc-{i}", "text": f"{i} " + " ".join(f"word{(i * 7 + j) % 997}" for j in range(2 + i % 20))}
        for i in range(start, start + n_rows)
    ]


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as lines, compressed as the suffix says."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data, mtime=0))
    elif path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(data)
    else:
        path.write_bytes(data)
    return path


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], **options: Any) -> Path:
    """Write rows as Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **options)
    return path


def read_dataset(output: Path) -> pa.Table:
    """Return a dataset as any reader of `data/*.parquet` sees it, in the order of sources, rows and passages."""
    table = ds.dataset(output / "data", format="parquet").to_table()
    return table.sort_by([("source", "ascending"), ("row", "ascending"), ("passage", "ascending")])


def by_manifest(output: Path) -> pa.Table:
    """Return a dataset as a reader sees it who goes by the manifest, in the same order."""
    store = Store(root=output)
    named = [store.data_path(part) for part in store.read_manifest().receipts]
    table = pa.concat_tables(pq.read_table(path) for path in named).replace_schema_metadata()
    return table.sort_by([("source", "ascending"), ("row", "ascending"), ("passage", "ascending")])


def ids(output: Path) -> list[str]:
    """Return the ids of a dataset in no order, a row's passages counted once."""
    table = ds.dataset(output / "data", format="parquet").to_table(columns=["id", "passage"])
    found: list[str] = table.column("id").filter(pc.equal(table.column("passage"), 0)).to_pylist()
    return found


def one_span(shard: Shard, span: Span, fingerprint: str, *, last: bool = False) -> Chunk:
    """Return a chunk of rows of one shard."""
    return make_chunk([ShardSpan(shard=shard, span=span, last=last)], fingerprint)
