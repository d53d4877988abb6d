"""Raw: read a file with its own library and write vectors that are there already, as a script of ten lines would.

Reading is `pyarrow.parquet.read_table`, or `json.loads` of each line. Written are `id`, `text` and `embedding` in one
Parquet file with the settings of a part (zstd, pages with checksums, no dictionary and no statistics of the vectors,
row groups of the same bytes), flushed to the disk at the end as a part is. Nothing is tokenised, hashed, normalised or
checked.

python -m tests.benchmarks.raw INPUT OUTPUT WIDTH
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.console import peak_rss_bytes
from pipeline.dataset.store import ROW_GROUP_BYTES
from pipeline.vectors import fixed_size_list, to_unit_float16
from tests.benchmarks.instant import numbers, vectors

PLAIN = ["id", "text"]


def ready_vectors(source: Path, width: int) -> NDArray[np.float16]:
    """Return what the pipeline stores for each row of a file with the engine that answers at once, shape (n, width)."""
    texts = read(source).column("text").to_pylist()
    found: NDArray[np.float16] = to_unit_float16(vectors(width), width)[
        numbers(text.partition(" ")[0] for text in texts)
    ]
    return found


def read(source: Path) -> pa.Table:
    """Return ids and texts."""
    if source.suffix == ".parquet":
        return pq.read_table(source, columns=PLAIN)
    with source.open() as lines:
        rows = [json.loads(line) for line in lines]
    return pa.table({name: [row[name] for row in rows] for name in PLAIN})


def write(table: pa.Table, found: NDArray[np.float16], output: Path) -> None:
    """Write a table with its vectors."""
    table = table.append_column("embedding", fixed_size_list(found))
    rows = ROW_GROUP_BYTES * len(table) // table.nbytes
    with (
        output.open("wb") as file,
        pq.ParquetWriter(
            file,
            table.schema,
            compression="zstd",
            use_dictionary=PLAIN,
            write_statistics=PLAIN,
            write_page_checksum=True,
        ) as writer,
    ):
        writer.write_table(table, row_group_size=rows)
        file.flush()
        os.fsync(file.fileno())


def main() -> int:
    """Read and write, and print what that took as one JSON object."""
    source, output, width = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    found = ready_vectors(source, width)
    began, began_cpu = time.perf_counter(), time.process_time()
    table = read(source)
    read_s = time.perf_counter() - began
    write(table, found, output)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "read_s": read_s, "peak_rss_bytes": peak_rss_bytes()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
