"""Damaged files of every format, by what happened to them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support import texts
from tests.support.formats import PACK, encoded

ROWS = texts(12)
HEADER, *RECORDS = encoded(ROWS, ".csv").splitlines(keepends=True)
OBJECTS = [json.dumps(row).encode() for row in ROWS]


def any_damage(whole: bytes) -> dict[str, bytes]:
    """Return what happens to files of any kind."""
    quarter = len(whole) // 4
    swapped = whole[:quarter] + whole[2 * quarter : 3 * quarter] + whole[quarter : 2 * quarter] + whole[3 * quarter :]
    return {
        "nothing": b"",
        "its first byte": whole[:1],
        "cut at a quarter": whole[:quarter],
        "cut at a half": whole[: 2 * quarter],
        "cut by five bytes": whole[:-5],
        "zeros after it": whole + bytes(100),
        "zeros for its last quarter": whole[: 3 * quarter] + bytes(len(whole) - 3 * quarter),
        "nothing but zeros": bytes(5000),
        "another beginning": b"\xfe\xfe\xfe\xfe\xfe\xfe\xfe\xfe" + whole[8:],
        "bytes after it": whole + b"more\xff",
        "twice": whole + whole,
        "two blocks swapped": swapped,
    }


def of_text(whole: bytes) -> dict[str, bytes]:
    """Return what happens to texts."""
    return {
        "a BOM": b"\xef\xbb\xbf" + whole,
        "UTF-16": whole.decode().encode("utf-16"),
        "UTF-16 without a BOM": whole.decode().encode("utf-16-be"),
        "a code page": whole.replace(b"word24", "wörd".encode("cp1252")),
        "NULs in it": whole.replace(b"word24", b"wo\0rd"),
        "lines that end in CR": whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
    }


def of_json(rows: list[bytes], join: Callable[[list[bytes]], bytes]) -> dict[str, bytes]:
    """Return what happens to objects, in an array or on lines."""
    one = {
        "a quote that is not closed": b'{"id": "x", "text": "a}',
        "a bracket that is not closed": b'{"id": "x", "text": "a", "k": [1}',
        "deep nesting": b'{"text": "a", "k": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "a number of 10,000 digits": b'{"text": "a", "k": ' + b"9" * 10_000 + b"}",
        "a key twice": b'{"text": "a", "text": "b"}',
        "a value that is no object": b"17",
        "a string of no UTF-8": b'{"text": "\xff"}',
        "half of a pair": b'{"text": "\\ud83d"}',
    }
    return {name: join([*rows[:3], each, *rows[3:]]) for name, each in one.items()}


def of_delimited(delimiter: bytes) -> dict[str, bytes]:
    """Return what happens to records."""
    mark = delimiter
    whole = encoded(ROWS, ".csv" if mark == b"," else ".tsv")
    header, rest = whole.split(b"\r\n", 1)
    return {
        "the header alone": header,
        "no header": rest,
        "the header twice": header + b"\r\n" + whole,
        "a column twice": header + mark + b"text\r\n" + rest.replace(b"\r\n", mark + b"x\r\n"),
        "a quote that is not closed": whole.replace(b"doc-3" + mark, b"doc-3" + mark + b'"'),
        "a quote in the middle of a value": whole.replace(b"doc-3" + mark, b"doc-3" + mark + b'x"'),
        "a value too many": whole.replace(b"doc-3" + mark, b"doc-3" + mark + b"more" + mark),
        "a value too few": whole.replace(b"doc-3" + mark, b""),
        "semicolons": whole.replace(mark, b";"),
        "a header of a megabyte": b"x" * (1 << 20) + mark + whole,
    }


def of_tables() -> dict[str, bytes]:
    """Return what happens to Arrow IPC files and streams besides."""
    table = pa.Table.from_pylist(list(ROWS))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema):
        pass
    schema = sink.getvalue()
    stream, file = encoded(ROWS, ".arrow"), encoded(ROWS, ".feather")
    parquet = encoded(ROWS, ".parquet")
    return {
        "a schema alone": schema,
        "a schema twice": schema[:-8] + stream,
        "a stream without its end": stream[:-8],
        "a file without its index": file[: len(file) // 2] + file[-10:],
        "Parquet": parquet,
        "lines": encoded(ROWS, ".jsonl"),
    }


def of_parquet() -> dict[str, bytes]:
    """Return what happens to Parquet besides."""
    whole = encoded(ROWS, ".parquet")
    size = int.from_bytes(whole[-8:-4], "little")
    sink = io.BytesIO()
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    pq.write_table(twice, sink)
    return {
        "the magic alone": b"PAR1PAR1",
        "a footer alone": b"PAR1" + whole[-8 - size :],
        "pages alone": whole[: -8 - size],
        "zeros in its pages": whole[:40] + bytes(60) + whole[100:],
        "a longer footer": whole[:-8] + (size + 1000).to_bytes(4, "little") + b"PAR1",
        "a column twice": sink.getvalue(),
        "Arrow": encoded(ROWS, ".arrow"),
    }


def of_packed(ending: str) -> dict[str, bytes]:
    """Return what happens to packed files besides, whose texts are lines."""
    packing = ending[ending.rindex(".") :]
    pack, lines = PACK[packing], encoded(ROWS, ".jsonl")
    half = lines.index(b"\n", len(lines) // 2) + 1
    members = [pack(lines[:half]), pack(lines[half:])]
    return {
        "two members": b"".join(members),
        "an empty member between": pack(b"").join(members),
        "a member cut short": members[0] + members[1][:-6],
        "a first member cut short": members[0][:-6] + members[1],
        "packed twice": pack(pack(lines)),
        "not packed": lines,
        "packed otherwise": gzip.compress(lines) if packing != ".gz" else PACK[".xz"](lines),
        "a row cut by two members": b"".join([pack(lines[: half - 9]), pack(lines[half - 9 :])]),
    }


def of_documents() -> dict[str, bytes]:
    """Return what happens to documents."""
    page = b"# A title\n\n" + " ".join(row["text"] for row in ROWS).encode()
    return {
        **any_damage(page),
        **of_text(page),
        "white space": b" \n\t\n",
        "17 MB": b"word " * (17 << 18),
        "a word of a megabyte": b"w" * (1 << 20),
        "front matter without its end": b"---\ntitle: x\n" + page,
        "code without its end": b"```\n" + page,
        "PDF": b"%PDF-1.7\n" + page,
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    }


def damages(ending: str) -> dict[str, bytes]:
    """Return damaged files whose names have an ending, by what happened to them."""
    if ending in (".txt", ".md"):
        return of_documents()
    whole = encoded(ROWS, ending)
    if ending.endswith(tuple(filter(None, PACK))):
        return {**any_damage(whole), **of_packed(ending)}
    if ending in (".parquet", ".pq"):
        return {**any_damage(whole), **of_parquet()}
    if ending in (".arrow", ".feather"):
        return {**any_damage(whole), **of_tables()}
    found = {**any_damage(whole), **of_text(whole)}
    if ending in (".csv", ".tsv"):
        return {**found, **of_delimited(b"," if ending == ".csv" else b"\t")}
    join = (lambda rows: b"[" + b",\n".join(rows) + b"]") if ending == ".json" else (lambda rows: b"\n".join(rows))
    return {**found, **of_json(OBJECTS, join)}
