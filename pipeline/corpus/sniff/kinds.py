"""Kinds: what a file is by its first bytes, whatever its name says, and how it becomes one that is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.stream import COMPRESSION
from pipeline.errors import CorpusError

TAR_MAGIC, TAR_OFFSET = b"ustar", 257
PLAIN_NAME = re.compile(r"[\w.+=@%-]+")
TEXT_ENDING = re.compile(r"(\.(?:jsonl|ndjson|json|csv|tsv|md|txt))(?:\.(?:gz|zst|bz2|xz))?$", re.IGNORECASE)
ENDING = re.compile(rf"\.(parquet|pq|arrow|feather)$|{TEXT_ENDING.pattern}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a file may be.

    In a command `{file}` is its name, or /dev/stdin, `{new}` that of what comes out, and `{same}` the ending that says
    what its text is.
    """

    name: str  # as in "found ..."
    ending: str = ""  # of a kind that is read: it only needs another name
    packing: str = ""  # of a packed text that is read: what its name lacks
    command: str = ""  # that makes it one that is read
    advice: str = ""  # where no command does


GZIP = Kind(name="gzip", packing=".gz")
ZSTD = Kind(name="zstd", packing=".zst")
BZIP2 = Kind(name="bzip2", packing=".bz2")
XZ = Kind(name="xz", packing=".xz")
IPC_FILE = Kind(name="an Arrow IPC file", ending=".arrow")
IPC_STREAM = Kind(name="an Arrow IPC stream", ending=".arrow")
PARQUET = Kind(name="Parquet", ending=".parquet")
TAR = Kind(name="a tar archive", command="tar -xOf {file} > {new}{same}")
_PYTHON = "python -c \"import pyarrow.{module}, pyarrow.parquet as p; p.write_table({table}, '{{new}}.parquet')\""
MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (rb"PAR1|PARE[^A-Za-z]", PARQUET),
    (rb"\x1f\x8b", GZIP),
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", ZSTD),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", BZIP2),
    (rb"\xfd7zXZ\0", XZ),
    (rb"\x5d\0\0.{2}", Kind(name="LZMA", command="xz -dc {file} > {new}{same}")),
    (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", Kind(name="lz4", command="lz4 -dc {file} > {new}{same}")),
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", Kind(name="a zip archive", command="unzip -p {file} > {new}{same}")),
    (rb"7z\xbc\xaf\x27\x1c", Kind(name="a 7z archive", command="7z x -so {file} > {new}{same}")),
    (rb"Rar!\x1a\x07", Kind(name="a RAR archive", command="unrar p -inul {file} > {new}{same}")),
    (rb"\xff\x06\0\0sNaPpY", Kind(name="snappy", command="snzip -dc {file} > {new}{same}")),
    (rb"\x1f\x9d", Kind(name="the output of compress", command="uncompress -c {file} > {new}{same}")),
    (rb"ARROW1\0\0", IPC_FILE),
    (
        rb"FEA1\0",
        Kind(name="Feather", command=_PYTHON.format(module="feather", table="pyarrow.feather.read_table('{file}')")),
    ),
    (rb"\xff\xff\xff\xff.{2}\0\0", IPC_STREAM),
    (
        rb"ORC(?=.{0,64}[\x00-\x08])",
        Kind(name="ORC", command=_PYTHON.format(module="orc", table="pyarrow.orc.read_table('{file}')")),
    ),
    (
        rb"Obj\x01",
        Kind(
            name="Avro",
            command="duckdb -c \"install avro; load avro; copy (from read_avro('{file}')) to '{new}.parquet'\"",
        ),
    ),
    (
        rb"SQLite format 3\0",
        Kind(
            name="a SQLite database",
            command="duckdb -c \"copy (from sqlite_scan('{file}', 'TABLE')) to '{new}.parquet'\"",
        ),
    ),
    (
        rb".{8}DUCK.\0{7}",
        Kind(name="a DuckDB database", command="duckdb {file} -c \"copy (from TABLE) to '{new}.parquet'\""),
    ),
    (rb"%PDF-", Kind(name="PDF", advice="extract its text first, as pdftotext does")),
    (
        rb"\x80[\x02-\x05](\x95|[\]}c(X])",
        Kind(
            name="a pickle",
            command="python -c \"import pandas; pandas.read_pickle('{file}').to_parquet('{new}.parquet')\"",
            advice="if you trust whom it is from",
        ),
    ),
    (rb"\x93NUMPY", Kind(name="a NumPy array", advice="write its texts as lines of JSON")),
    (rb"\x89HDF\r\n\x1a\n", Kind(name="HDF5", advice="write its texts as lines of JSON")),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a", Kind(name="an image", advice="it has no texts")),
)


ANY_MAGIC = re.compile(b"|".join(b"(?:" + magic + b")" for magic, _ in MAGIC), re.DOTALL)


def kind_of(data: bytes) -> Kind | None:
    """Return what bytes are that no text begins with; None for others."""
    if data.startswith(TAR_MAGIC, TAR_OFFSET) and b"\0" in data[:TAR_OFFSET]:
        return TAR
    if not ANY_MAGIC.match(data):
        return None
    return next(kind for magic, kind in MAGIC if re.match(magic, data, re.DOTALL))


def wrong_kind(path: Path, expected: str, kind: Kind, *, unpacked: bool = False) -> CorpusError:
    """Return the error about a file that is something else than its name says.

    `unpacked` tells that it is inside the packed file of that name.
    """
    name = path.name if PLAIN_NAME.fullmatch(path.name) else "FILE"
    stem, same = ENDING.sub("", name), text_ending(path) or ".jsonl"
    unpack = f"{_packing(path)} -dc {name}" if unpacked else ""
    if kind.packing and same in (".md", ".txt"):  # which are not read packed
        advice = f"unpack it: `{kind.name} -dc < {name} > {stem}.new{same}`"
    elif ending := kind.ending or (kind.packing and same + kind.packing):
        new = f"{stem}.new" if name == stem + ending else stem
        advice = f"unpack it: `{unpack} > {new}{ending}`" if unpacked else f"rename it to {stem}{ending}"
    elif kind.command:
        command = kind.command.format(file="/dev/stdin" if unpacked else name, new=f"{stem}.new", same=same)
        advice = f"convert it, as by `{unpack + ' | ' * unpacked}{command}`" + (kind.advice and f", {kind.advice}")
    else:
        advice = kind.advice
    inside = f" inside {_packing(path)}" if unpacked else ""
    return CorpusError(f"{path}: expected {expected}, found {kind.name}{inside}; {advice}")


def text_ending(path: Path) -> str:
    """Return the ending of a name that says what its text is, such as .csv of x.csv.gz; "" where it says nothing."""
    found = TEXT_ENDING.search(path.name)
    return found[1].lower() if found else ""


def _packing(path: Path) -> str:
    return COMPRESSION[path.suffix.lower()]
