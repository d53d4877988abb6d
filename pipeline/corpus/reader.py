"""Readers: what the pipeline asks of a file format, the formats there are, and a chunk's rows by them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import ChunkSize, Density, Shard, Span
from pipeline.corpus import delimited, documents, ipc, json_file, jsonl, parquet
from pipeline.corpus.blocks import Block
from pipeline.corpus.delimited import CsvReader, TsvReader
from pipeline.corpus.documents import DocumentReader
from pipeline.corpus.ipc import IpcReader
from pipeline.corpus.json_file import JsonReader
from pipeline.corpus.jsonl import JsonlReader
from pipeline.corpus.parquet import ParquetReader
from pipeline.corpus.rows import Columns, Rows
from pipeline.corpus.stream import COMPRESSION
from pipeline.corpus.textual.record import Kinds
from pipeline.errors import CorpusError
from pipeline.files import on_volumes


class Reader(Protocol):
    """One shard of a format. It may keep its file open after `read`, because the next span mostly begins there.

    Every method raises CorpusError for a file that cannot be read or is not what it was.
    """

    rows_have_places: ClassVar[bool]  # whether a row keeps its number when rows before it change

    def __init__(self, path: Path, source: str) -> None: ...

    def column_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        """Return the type of each column and of each kept path into one; None where only its rows tell the type.

        Raises CorpusError when a `needed` column is not there.
        """
        ...

    def head(self, columns: Columns) -> tuple[Rows, int]:
        """Return some rows from the start, and the bytes of their lines; 0 where rows are not lines."""
        ...

    def place_at(self, share: float) -> int:
        """Return the number of the place that is a share of the shard from its start, from 0 to 1."""
        ...

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        """Yield the rows of a place, or without one all rows, rejected ones included as far as they have a size."""
        ...

    def cut(
        self, gap: Span, density: Density, size: ChunkSize, *, is_open: bool, limit: int | None, kinds: Kinds
    ) -> Iterator[tuple[Span, bool]]:
        """Yield spans of about the size of a chunk that fill a gap, each with whether it ends the shard.

        An open gap goes on to the end of the shard; `limit` bounds its rows. Adds to `kinds` what the rows of the spans
        have in the columns that are its keys, where `column_types` has no type for them.
        """
        ...

    def byte_of(self, span: Span, row: int) -> int:
        """Return the byte where a row inside a span begins; 0 where rows are not addressed by bytes."""
        ...

    def ends_at(self, span: Span) -> bool:
        """Whether the shard ends with a span."""
        ...

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of all rows in rising order, in arrays of any length."""
        ...

    def read(self, span: Span, columns: Columns) -> Rows:
        """Return the rows of a span."""
        ...

    def close(self) -> None:
        """Close the file if it is open."""
        ...


# A format is a file and a line here: the endings of its names, in lower case, and its reader.
READERS: dict[str, type[Reader]] = {
    **dict.fromkeys(parquet.SUFFIXES, ParquetReader),
    **dict.fromkeys(jsonl.SUFFIXES, JsonlReader),
    **dict.fromkeys(json_file.SUFFIXES, JsonReader),
    **dict.fromkeys(ipc.SUFFIXES, IpcReader),
    **dict.fromkeys(delimited.CSV_SUFFIXES, CsvReader),
    **dict.fromkeys(delimited.TSV_SUFFIXES, TsvReader),
    **dict.fromkeys(documents.SUFFIXES, DocumentReader),
}
ABOUT_ROWS = re.compile(r"(dataset_infos?|dataset_dict|state)\.json|.*\.metadata\.json")  # of Hugging Face and Iceberg


def endings() -> str:
    """Return the endings of names that have a reader, in words where a text is packed."""
    plain = [suffix for suffix in READERS if not suffix.endswith(tuple(COMPRESSION))]
    return f"{', '.join(plain)}, or a text packed as .jsonl.gz is ({', '.join(COMPRESSION)})"


def is_shard(name: str) -> bool:
    """Whether a file, by its name in lower case, has rows; what others keep about their rows has none."""
    return name.endswith(tuple(READERS)) and not ABOUT_ROWS.fullmatch(name.rpartition("/")[2])


def kinds_apart(names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of the shards among files, and those of the documents that are none beside files of rows."""
    endings = tuple(suffix for suffix, kind in READERS.items() if kind is DocumentReader)
    documents = [name for name in names if name.lower().endswith(endings)]
    others = [name for name in names if not name.lower().endswith(endings)]
    return (others, documents) if others else (names, ())


def reader_of(root: Path, source: str) -> Reader:
    """Return the reader of a shard, by the ending of its name; it opens no file yet."""
    return reader_at(root / source, source)


def reader_at(path: Path, source: str) -> Reader:
    """Return the reader of a shard that is at a path."""
    name = source.lower()
    for suffix, kind in READERS.items():
        if name.endswith(suffix):
            return kind(path, source)
    raise CorpusError(f"{path}: expected a name ending in {endings()}")


def shard_at(root: Path, source: str) -> Shard:
    """Return a shard as it is now, on volumes with its date in whole seconds: two containers may see a file with
    another fraction. Raises CorpusError when it is gone.
    """
    return _now(root / source, source)


def shard_of(source: str, found: os.stat_result) -> Shard:
    """Return a shard from what the system says of its file; see `shard_at`."""
    fraction_ns = found.st_mtime_ns % 1_000_000_000 if on_volumes() else 0
    return Shard(source=source, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns - fraction_ns)


def _now(path: Path, source: str) -> Shard:
    try:
        return shard_of(source, path.stat())
    except OSError as error:
        raise CorpusError(f"{path}: expected a file of the input, found: {error.strerror}") from error


def check_unchanged(path: Path, shard: Shard) -> None:
    """Raise CorpusError for a shard that is not as the run found it."""
    now = _now(path, shard.source)
    if now != shard:
        raise CorpusError(
            f"{path}: expected {shard.size_bytes:,} bytes as when the run began, found "
            f"{now.size_bytes:,} or a newer date; run again to embed it as it is now"
        )
