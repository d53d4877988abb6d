"""Rows as a file of any format that is read, by the ending of its name."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[Mapping[str, str]]


def packed_zstd(data: bytes) -> bytes:
    """Return bytes packed by zstd."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    found: bytes = sink.getvalue().to_pybytes()
    return found


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".zst": packed_zstd,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def as_lines(rows: Rows) -> bytes:
    """Return a JSON object a line."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_parquet(rows: Rows) -> bytes:
    """Return Parquet in row groups of 7."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink, row_group_size=7)
    return sink.getvalue()


def as_ipc(rows: Rows, *, is_stream: bool = False, codec: str | None = None) -> bytes:
    """Return an Arrow IPC file, or a stream, in record batches of 7."""
    table, sink = pa.Table.from_pylist(list(rows)), io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with (pa.ipc.new_stream if is_stream else pa.ipc.new_file)(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue()


def as_csv(rows: Rows, delimiter: str = ",") -> bytes:
    """Return CSV as Python writes it, with CRLF."""
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


WHOLE: dict[str, Callable[[Rows], bytes]] = {
    ".parquet": as_parquet,
    ".pq": as_parquet,
    ".arrow": lambda rows: as_ipc(rows, is_stream=True),
    ".feather": lambda rows: as_ipc(rows, codec="lz4"),
}
TEXTS: dict[str, Callable[[Rows], bytes]] = {
    ".jsonl": as_lines,
    ".ndjson": as_lines,
    ".json": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False).encode(),
    ".csv": as_csv,
    ".tsv": lambda rows: as_csv(rows, "\t"),
}
ENDINGS = (*WHOLE, *(text + packing for text in TEXTS for packing in PACK))


def encoded(rows: Rows, ending: str) -> bytes:
    """Return rows, which are texts, as a file whose name has an ending."""
    if ending in WHOLE:
        return WHOLE[ending](rows)
    text = max((text for text in TEXTS if ending.startswith(text)), key=len)
    return PACK[ending.removeprefix(text)](TEXTS[text](rows))


def write_rows(path: Path, rows: Rows) -> Path:
    """Write rows as the name of a file says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = max((ending for ending in ENDINGS if path.name.endswith(ending)), key=len)
    path.write_bytes(encoded(rows, ending))
    return path
