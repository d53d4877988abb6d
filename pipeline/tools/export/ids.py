"""Ids: what names each passage, in a file beside vectors that have no place for it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.schema import PART
from pipeline.tools.passages import Passages

IDS = pa.schema([PART.field(name) for name in ("id", "source", "row", "passage")])


def write_beside(passages: Passages, folder: Path, name: str, header: bytes) -> None:
    """Write `ids.parquet` and, in the same order, a file of a header and the float32 vectors one after another."""
    folder.mkdir()
    with (folder / name).open("wb") as file, pq.ParquetWriter(folder / "ids.parquet", IDS, compression="zstd") as ids:
        file.write(header)
        for table, vectors in passages.pieces(IDS.names):
            file.write(vectors.astype("<f4", copy=False).data)
            ids.write_table(table.cast(IDS))
