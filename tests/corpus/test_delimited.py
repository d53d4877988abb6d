"""CSV and TSV: the records of Python's csv module, wherever the file is cut, and a reject for each that is wrong."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.chunk import ChunkSize, Density, Span
from pipeline.corpus import stream
from pipeline.corpus.delimited import CsvReader, TsvReader
from pipeline.corpus.rows import Columns
from pipeline.corpus.textual import lines
from pipeline.corpus.textual.records import Records, record_ends
from pipeline.errors import CorpusError

COLUMNS = Columns(text=("text",), template=None, id="id")
DENSITY = Density(tokens_per_row=1, tokens_per_byte=1)
START = Span(row_start=0, row_stop=0)
numbers = itertools.count()
# What decides where records end, and little else.
pieces = st.lists(st.sampled_from(['"', '""', ",", "\n", "\r", "\r\n", "a", "b c", "\u00e9", '","', '"\n"', "\ufeff"]))


def write(folder: Path, data: bytes, suffix: str = ".csv") -> Path:
    path = folder / f"{next(numbers)}{suffix}"
    path.write_bytes(data)
    return path


def is_open(text: str, delimiter: str) -> bool:
    """Whether the last quote of a text is not closed: another one after it ends no record."""
    found = list(csv.reader(io.StringIO(text + "\n,x", newline=""), delimiter=delimiter))
    return len(found) == len(list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)))


def by_python(text: str, delimiter: str = ",") -> dict[int, str]:
    """Return the text of each record of two values and the reason for each other one, by the standard library."""
    found = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    rows = {}
    for row, values in enumerate(found):
        if row == len(found) - 1 and is_open(text, delimiter):
            rows[row] = "malformed_row"
        elif values:
            is_text = len(values) == 2 and values[1].strip()
            rows[row] = values[1] if is_text else "empty_text" if len(values) == 2 else "malformed_row"
    return rows


def by_us(reader: CsvReader, target: int) -> tuple[dict[int, str], list[int]]:
    size = ChunkSize(tokens=target)
    spans = [span for span, _ in reader.cut(START, DENSITY, size, is_open=True, limit=None, kinds={})]
    rows: dict[int, str] = {}
    for span in spans:
        found = reader.read(span, COLUMNS)
        rows |= dict(zip(found.row, found.text, strict=True)) | {row: why.reason for row, _, why in found.rejects}
    return rows, [row for part in reader.row_numbers() for row in part.tolist()]


@given(body=pieces, target=st.integers(1, 30), block=st.integers(1, 20), tabs=st.booleans())
@example(body=['"', '"\n"'], target=1, block=1, tabs=False)
@example(body=["a", "\r", "\n", "\r"], target=1, block=2, tabs=False)
def test_records_are_those_of_python_wherever_a_file_is_cut(
    body: list[str], target: int, block: int, tabs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    delimiter = "\t" if tabs else ","
    text = "".join(body).replace(",", delimiter)
    header = f"id{delimiter}text\n"
    reader = (TsvReader if tabs else CsvReader)(write(tmp_path, (header + text).encode()), "s")
    found, rows = by_us(reader, target)
    expected = by_python(text, delimiter)
    assert {row: value for row, value in found.items() if row not in expected or expected[row] != value} == {}
    assert sorted(found) == sorted(expected) == rows


def blocks_of(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


@given(body=pieces, sizes=st.lists(st.integers(1, 9), min_size=1), other=st.integers(1, 50))
def test_the_ends_of_records_do_not_depend_on_the_blocks(body: list[str], sizes: list[int], other: int) -> None:
    data = ("id,text\n" + "".join(body)).encode()
    found = [list(record_ends(blocks_of(data, each), 0, ",")) for each in (sizes, [other], [len(data)])]
    joined = [(np.concatenate([[], *(e for e, _ in f)]).tolist(), [b for _, bl in f for b in bl]) for f in found]
    assert joined[0] == joined[1] == joined[2]


def test_quotes_that_are_text_cost_no_more_than_their_number(tmp_path: Path) -> None:
    block = b'5" and 6", a\n' * 20_000
    records = Records(",")
    _, stops = records.ends(block)
    assert (len(stops), records.is_quoted) == (20_000, False)


BAD = {
    "too many values": (b"2,b,c", "malformed_row", "expected 2 values, found 3"),
    "too few values": (b"2", "malformed_row", "expected 2 values, found 1"),
    "a space": (b" ", "malformed_row", "expected 2 values, found 1"),
    "too many and no UTF-8": (b"2,\xff,c", "malformed_row", "expected 2 values, found 3"),
    "bytes that are no UTF-8": (
        b"2,\xff",
        "invalid_utf8",
        "expected UTF-8, found 0xff at byte 0; `iconv -f WINDOWS-1252",
    ),
    "an empty text": (b"2,", "empty_text", "white space"),
    "a quoted empty text": (b'2,""', "empty_text", "white space"),
    "white space": (b"2, \xe2\x80\x83", "empty_text", "white space"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_one_reject_and_its_neighbours_are_read(tmp_path: Path, name: str) -> None:
    line, reason, detail = BAD[name]
    path = write(tmp_path, b"id,text\n1,a\n\n" + line + b"\n3,c\n")
    [found] = [CsvReader(path, "s").read(Span(row_start=0, row_stop=4, byte_stop=path.stat().st_size), COLUMNS)]
    assert (found.row, found.id, found.text) == ([0, 3], ["1", "3"], ["a", "c"])
    [(row, _, why)] = found.rejects
    assert (row, why.reason) == (2, reason)
    assert detail in why.detail
    json.dumps(why.text).encode()


def test_a_quote_that_is_not_closed_is_one_reject_at_the_end(tmp_path: Path) -> None:
    path = write(tmp_path, b'id,text\n1,a\n2,"b\n3,c\n')
    rows, _ = by_us(CsvReader(path, "s"), 1)
    assert rows == {0: "a", 1: "malformed_row"}


def test_a_record_that_is_too_long_is_a_span_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("textual.lines", "delimited"):
        monkeypatch.setattr(f"pipeline.corpus.{module}.MAX_LINE_BYTES", 100)
    monkeypatch.setattr(stream, "BLOCK_BYTES", 60)
    path = write(tmp_path, b'id,text\n1,a\n2,"' + b"b\n" * 200 + b'"\n3,c\n')
    assert by_us(CsvReader(path, "s"), 1000)[0] == {0: "a", 1: "too_long", 2: "c"}


@pytest.mark.parametrize("data", [b"", b"\n\r\n", b"id,text", b"id,text\r\n", b"\xef\xbb\xbfid,text\n\n"])
def test_a_file_without_records_has_no_rows(tmp_path: Path, data: bytes) -> None:
    reader = CsvReader(write(tmp_path, data), "s")
    reader.column_types(COLUMNS, ("text",))
    assert by_us(reader, 10) == ({}, [])


def test_a_header_may_have_a_bom_quotes_and_line_breaks_and_columns_that_are_not_read_twice(tmp_path: Path) -> None:
    path = write(tmp_path, b'\xef\xbb\xbf\r\n"te\nxt","id",,\n"a","1",2,3\n\xef\xbb\xbfb,2,3,4\n')
    columns = Columns(text=("te\nxt",), template=None, id="id", keep=())
    reader = CsvReader(path, "s")
    assert list(reader.column_types(columns, ("te\nxt",))) == ["te\nxt", "id", ""]
    spans = [span for span, _ in reader.cut(START, DENSITY, ChunkSize(tokens=1), is_open=True, limit=None, kinds={})]
    found = [reader.read(span, columns) for span in spans]
    assert [(each.id, each.text) for each in found] == [(["1"], ["a"]), (["2"], ["\ufeffb"])]


REFUSED = {
    "no such column": (b"id,texts\n1,a\n", r"expected column 'text', found id, texts; did you mean 'texts'\?"),
    "a column twice": (b"text,text\n1,a\n", "expected one column 'text', found several of that name"),
    "semicolons": (b"id;text\n1;a\n2;b\n", "expected CSV with a header, found CSV with semicolons; convert it"),
    "semicolons, and a comma in each text": (b"id;text\n" + b"1;a, b\n" * 20, "found CSV with semicolons; convert it"),
    "tabs": (b"id\ttext\n1\ta\n2\tb\n", r"expected CSV with a header, found TSV; rename it to x\.tsv"),
    "lines of JSON": (b'{"id": "1", "text": "a"}\n' * 3, r"found lines of JSON; rename it to x\.jsonl"),
    "an array": (b'[{"id": "1",\n "text": "a"}]', r"found a JSON array; rename it to x\.json"),
    "UTF-16": ("id,text\n1,a\n".encode("utf-16"), r"found UTF-16; .*iconv -f UTF-16 -t UTF-8 x.csv > x.new.csv"),
    "Latin-1": ("id,text,\u00e9\n1,a\n".encode("latin-1"), "found: 0xe9 at byte 8; `iconv -f WINDOWS-1252 -t UTF-8`"),
    "HTML": (b"<html><body>404</body></html>", "found HTML"),
    "gzip": (b"\x1f\x8b\x08\x00", r"found gzip; rename it to x\.csv\.gz"),
    "Parquet": (b"PAR1\x15\x04", r"found Parquet; rename it to x\.parquet"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS"),
    "zeros": (bytes(1000), "nothing but zero bytes"),
    "a header without an end": (b'"' + b"a" * lines.HEAD_BYTES + b"\n", "found: a longer one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_csv_with_these_columns_is_named(tmp_path: Path, name: str) -> None:
    data, said = REFUSED[name]
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    with (
        pytest.raises(CorpusError, match=rf"x\.csv: .*{said}") as error,
        contextlib.closing(CsvReader(path, "s")) as reader,
    ):
        reader.column_types(COLUMNS, ("text",))
    assert "\n" not in str(error.value)
