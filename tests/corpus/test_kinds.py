"""Files that are not what their names say: each is named with what it is and how it becomes one that is read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import sqlite3
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import CorpusConfig
from pipeline.corpus import stream
from pipeline.corpus.shards import Corpus, find_shards, open_corpus
from pipeline.corpus.textual import lines
from pipeline.errors import CorpusError
from tests.support import HASHING
from tests.support.many import Call, run_all

DOCS = [{"id": str(n), "text": f"text {n}"} for n in range(3)]
LINES = b"".join(json.dumps(doc).encode() + b"\n" for doc in DOCS)
TABLE = pa.table({"text": ["a", "b"]})


def made(write: Callable[[io.BytesIO], object]) -> bytes:
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


def arrow(new: Callable[..., pa.RecordBatchWriter]) -> bytes:
    sink = pa.BufferOutputStream()
    with new(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def packed(codec: str, data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as out:
        out.write(data)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def zipped(file: io.BytesIO) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.jsonl", LINES)


def tarred(file: io.BytesIO) -> None:
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(entry := tarfile.TarInfo("x.jsonl"), io.BytesIO(LINES[: entry.size]))
        entry.size = len(LINES)
        archive.addfile(entry, io.BytesIO(LINES))


def database() -> bytes:
    with sqlite3.connect(":memory:") as base:
        base.execute("create table x (text)")
        return base.serialize()


PARQUET = made(lambda file: pq.write_table(TABLE, file))
PRETTY = json.dumps(DOCS, indent=2).encode()
BIG = b'{"data": [\n' + b",\n".join(json.dumps(doc).encode() for doc in DOCS * 9000) + b"\n]}"  # over the head
CSV = b'id,text\n1,"a, b"\n2,"c\nd"\n'
IN_DATA = "one JSON object with its rows in 'data'"
IN_E = "one JSON object with its rows in 'e'"
TO_JSON = "rename it to x.json"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 146946961\n"

# Named .jsonl: what it is said to be, and a word of what is to be done.
KINDS: dict[str, tuple[bytes, str, str]] = {
    "LFS": (POINTER, "a pointer of Git LFS", "git lfs pull"),
    "HTML": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML", "fetch it again"),
    "HTML in capitals": (b"\n <HTML>\n<HEAD>", "HTML", "fetch it again"),
    "XML": (b'<?xml version="1.0"?>\n<rows><row>a</row></rows>', "XML", ""),
    "CSV": (CSV, "CSV", "rename it to x.csv"),
    "semicolons": (b"id;text\n1;a\n2;b\n", "CSV", "read_csv"),
    "semicolons, and a comma in each text": (b"id;text\n" + b"1;a, b\n" * 20, "CSV with semicolons", "read_csv"),
    "TSV": (b"id\ttext, too\n1\ta\n2\tb\n", "TSV", "rename it to x.tsv"),
    "YAML": (b"---\n- text: a\n- text: b\n", "YAML", "yq"),
    "YAML of pairs": (b"id: 1\ntext: a\n", "YAML", "yq"),
    "prose": (b"It was a dark night,\nand the rain fell, in torrents,\nexcept at times.\n", "plain text", "jq -Rc"),
    "an array": (json.dumps(DOCS).encode(), "a JSON array", TO_JSON),
    "an array and a newline": (b"\n" + json.dumps(DOCS).encode() + b"\n", "a JSON array", TO_JSON),
    "an array over many lines": (PRETTY, "a JSON array", TO_JSON),
    "an array, a row a line": (b"[\n" + LINES[:-1].replace(b"\n", b",\n") + b"\n]\n", "a JSON array", TO_JSON),
    "an array that is cut": (PRETTY[:-20], "a JSON array", TO_JSON),
    "an array with NaN": (b'[\n{"text": "a", "n": NaN},\n{"text"', "a JSON array", TO_JSON),
    "a large array": (json.dumps(DOCS * 9000).encode(), "a JSON array", TO_JSON),
    "a large array over many lines": (BIG[9:-1], "a JSON array", TO_JSON),
    "a BOM and an array": (b"\xef\xbb\xbf" + PRETTY, "a JSON array", TO_JSON),
    "an array in Latin-1": ('[{"text": "caf\xe9"}]'.encode("latin-1"), "a JSON array", TO_JSON),
    "a document": (b'{\n"a": 1\n}', "one JSON document over many lines", "jq -c ."),
    "rows in a document": (b'{\n"data":\n' + PRETTY + b"}", IN_DATA, "jq -c '.data[]'"),
    "rows after others": (b'{\n"a": "\\"", "b": {"c": 1},\n"d": -1.5,\n"e": ' + PRETTY + b"}", IN_E, "jq -c '.e[]'"),
    "rows in Chinese": (('{\n"data": [{"text": "%s"}]\n}' % ("\u6587" * 99)).encode(), IN_DATA, "jq -c '.data[]'"),
    "an article": (b'{\n"by": [{"name": "a"}],\n"text": "%b"}' % (b"b" * 99), "one JSON document", "jq -c ."),
    "rows in a list of another name": (b'{\n"it\'s": ' + PRETTY + b"}", "one JSON document over many lines", "jq -c ."),
    "a large document": (BIG, IN_DATA, "jq -c '.data[]'"),
    "objects over many lines": (
        b"\n".join(json.dumps(doc, indent=1).encode() for doc in DOCS),
        "JSON objects without a line each",
        "jq -c .",
    ),
    "objects without line ends": (LINES.replace(b"\n", b""), "JSON objects without a line each", "jq -c ."),
    "objects with spaces between": (LINES.replace(b"\n", b" "), "JSON objects without a line each", "jq -c ."),
    "objects with commas between": (LINES.replace(b"\n", b",\n"), "JSON objects with commas between", "sed"),
    "all but the last with commas": (LINES[:-1].replace(b"\n", b",\n"), "JSON objects with commas between", "sed"),
    "lines of arrays": (b'["1", "a"]\n["2", "b"]\n', "lines of JSON arrays, not objects", "jq -c"),
    "lines of strings": (b'"a"\n"b"\n', "lines of JSON strings, not objects", "jq -c '{text: .}'"),
    "lines of numbers": (b"1\nnull\n", "lines of JSON values, not objects", "jq -c"),
    "UTF-16": (LINES.decode().encode("utf-16"), "UTF-16", "iconv -f UTF-16 -t UTF-8"),
    "UTF-16BE with a BOM": (b"\xfe\xff" + LINES.decode().encode("utf-16-be"), "UTF-16", "iconv -f UTF-16 "),
    "UTF-16LE": (LINES.decode().encode("utf-16-le"), "UTF-16LE", "iconv -f UTF-16LE"),
    "UTF-16BE": (LINES.decode().encode("utf-16-be"), "UTF-16BE", "iconv -f UTF-16BE"),
    "UTF-16 of CSV": (CSV.decode().encode("utf-16-le"), "UTF-16LE", "iconv -f UTF-16LE"),
    "UTF-32": (LINES.decode().encode("utf-32"), "UTF-32", "iconv -f UTF-32"),
    "UTF-32BE": (LINES.decode().encode("utf-32-be"), "UTF-32BE", "iconv -f UTF-32BE"),
    "CR": (LINES.replace(b"\n", b"\r"), "lines that end in CR alone", "tr '\\r' '\\n'"),
    "RFC 7464": (b"\x1e" + LINES[:-1].replace(b"\n", b"\n\x1e") + b"\n", "a JSON text sequence", "tr -d '\\036'"),
    "zeros": (bytes(5000), "nothing but zero bytes", "fetch it again"),
    "gzip": (gzip.compress(LINES, mtime=0), "gzip", "rename it to x.jsonl.gz"),
    "zstd": (packed("zstd", LINES), "zstd", "rename it to x.jsonl.zst"),
    "bzip2": (bz2.compress(LINES), "bzip2", "rename it to x.jsonl.bz2"),
    "xz": (lzma.compress(LINES), "xz", "rename it to x.jsonl.xz"),
    "lz4": (packed("lz4", LINES), "lz4", "lz4 -dc"),
    "zip": (made(zipped), "a zip archive", "unzip -p"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive", "7z x"),
    "snappy": (b"\xff\x06\0\0sNaPpY" + bytes(range(100)), "snappy", "snzip"),
    "tar": (made(tarred), "a tar archive", "tar -xOf x.jsonl > x.new.jsonl"),
    "Parquet": (PARQUET, "Parquet", "rename it to x.parquet"),
    "Arrow file": (arrow(pa.ipc.new_file), "an Arrow IPC file", "rename it to x.arrow"),
    "Arrow stream": (arrow(pa.ipc.new_stream), "an Arrow IPC stream", "rename it to x.arrow"),
    "ORC": (made(lambda file: pyarrow.orc.write_table(TABLE, file)), "ORC", "read_table('x.jsonl')"),
    "Avro": (b"Obj\x01" + bytes(range(100)), "Avro", "read_avro"),
    "SQLite": (database(), "a SQLite database", "sqlite_scan"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "PDF", "pdftotext"),
    "pickle": (pickle.dumps(DOCS), "a pickle", "read_pickle"),
    "NumPy": (made(lambda file: np.save(file, np.zeros(3))), "a NumPy array", ""),
    "other bytes": (bytes(range(1, 256)) * 3, "bytes that are no text", ""),
}  # fmt: skip


def opened(folder: Path) -> Corpus:
    return open_corpus(*find_shards(str(folder)), CorpusConfig())


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(CorpusError) as error:
        opened(path)
    return str(error.value)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_is_named_with_what_it_is(tmp_path: Path, name: str) -> None:
    data, found, advice = KINDS[name]
    said = refusal(tmp_path / "x.jsonl", data)
    assert f"x.jsonl: expected lines of JSON, found {found}" in said
    assert advice in said
    assert "\n" not in said


@pytest.mark.parametrize("name", ["an array", "CSV", "tar", "HTML", "gzip", "Parquet", "bzip2", "UTF-16", "LFS"])
@pytest.mark.parametrize(("suffix", "codec"), [("gz", "gzip"), ("zst", "zstd"), ("bz2", "bz2"), ("xz", "xz")])
def test_so_is_one_inside_a_packed_file(tmp_path: Path, name: str, suffix: str, codec: str) -> None:
    data, found, _ = KINDS[name]
    whole = lzma.compress(data) if codec == "xz" else packed(codec, data)
    said, command = refusal(tmp_path / f"x.jsonl.{suffix}", whole), stream.COMPRESSION[f".{suffix}"]
    assert f"found {found} inside {command}" in said
    assert f"{command} -dc x.jsonl.{suffix} " in said or not KINDS[name][2].startswith(("rename", "tar"))


@pytest.mark.parametrize(
    ("file", "data", "found"),
    [
        ("x.parquet", LINES, "expected a Parquet file, found lines of JSON; rename it to x.jsonl"),
        ("x.parquet", CSV, "expected a Parquet file, found CSV; rename it to x.csv"),
        ("x.parquet", POINTER, "expected a Parquet file, found a pointer of Git LFS; "),
        ("x.parquet", gzip.compress(PARQUET, mtime=0), "expected a Parquet file, found gzip"),
        ("x.parquet", PRETTY, "expected a Parquet file, found a JSON array"),
        ("x.pq", LINES, "expected a Parquet file, found lines of JSON; rename it to x.jsonl"),
        ("x.arrow", PARQUET, "expected an Arrow IPC file or stream, found Parquet; rename it to x.parquet"),
        ("x.feather", LINES, "expected an Arrow IPC file or stream, found lines of JSON; rename it to x.jsonl"),
        ("x.jsonl.bz2", LINES, "packed by bzip2, found lines of JSON; rename it to x.jsonl"),
        ("x.jsonl.xz", bz2.compress(LINES), "packed by xz, found bzip2; rename it to x.jsonl.bz2"),
        ("x.jsonl.gz", LINES, "packed by gzip, found lines of JSON; rename it to x.jsonl"),
        ("x.jsonl.gz", b"<html>", "packed by gzip, found HTML"),
        ("x.jsonl.gz", packed("zstd", LINES), "packed by gzip, found zstd; rename it to x.jsonl.zst"),
        ("x.ndjson.zst", gzip.compress(LINES, mtime=0), "packed by zstd, found gzip; rename it to x.ndjson.gz"),
        ("x.jsonl.zst", POINTER, "packed by zstd, found a pointer of Git LFS"),
    ],
)
def test_what_a_name_promises_in_vain_is_said(tmp_path: Path, file: str, data: bytes, found: str) -> None:
    assert found in refusal(tmp_path / file, data)


LONG = json.dumps({"text": "w " * lines.HEAD_BYTES}).encode()

# Files of lines, whatever they begin with: how many objects are seen on their first lines.
GOOD: dict[str, bytes] = {
    "a long first line": LONG + b"\n" + LINES,
    "nothing but a long line": LONG,
    "blank lines first": b"\n\r\n  \n" + LINES,
    "a BOM": b"\xef\xbb\xbf" + LINES,
    "a broken first line": b'{"text": "a\n' + LINES,
    "the first line of an array": b"[1, 2]\n" + LINES,
    "a heading": b"id,text\n" + LINES,
    "words that begin like a kind": b"ORCHESTRA\nPARENTS\nARROW1 FEA1\n" + LINES,
    "a word where a kind has its mark": b"I saw a DUCK\n" + LINES,
    "a text that has the mark of tar": b'{"text": "' + b"a" * 247 + b'ustar"}\n' + LINES,
    "zeros first": bytes(100) + b"\n" + LINES,
    "the end of an array": LINES + b"]\n",
    "half a code page": '{"text": "caf\xe9"}\n'.encode("latin-1") + LINES,
    "DOS ends": LINES.replace(b"\n", b"\r\n"),
    "markup in a text": b'{"text": "<html>"}\n{"text": "}{"}\n',
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_of_lines_is_read_whatever_it_begins_with(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / f"x.jsonl{suffix}").write_bytes(gzip.compress(GOOD[name], 1) if suffix else GOOD[name])
    assert len(opened(tmp_path).shards) == 1


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b'{"text": "a', b"{'text': 'a'}\n{'text': 'b'}\n", '{"text": "\xe9"}\n'.encode("cp1252") * 3]
)
def test_damaged_lines_alone_are_no_other_kind(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    assert len(opened(tmp_path).shards) == 1


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"text": "' + b"a" * 200, "expected lines of at most 50 bytes, found one of 210 and no other"),
        (b"[" + b'{"text": "a"}, ' * 30 + b"]\n", "found a JSON array"),
        (b'{"text": "a"}' * 30, "found JSON objects without a line each"),
        (b"<html>" + b"a" * 200, "found HTML"),
    ],
)
def test_one_line_without_an_end_is_no_file_of_lines(
    tmp_path: Path, data: bytes, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 50)
    monkeypatch.setattr("pipeline.corpus.sniff.misnamed.MAX_LINE_BYTES", 50)
    monkeypatch.setattr(lines, "HEAD_BYTES", 30)
    monkeypatch.setattr(stream, "BLOCK_BYTES", 20)
    assert found in refusal(tmp_path / "x.jsonl", data)
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "' + b"a" * 200 + b"\n" + LINES)
    assert len(opened(tmp_path).shards) == 1


@given(data=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    try:
        opened(tmp_path)
    except CorpusError as error:
        assert re.search("x.jsonl: expected (lines of JSON, found .*; |column 'text')", str(error))  # noqa: PT017


def test_a_conversion_that_is_advised_works(tmp_path: Path) -> None:
    for name in ("tar", "CR", "RFC 7464", "UTF-16", "all but the last with commas"):
        said = refusal(tmp_path / "x.jsonl", KINDS[name][0])
        command = re.findall("`(.*)`", said)[0]
        subprocess.run(["bash", "-c", command], check=True, cwd=tmp_path)
        assert (tmp_path / "x.new.jsonl").read_bytes().rstrip() == LINES.rstrip()
        (tmp_path / "x.new.jsonl").unlink()


def test_a_run_names_the_file_or_skips_it_and_says_what_else_is_there(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/good.jsonl").write_bytes(LINES)
    (tmp_path / "in/bad.jsonl").write_bytes(CSV)
    (tmp_path / "in/a.xls").write_bytes(CSV)
    run: list[str | Path] = ["run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING]
    refused, skipped, planned = run_all(
        [
            Call(run),
            Call([*run, "--skip-bad-files"]),
            Call(["plan", "--input", tmp_path / "in/good.jsonl", *HASHING]),
        ]
    )
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[0] == "embed-corpus: left out 1 file of another kind: 1 .xls"
    assert "bad.jsonl: expected lines of JSON, found CSV; rename it to bad.csv" in refused.stderr.splitlines()[1]
    assert len(refused.stderr.splitlines()) == 2
    assert (skipped.returncode, skipped.stderr.count("skipped bad.jsonl")) == (0, 1)
    assert skipped.stderr.count("left out 1 file of another kind") == 1
    assert (planned.returncode, planned.stderr) == (0, "")
