"""Line files: every physical line is read once, however the file is packed, cut, limited or resumed."""

from __future__ import annotations

import contextlib
import gc
import gzip
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunk import Span, gaps
from pipeline.corpus import stream
from pipeline.corpus.jsonl import JsonlReader
from pipeline.corpus.rows import Columns, Reject, Rows
from pipeline.corpus.textual import lines
from pipeline.corpus.textual.lines import scan
from pipeline.corpus.textual.record import UTF8_BOM, has_value_at, parse, value_at
from pipeline.errors import CorpusError

START = Span(row_start=0, row_stop=0)
COLUMNS = Columns(text=("text",), template=None, id="id")
numbers = itertools.count()

values = st.none() | st.text(max_size=8) | st.integers() | st.booleans() | st.lists(st.integers(), max_size=2)
records = st.fixed_dictionaries({}, optional={"text": st.text(max_size=30) | values, "id": values, "x": values})
good_lines = records.map(lambda record: json.dumps(record, ensure_ascii=False).encode())
blank_lines = st.sampled_from([b"", b" ", b"\t \r", b"\r"])
bad_lines = st.sampled_from(
    [b"{", b"[1]", b"null", b'{"text": "\xff"}', b"\x00", b"}{", b'{"text": "a"} x', b"\xef\xbb\xbf"]
)
one_line = st.tuples(good_lines | blank_lines | bad_lines, st.sampled_from([b"", b"\r"])).map(b"".join)


@st.composite
def line_files(draw: st.DrawFn) -> bytes:
    """Draw the bytes of a line file: good, blank and broken lines, with or without BOM, CRLF and a last newline."""
    body = b"\n".join(draw(st.lists(one_line, max_size=25)))
    return draw(st.sampled_from([b"", UTF8_BOM])) + body + draw(st.sampled_from([b"", b"\n", b"\n\n"]))


def n_physical(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


def write(folder: Path, data: bytes, suffix: str = ".jsonl", members: Sequence[bytes] | None = None) -> Path:
    """Write a file that no earlier example has touched; a compressed one as the concatenation of its members."""
    path = folder / f"{next(numbers)}{suffix}"
    if suffix.endswith(".gz"):
        path.write_bytes(b"".join(gzip.compress(member, 1, mtime=0) for member in members or [data]))
    elif suffix.endswith(".zst"):
        path.write_bytes(b"".join(map(zstd, members or [data])))
    else:
        path.write_bytes(data)
    return path


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    frame: bytes = sink.getvalue().to_pybytes()
    return frame


def read(path: Path, span: Span, columns: Columns) -> Rows:
    with contextlib.closing(JsonlReader(path, "s")) as reader:
        return reader.read(span, columns)


def cut(path: Path, target_bytes: int, limit: int | None = None) -> list[tuple[Span, bool]]:
    return list(scan(path, START, open_end=True, target_bytes=target_bytes, limit=limit))


def naive(data: bytes, source: str) -> tuple[list[tuple[int, str, str]], list[tuple[int, str]]]:
    """Return (row, id, text) of the rows to embed and (row, id) of the others, by the plainest means there are."""
    good, bad = [], []
    for row, line in enumerate(data.removeprefix(UTF8_BOM).split(b"\n")):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode())
            assert isinstance(record, dict)
        except (ValueError, AssertionError):
            bad.append((row, f"{source}:{row}"))
            continue
        given_id = record.get("id")
        if given_id is not None and not isinstance(given_id, str):
            given_id = json.dumps(given_id, separators=(",", ":"))
        row_id, text = given_id or f"{source}:{row}", record.get("text")
        if isinstance(text, str) and text.strip():
            good.append((row, row_id, text))
        else:
            bad.append((row, row_id))
    return good, bad


def read_all(path: Path, spans: Sequence[Span]) -> tuple[list[tuple[int, str, str]], list[tuple[int, str]]]:
    with contextlib.closing(JsonlReader(path, "s")) as reader:
        found = [reader.read(span, COLUMNS) for span in spans]
    good = [row for rows in found for row in zip(rows.row, rows.id, rows.text, strict=True)]
    return good, [(row, row_id) for rows in found for row, row_id, _ in rows.rejects]


def read_line(folder: Path, line: bytes, columns: Columns = COLUMNS) -> Rows:
    path = write(folder, line)
    return read(path, Span(row_start=0, row_stop=1, byte_stop=len(line)), columns)


@given(
    data=line_files(),
    target=st.integers(1, 300),
    block=st.integers(1, 200),
    limit=st.none() | st.integers(1, 30),
)
def test_spans_cover_every_line_once_and_in_order(
    data: bytes, target: int, block: int, limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    path = write(tmp_path, data)
    found = cut(path, target, limit)
    n_rows = min(n_physical(data), n_physical(data) if limit is None else limit)
    row, byte = 0, 0
    for span, _ in found:
        assert (span.row_start, span.byte_start) == (row, byte)
        assert span.n_rows > 0
        assert n_physical(data[span.byte_start : span.byte_stop]) == span.n_rows
        row, byte = span.row_stop, span.byte_stop
    assert row == n_rows
    if limit is None or limit > n_physical(data):
        assert byte == len(data)
        assert [last for _, last in found] == [False] * (len(found) - 1) + [True] * bool(found)


@given(data=line_files(), block=st.integers(3, 200))
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_row_numbers_are_those_of_the_rows(
    data: bytes, block: int, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    good, bad = naive(data, "s")
    found = [row for rows in JsonlReader(write(tmp_path, data, suffix), "s").row_numbers() for row in rows.tolist()]
    assert found == sorted(row for row, *_ in (*good, *bad))


@given(data=line_files(), target=st.integers(1, 300), block=st.integers(1, 200))
def test_rows_are_those_of_a_naive_reader(
    data: bytes, target: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    path = write(tmp_path, data)
    assert read_all(path, [span for span, _ in cut(path, target)]) == naive(data, "s")


@given(
    data=line_files(),
    target=st.integers(1, 300),
    points=st.lists(st.integers(0, 500), max_size=5),
    step=st.data(),
)
@pytest.mark.parametrize("suffix", [".jsonl.gz", ".ndjson.zst"])
def test_packing_changes_nothing(
    data: bytes, target: int, points: list[int], step: st.DataObject, suffix: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stream, "BLOCK_BYTES", step.draw(st.integers(1, 200)))
    edges = [0, *sorted(points), len(data)]
    plain, packed = (
        write(tmp_path, data),
        write(tmp_path, data, suffix, [data[a:b] for a, b in itertools.pairwise(edges)]),
    )
    spans = cut(plain, target)
    assert cut(packed, target) == spans
    in_some_order = step.draw(st.permutations([span for span, _ in spans]))
    assert sorted(read_all(packed, in_some_order)[0]) == sorted(naive(data, "s")[0])


@given(data=line_files(), first=st.integers(1, 200), again=st.integers(1, 200), draw=st.data())
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_resuming_plans_exactly_the_rest(
    data: bytes, first: int, again: int, draw: st.DataObject, suffix: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stream, "BLOCK_BYTES", draw.draw(st.integers(1, 200)))
    path = write(tmp_path, data, suffix)
    whole = cut(path, first)
    done = draw.draw(st.lists(st.sampled_from(whole), unique=True)) if whole else []
    rest = [piece for gap, is_open in gaps(done) for piece in scan(path, gap, open_end=is_open, target_bytes=again)]
    together = sorted([*done, *rest], key=lambda piece: piece[0].row_start)
    assert [last for _, last in together] == [False] * (len(together) - 1) + [True] * bool(together)
    assert read_all(path, [span for span, _ in together]) == naive(data, "s")
    assert not gaps(together) or not data


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
def test_a_limited_scan_can_be_gone_on_with(tmp_path: Path, limit: int) -> None:
    path = write(tmp_path, b'{"text":"a"}\n' * 5)
    first = cut(path, 20, limit)
    rest = [span for gap, is_open in gaps(first) for span in scan(path, gap, open_end=is_open, target_bytes=20)]
    assert sum(span.n_rows for span, _ in first) == limit
    assert sum(span.n_rows for span, _ in rest) == 5 - limit


def test_spans_keep_the_limit_on_rows(tmp_path: Path) -> None:
    found = scan(write(tmp_path, b"\n" * 8), START, open_end=True, target_bytes=1000, max_rows=3)
    assert [span.n_rows for span, _ in found] == [3, 3, 2]


def test_spans_come_near_their_target(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"text":"abc"}\n' * 1000)
    sizes = [span.byte_stop - span.byte_start for span, _ in cut(path, 1000)]
    assert all(1000 <= size < 1015 for size in sizes[:-1])


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_line_that_is_too_long_is_a_span_of_its_own_and_a_reject(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 50)
    monkeypatch.setattr(stream, "BLOCK_BYTES", 16)
    path = write(tmp_path, b'{"text":"a"}\n' * 3 + b"x" * 200, suffix)
    spans = [span for span, _ in cut(path, 10_000)]
    assert [(span.row_start, span.row_stop, span.byte_stop) for span in spans] == [(0, 3, 39), (3, 4, 239)]
    (reject,) = read(path, spans[1], COLUMNS).rejects
    assert (reject[0], reject[2].reason, reject[2].text) == (3, "too_long", "x" * 200)
    assert reject[2].detail == "expected lines of at most 50 bytes, found one of 200"


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize("n_lost", [1, 9, 40])
def test_a_packed_file_cut_short_is_refused_by_name(tmp_path: Path, suffix: str, n_lost: int) -> None:
    path = write(tmp_path, b"".join(b'{"text":"%d"}\n' % i for i in range(1000)), suffix)
    path.write_bytes(path.read_bytes()[:-n_lost])
    with pytest.raises(CorpusError, match=path.name):
        cut(path, 100)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_file_that_is_not_packed_as_its_name_says_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b'{"text":"a"}\n')
    with pytest.raises(CorpusError, match=path.name):
        JsonlReader(path, "s").column_types(COLUMNS, ())


def test_a_file_that_became_shorter_is_refused_and_closed(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"text":"a"}\n')
    with pytest.raises(CorpusError, match="expected 99 bytes of lines, found 13"):
        read(path, Span(row_start=0, row_stop=3, byte_stop=99), COLUMNS)
    gc.collect()  # an open file would warn now, and a warning is an error


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_chunks_are_read_in_any_order_without_leaving_files_open(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, b'{"text":"a"}\n{"text":"b"}\n{"text":"c"}\n', suffix)
    spans = [span for span, _ in cut(path, 5)]
    with contextlib.closing(JsonlReader(path, "s")) as reader:
        found = [reader.read(spans[i], COLUMNS).text for i in (2, 0, 2, 1, 1)]
    assert found == [["c"], ["a"], ["c"], ["b"], ["b"]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a"', "malformed_json"),
        (b'{"text": "a"} {"text": "b"}', "malformed_json"),
        (b'["text"]', "malformed_json"),
        (b"3", "malformed_json"),
        (b"null", "malformed_json"),
        (b'{"text": "\t"}', "malformed_json"),
        (b'{"text": ' + b"[" * 100_000, "malformed_json"),
        (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "malformed_json"),
        (b'{"text": "a", "n": ' + b"1" * 5000 + b"}", "malformed_json"),
        (b'{"text": "\xff"}', "invalid_utf8"),
        (b'{"text": "\xed\xa0\x80"}', "invalid_utf8"),
        (b'{"text": "\\ud800"}', "invalid_utf8"),
        (b'{"text": "\\udc00\\ud800"}', "invalid_utf8"),
        (b"\xff\xfe{\x00", "invalid_utf8"),
        (b'{"text": null}', "null_text"),
        (b"{}", "null_text"),
        (b'{"Text": "a"}', "null_text"),
        (b'{"text": 5}', "not_a_string"),
        (b'{"text": NaN}', "not_a_string"),
        (b'{"text": false}', "not_a_string"),
        (b'{"text": ["a"]}', "not_a_string"),
        (b'{"text": {"a": "b"}}', "not_a_string"),
        (b'{"text": ["\\ud800"]}', "not_a_string"),
        (b'{"text": ""}', "empty_text"),
        (b'{"text": " \\n\\t\\u00a0\\u2003"}', "empty_text"),
    ],
)
def test_a_row_that_cannot_be_embedded_is_rejected_with_its_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    rows = read_line(tmp_path, line)
    assert rows.row == []
    assert [(row, row_id, why.reason) for row, row_id, why in rows.rejects] == [(0, "s:0", reason)]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"text": "a", "n": NaN}', "a"),
        (b'{"text": "a", "n": -Infinity}', "a"),
        (b'{"text": "a", "n": 1e400}', "a"),
        (b'{"text": "a", "n": 123456789012345678901234567890}', "a"),
        (b'{"text": "a", "n": "\\ud800"}', "a"),
        (b'{"text": "a", "text": "b"}', "b"),
        (b'\t{"text": "a"}  \r', "a"),
        (b'{"text": "\\ud83d\\ude00"}', "\U0001f600"),
        (b'{"text": "a\\u0000b"}', "a\0b"),
        (b'{"text": "a\\r\\nb\\u2028"}', "a\r\nb\u2028"),
        (b'{"text": "\xc3\xa9\xf0\x9f\x98\x80"}', "é\U0001f600"),
        (UTF8_BOM + b'{"text": "a"}', "a"),
    ],
)
def test_what_other_writers_emit_is_read(tmp_path: Path, line: bytes, text: str) -> None:
    rows = read_line(tmp_path, line)
    assert (rows.text, rows.rejects) == ([text], [])


@pytest.mark.parametrize(
    ("given_id", "row_id"),
    [
        ('"doc"', "doc"),
        ('""', "s:0"),
        ("null", "s:0"),
        ("0", "0"),
        ("-7", "-7"),
        ("1.5", "1.5"),
        ("true", "true"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('["a", 1]', '["a",1]'),
        ('{"oid": "5"}', '{"oid":"5"}'),
    ],
)
def test_an_id_of_any_kind_becomes_text(tmp_path: Path, given_id: str, row_id: str) -> None:
    assert read_line(tmp_path, f'{{"text": "a", "id": {given_id}}}'.encode()).id == [row_id]


@pytest.mark.parametrize("given_id", ['"\\ud800"', '["\\ud800"]'])
def test_an_id_that_is_no_unicode_does_not_stop_the_chunk(tmp_path: Path, given_id: str) -> None:
    rows = read_line(tmp_path, f'{{"text": "a", "id": {given_id}}}'.encode())
    assert rows.n_rows == 1
    assert all(row_id.encode() for row_id in [*rows.id, *(row_id for _, row_id, _ in rows.rejects)])


def test_a_rejected_row_keeps_its_id_where_it_can_be_read(tmp_path: Path) -> None:
    assert read_line(tmp_path, b'{"id": "x", "text": null}').rejects[0][1] == "x"


def test_kept_columns_are_read_as_text_in_the_order_of_the_rows(tmp_path: Path) -> None:
    data = (
        b'{"text":"a","k":1,"m":{"n":"x"}}\n{"text":null,"k":2}\n{"text":"b","k":[1,{"z":null}],"m":3}\n{"text":"c"}\n'
    )
    columns = Columns(text=("text",), template=None, id=None, keep=("k", "m.n", "m"))
    rows = read(write(tmp_path, data), Span(row_start=0, row_stop=4, byte_stop=len(data)), columns)
    assert rows.kept.to_pydict() == {
        "k": ["1", '[1,{"z":null}]', None],
        "m.n": ["x", None, None],
        "m": ['{"n":"x"}', "3", None],
    }


@pytest.mark.parametrize("value", ['"\\ud800"', '{"a": ["\\udfff"]}'])
def test_a_kept_value_that_is_no_unicode_does_not_stop_the_chunk(tmp_path: Path, value: str) -> None:
    columns = Columns(text=("text",), template=None, id=None, keep=("k",))
    rows = read_line(tmp_path, f'{{"text": "a", "k": {value}}}'.encode(), columns)
    assert rows.n_rows == 1


@pytest.mark.parametrize(
    ("record", "name", "value"),
    [
        ({"a": {"b": 1}}, "a.b", 1),
        ({"a.b": 2, "a": {"b": 1}}, "a.b", 2),
        ({"a": {"b": {"c": 3}}}, "a.b.c", 3),
        ({"a": 1}, "a.b", None),
        ({"a": None}, "a.b", None),
        ({"a": [{"b": 1}]}, "a.b", None),
        ({}, "a", None),
        ({"": {"": 5}}, ".", 5),
    ],
)
def test_a_dotted_name_is_a_path_unless_a_column_has_that_name(
    record: dict[str, Any], name: str, value: object
) -> None:
    assert value_at(record, name) == value


def test_a_column_with_nothing_but_nulls_is_there() -> None:
    assert has_value_at({"a": None}, "a")
    assert has_value_at({"a": None}, "a.b")
    assert has_value_at({"a": {"b": None}}, "a.b")
    assert not has_value_at({"a": {"c": 1}}, "a.b")
    assert not has_value_at({"a": 1}, "a.b")
    assert not has_value_at({}, "a")


def test_head_leaves_out_a_row_that_it_sees_only_a_part_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b'{"text":"a"}\n{"text":"b"}\nno json\n{"text":"c"}'
    assert [record["text"] for record in JsonlReader(write(tmp_path, data), "s")._first_records()] == ["a", "b", "c"]
    monkeypatch.setattr(lines, "HEAD_BYTES", 20)
    assert [record["text"] for record in JsonlReader(write(tmp_path, data), "s")._first_records()] == ["a"]


@given(line=st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_reject(line: bytes) -> None:
    found = parse(line)
    assert isinstance(found, dict | Reject)
    if isinstance(found, Reject):
        assert found.text is not None
        assert found.text.encode().decode() == found.text


def test_a_number_beyond_all_numbers_is_a_reject() -> None:
    """Found by fuzzing on 2026-11-27: it ended the run."""
    found = parse(b'{"text": "a", "n": 5e' + b"6" * 40 + b"}")
    assert isinstance(found, Reject)
    assert found.reason == "malformed_json"
