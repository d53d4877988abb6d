"""Files of any size and format, written row by row."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import itertools
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.formats import PACK, TEXTS, WHOLE

WORD = "\U0001f600" * 300  # cheap to cut into tokens for its bytes
TEXT = " ".join([WORD] * 42)
ROW_BYTES = len(TEXT.encode())
BATCH_ROWS = 200
DOCUMENT_ROWS = 250  # under the limit of a document
SCHEMA = pa.schema({"id": pa.string(), "text": pa.string()})
BIG_ENDINGS = (
    *WHOLE,
    *(text + packing for text in TEXTS if text != ".ndjson" for packing in PACK),
    ".json lines",
    ".md",
)


def rows_of(n_bytes: int) -> Iterator[dict[str, str]]:
    """Yield rows of about so many bytes in all."""
    return ({"id": f"doc-{at}", "text": f"{at} {TEXT}"} for at in range(n_bytes // ROW_BYTES))


def write_big(folder: Path, ending: str, n_bytes: int) -> int:
    """Write a file of about so many bytes, before it is packed, or a folder of documents; return its rows."""
    folder.mkdir(parents=True)
    path = folder / f"a{ending.removesuffix(' lines')}"
    if ending == ".md":
        for at in range(n_docs := n_bytes // (DOCUMENT_ROWS * ROW_BYTES)):
            (folder / f"{at}.md").write_text(f"# {at}\n" + "\n".join([TEXT] * DOCUMENT_ROWS))
        return n_docs
    if ending in WHOLE:
        _write_batches(path, n_bytes)
    else:
        with _packed(path) as file:
            for piece in _pieces(ending, n_bytes):
                file.write(piece.encode())
    return n_bytes // ROW_BYTES


def _write_batches(path: Path, n_bytes: int) -> None:
    with contextlib.ExitStack() as stack:
        if path.suffix in (".parquet", ".pq"):
            write = stack.enter_context(pq.ParquetWriter(path, SCHEMA)).write_table
        else:
            file = stack.enter_context(path.open("wb"))
            new = pa.ipc.new_stream if path.suffix == ".arrow" else pa.ipc.new_file
            write = stack.enter_context(new(file, SCHEMA)).write_table
        rows = rows_of(n_bytes)
        while some := list(itertools.islice(rows, BATCH_ROWS)):
            write(pa.Table.from_pylist(some, SCHEMA))


def _packed(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "wb", 1)
    if path.suffix == ".bz2":
        return bz2.open(path, "wb", 1)
    if path.suffix == ".xz":
        return lzma.open(path, "wb", preset=0)
    return pa.output_stream(str(path), compression="zstd" if path.suffix == ".zst" else None)


def _pieces(ending: str, n_bytes: int) -> Iterator[str]:
    if ending.startswith((".csv", ".tsv")):
        sink = io.StringIO(newline="")
        writer = csv.DictWriter(sink, SCHEMA.names, delimiter="," if ending.startswith(".csv") else "\t")
        writer.writeheader()
        for row in rows_of(n_bytes):
            writer.writerow({**row, "text": row["text"] + '\n"'})
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
        return
    is_array = ending.startswith(".json") and not ending.startswith(".jsonl") and not ending.endswith(" lines")
    for at, row in enumerate(rows_of(n_bytes)):
        line = json.dumps(row, ensure_ascii=False)
        yield (("[" if at == 0 else ",\n") if is_array else "") + line + ("" if is_array else "\n")
    if is_array:
        yield "]"
