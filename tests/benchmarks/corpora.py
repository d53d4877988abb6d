"""Corpora: short made-up texts in any number, and real ones of three lengths."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scripts.sample_corpus import CLASSES, FUNCTIONS, MODULES, build_sample
from tests.support import texts

BLOCK = 50_000  # rows that are made and written at a time
WORDS = {"short": range(5, 16), "medium": range(40, 81), "long": range(150, 251)}  # of a text


def write_short(path: Path, n_rows: int) -> Path:
    """Write rows with distinct texts of 3 to 22 words as Parquet or JSON lines, as the suffix says."""
    blocks = (texts(min(BLOCK, n_rows - start), start=start) for start in range(0, n_rows, BLOCK))
    if path.suffix == ".parquet":
        schema = pa.schema([("id", pa.string()), ("text", pa.string())])
        with pq.ParquetWriter(path, schema) as writer:
            for block in blocks:
                writer.write_table(pa.Table.from_pylist(block, schema))
    else:
        with path.open("w") as file:
            for block in blocks:
                file.writelines(json.dumps(row) + "\n" for row in block)
    return path


def write_long(path: Path, n_rows: int, n_words: int) -> Path:
    """Write rows of made-up words as Parquet, `n_words` each."""
    drawn = np.random.default_rng(0).integers(0, 100_000, (n_rows, n_words)).tolist()
    return write_texts(path, (" ".join(f"w{word}" for word in row) for row in drawn))


def real_texts(sample: Path, length: str, n_words: int) -> list[str]:
    """Return distinct texts of the words of the sample corpus, `n_words` in all; `length` is a name of WORDS."""
    build_sample(sample)
    words = itertools.islice(_words(sample), n_words)
    return list(dict.fromkeys(_cut(words, itertools.cycle(WORDS[length]))))


def write_texts(path: Path, found: Iterable[str]) -> Path:
    """Write texts as a Parquet file, with their numbers as ids."""
    table = pa.table({"text": pa.array(found, pa.string())})
    pq.write_table(table.append_column("id", pa.array(map(str, range(len(table))), pa.string())), path)
    return path


def _words(sample: Path) -> Iterator[str]:
    import gzip

    for name in (CLASSES, MODULES):
        for text in pq.read_table(sample / name).column("text").to_pylist():
            yield from text.split()
    with gzip.open(sample / FUNCTIONS, "rt") as lines:
        for line in lines:
            yield from json.loads(line)["text"].split()


def _cut(words: Iterator[str], sizes: Iterator[int]) -> Iterator[str]:
    while piece := list(itertools.islice(words, next(sizes))):
        yield " ".join(piece)
