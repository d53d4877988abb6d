"""Files whose content is not what their name says: found before anything is read from them, and named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.chunk import MAX_LINE_BYTES
from pipeline.corpus.sniff.kinds import BZIP2, GZIP, IPC_FILE, IPC_STREAM, PARQUET, XZ, ZSTD, Kind, kind_of, wrong_kind
from pipeline.corpus.sniff.shapes import (
    CSV,
    LFS_POINTER,
    LINES,
    PLAIN,
    POINTER,
    TSV,
    UNKNOWN,
    YAML,
    document_of,
    encoding_of,
    has_object,
    object_of,
    shape_of,
)
from pipeline.corpus.stream import COMPRESSION
from pipeline.corpus.textual.lines import Head, read_raw_head
from pipeline.errors import CorpusError

PACKED = {".gz": GZIP, ".zst": ZSTD, ".bz2": BZIP2, ".xz": XZ}
EXPECTED = {
    **dict.fromkeys((".parquet", ".pq"), ("a Parquet file", (PARQUET,))),
    **dict.fromkeys((".arrow", ".feather"), ("an Arrow IPC file or stream", (IPC_FILE, IPC_STREAM))),
    **{end: (f"a readable file of lines packed by {kind.name}", (kind,)) for end, kind in PACKED.items()},
}


def check_kind(path: Path, head: Head, *, n_objects: int) -> None:
    """Raise CorpusError for a file that begins with something else than lines of JSON objects.

    `n_objects` counts the objects on its first lines. What has some is a file of lines unless these are pieces of
    something larger.
    """
    kind = kind_of(head.data) or document_of(head) or (None if n_objects else shape_of(head))
    if kind is not None:
        raise wrong_kind(path, "lines of JSON", kind, unpacked=path.suffix.lower() in COMPRESSION)
    if head.is_endless and not n_objects:
        raise CorpusError(
            f"{path} row {head.row}: expected lines of at most {MAX_LINE_BYTES:,} bytes, found one of "
            f"{head.long_line_bytes:,} and no other; is this one JSON document instead of one per line?"
        )


def check_array(path: Path, data: bytes, *, n_objects: int, n_others: int) -> None:
    """Raise CorpusError for the beginning of an array whose first elements are no objects."""
    if n_others and not n_objects:
        values = Kind(
            name="a JSON array without objects", command="jq -c '.[] | {{text: tostring}}' {file} > {new}.jsonl"
        )
        raise wrong_kind(path, "a JSON array of objects", values, unpacked=path.suffix.lower() in COMPRESSION)
    if not n_objects and len(data) > MAX_LINE_BYTES:
        raise CorpusError(
            f"{path}: expected a JSON array of objects of at most {MAX_LINE_BYTES:,} bytes, found a longer one first"
        )


def check_object(path: Path, record: Mapping[str, Any]) -> None:
    """Raise CorpusError for the only object of a file that lacks the columns of a row where its rows are in it."""
    if kind := object_of(record):
        raise wrong_kind(path, "an object for each row", kind, unpacked=path.suffix.lower() in COMPRESSION)


def check_document(path: Path, data: bytes) -> None:
    """Raise CorpusError for a file that begins as no text does, or that only points to one."""
    kind = POINTER if data.startswith(LFS_POINTER) else kind_of(data) or (encoding_of(data) if data else None)
    if kind is not None:
        raise wrong_kind(path, "a text", kind)


def check_table(path: Path, head: Head, delimiter: str) -> None:
    """Raise CorpusError for a file without the right header that is something else than CSV, or TSV with its tabs."""
    own = TSV if delimiter == "\t" else CSV
    kind = kind_of(head.data) or document_of(head) or (LINES if has_object(head) else shape_of(head))
    if kind not in (own, PLAIN, YAML, None):
        raise wrong_kind(path, f"{own.name} with a header", kind, unpacked=path.suffix.lower() in COMPRESSION)


def misnamed(path: Path) -> CorpusError | None:
    """Return what Parquet or a packed file is that cannot be read as such; None where its name is right."""
    expected, right = EXPECTED.get(path.suffix.lower(), ("", ()))
    try:
        head = read_raw_head(path) if expected and path.is_file() else None  # a pipe would never end
    except OSError:  # the reader has said what it is
        return None
    if head is None or not head.data or (kind := kind_of(head.data)) in right:
        return None
    kind = kind or document_of(head) or (LINES if has_object(head) else shape_of(head))
    return None if kind in (None, UNKNOWN) else wrong_kind(path, expected, kind)
