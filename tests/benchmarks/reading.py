"""How fast each format is read, against the library that a person would read it with alone.

The same rows of short texts, with an id and a kept column, are read to the end by our reader, its spans as a run cuts
them, and by the library into the Python or Arrow values that it gives. The two take turns, and the ratios are those of
the pairs. Seconds are those of the processor, which other work on the machine moves less than those of the clock.
Run it as `python -m tests.benchmarks.reading [--rows 100000] [--pairs 5]`; it prints JSON, then Markdown.
"""

from __future__ import annotations

import argparse
import bz2
import csv
import gzip
import io
import json
import lzma
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.feather as feather
import pyarrow.json as arrow_json
import pyarrow.parquet as pq

from pipeline.chunk import ChunkSize, Density, Span
from pipeline.corpus import Columns
from pipeline.corpus.reader import reader_of
from tests.support.formats import PACK

COLUMNS = Columns(text=("text",), template=None, id="id", keep=("title",)).typed({"title": pa.string()})
NAMES = ["id", "text", "title"]
DOCUMENT_ROWS = 100  # whose texts are one document
DENSITY, SIZE = Density(tokens_per_row=10.0, tokens_per_byte=0.1), ChunkSize(tokens=1 << 18)


def make_table(n_rows: int) -> pa.Table:
    """Return rows of six to fourteen words each, the same every time."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(5000)]
    texts = [" ".join(draw.choices(words, k=draw.randint(6, 14))) for _ in range(n_rows)]
    return pa.table({"id": [f"doc-{row}" for row in range(n_rows)], "text": texts, "title": [t[:20] for t in texts]})


def write_all(table: pa.Table, folder: Path) -> None:
    """Write the rows in each format, as `rows` and the ending of its name."""
    rows = table.to_pylist()
    pq.write_table(table, folder / "rows.parquet")
    feather.write_feather(table, str(folder / "rows.feather"))
    with pa.ipc.new_stream(str(folder / "rows.arrow"), table.schema) as stream:
        stream.write_table(table)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    for packing, pack in PACK.items():
        (folder / f"rows.jsonl{packing}").write_bytes(pack(lines))
    (folder / "rows.json").write_text(json.dumps(rows))
    for name, dialect in (("rows.csv", "excel"), ("rows.tsv", "excel-tab")):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, NAMES, dialect=dialect)
            writer.writeheader()
            writer.writerows(rows)
    (folder / "rows.md").mkdir()
    for start in range(0, len(rows), DOCUMENT_ROWS):
        text = "\n".join(table["text"][start : start + DOCUMENT_ROWS].to_pylist())
        (folder / f"rows.md/{start}.md").write_text(f"# {start}\n{text}")


def read_ours(path: Path) -> int:
    """Cut a file, or each of a folder, into spans and read each, as a run does; return the number of its rows."""
    if path.is_dir():
        return sum(map(read_ours, sorted(path.iterdir())))
    reader = reader_of(path.parent, path.name)
    start = Span(row_start=0, row_stop=0)
    spans = [span for span, _ in reader.cut(start, DENSITY, SIZE, is_open=True, limit=None, kinds={})]
    n_rows = sum(len(reader.read(span, COLUMNS).text) for span in spans)
    reader.close()
    return n_rows


def _json_lines(path: Path, opened: Callable[..., Any] = open) -> int:
    with opened(path, "rb") as file:
        return len([json.loads(line) for line in file])


def _unpacked(path: Path, mode: str) -> io.BufferedReader:
    return io.BufferedReader(pa.input_stream(str(path)))


def _json_array(path: Path) -> int:
    with path.open("rb") as file:
        return len(json.load(file))


def _dict_reader(path: Path, delimiter: str = ",") -> int:
    with path.open(newline="") as file:
        return len(list(csv.DictReader(file, delimiter=delimiter)))


def _arrow_tsv(path: Path) -> int:
    return len(arrow_csv.read_csv(path, parse_options=arrow_csv.ParseOptions(delimiter="\t")))


# A format and its libraries. Those that end in "values" give what a tokenizer takes, Python strings, as ours does.
LIBRARIES: dict[str, dict[str, Callable[[Path], int]]] = {
    "parquet": {
        "pyarrow.parquet": lambda path: len(pq.read_table(path, columns=NAMES, use_threads=False)),
        "pyarrow.parquet, values": lambda path: len(pq.read_table(path, use_threads=False).to_pydict()["text"]),
    },
    "feather": {
        "pyarrow.feather": lambda path: len(
            feather.read_table(path, columns=NAMES, use_threads=False, memory_map=False)
        ),
        "pyarrow.feather, values": lambda path: len(feather.read_table(path, use_threads=False).to_pydict()["text"]),
    },
    "arrow": {
        "pyarrow.ipc": lambda path: len(pa.ipc.open_stream(path.read_bytes()).read_all()),
        "pyarrow.ipc, values": lambda path: len(pa.ipc.open_stream(path.read_bytes()).read_all().to_pydict()["text"]),
    },
    "jsonl": {"json.loads": _json_lines, "pyarrow.json": lambda path: len(arrow_json.read_json(path))},
    "jsonl.gz": {"gzip, json.loads": lambda path: _json_lines(path, gzip.open)},
    "jsonl.zst": {"pyarrow (zstd), json.loads": lambda path: _json_lines(path, _unpacked)},
    "jsonl.bz2": {"bz2, json.loads": lambda path: _json_lines(path, bz2.open)},
    "jsonl.xz": {"lzma, json.loads": lambda path: _json_lines(path, lzma.open)},
    "json": {"json.load": _json_array},
    "csv": {"csv.DictReader": _dict_reader, "pyarrow.csv": lambda path: len(arrow_csv.read_csv(path))},
    "tsv": {"csv.DictReader": lambda path: _dict_reader(path, "\t"), "pyarrow.csv": _arrow_tsv},
    "md": {"Path.read_text": lambda path: len([each.read_text() for each in sorted(path.iterdir())])},
}


def measure(folder: Path, n_rows: int, n_pairs: int) -> list[dict[str, Any]]:
    """Return for each format and library the median ratio of the pairs, their least and most, and our seconds."""
    found = []
    for kind, libraries in LIBRARIES.items():
        for name, read in libraries.items():
            path = folder / f"rows.{kind}"
            n = len(range(0, n_rows, DOCUMENT_ROWS)) if path.is_dir() else n_rows
            pairs = [(_took(read_ours, path, n), _took(read, path, n)) for _ in range(n_pairs + 1)][1:]
            ratios = [ours / alone for ours, alone in pairs]
            found.append(
                {
                    "format": kind,
                    "library": name,
                    "ratio": round(statistics.median(ratios), 2),
                    "spread": [round(min(ratios), 2), round(max(ratios), 2)],
                    "our_us_per_row": round(statistics.median(ours for ours, _ in pairs) / n * 1e6, 2),
                }
            )
    return found


def _took(read: Callable[[Path], int], path: Path, n_rows: int) -> float:
    began = time.process_time()
    assert read(path) == n_rows, path
    return time.process_time() - began


def as_markdown(found: Sequence[dict[str, Any]]) -> str:
    """Return the figures as a table."""
    lines = ["| format | library | ratio | spread | µs a row |", "| --- | --- | --- | --- | --- |"]
    for row in found:
        low, high = row["spread"]
        lines.append(
            f"| {row['format']} | {row['library']} | {row['ratio']} | {low} to {high} | {row['our_us_per_row']} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure as the arguments say, in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_all(make_table(asked.rows), Path(folder))
        found = measure(Path(folder), asked.rows, asked.pairs)
    about = {"rows": asked.rows, "pairs": asked.pairs, "pyarrow": pa.__version__, "python": platform.python_version()}
    print(json.dumps({**about, "formats": found}, indent=2))
    print(as_markdown(found))
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
