"""Lines of any length: one that is too long is one reject wherever it is, and blank ones are no rows in any count."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.chunk import Density, Span, gaps
from pipeline.corpus import stream
from pipeline.corpus.jsonl import JsonlReader
from pipeline.corpus.rows import Columns
from pipeline.corpus.stream import read_blocks
from pipeline.corpus.textual import lines
from pipeline.corpus.textual.lines import first_span, line_ends, read_head, scan
from pipeline.corpus.textual.record import UTF8_BOM
from tests.support import HASHING, ids
from tests.support.many import Call, run_all

COLUMNS = Columns(text=("text",), template=None, id="id")
START = Span(row_start=0, row_stop=0)
MAX_BYTES = 40
numbers = itertools.count()
one_line = st.one_of(
    st.integers(0, 60).map(lambda n: b'{"text":"' + b"a" * n + b'"}'),  # from 11 to 71 bytes
    st.sampled_from([b"", b"\r", b" " * 39, b" " * 41, b"\t" * 90, b" " * 45 + b"b", b"no json", b" {"]),
)


@st.composite
def line_files(draw: st.DrawFn) -> bytes:
    body = b"\n".join(draw(st.lists(one_line, max_size=20)))
    return draw(st.sampled_from([b"", UTF8_BOM])) + body + draw(st.sampled_from([b"", b"\n"]))


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", MAX_BYTES)


def write(folder: Path, data: bytes, suffix: str = ".jsonl") -> Path:
    path = folder / f"{next(numbers)}{suffix}"
    path.write_bytes(gzip.compress(data, 1, mtime=0) if suffix.endswith(".gz") else data)
    return path


def expected(data: bytes) -> dict[int, str]:
    """Return what becomes of each row, by the plainest means there are."""
    found = {}
    for row, line in enumerate(data.removeprefix(UTF8_BOM).split(b"\n")):
        n_bytes = len(line) + (len(data) - len(data.removeprefix(UTF8_BOM)) if row == 0 else 0)
        if not line.strip():
            continue
        if n_bytes > MAX_BYTES:
            found[row] = "too_long"
        else:
            try:
                found[row] = json.loads(line)["text"] or "empty_text"
            except ValueError:
                found[row] = "malformed_json"
    return found


def read_all(path: Path, spans: list[Span]) -> dict[int, str]:
    with contextlib.closing(JsonlReader(path, "s")) as reader:
        found = [reader.read(span, COLUMNS) for span in spans]
    texts = {row: text for rows in found for row, text in zip(rows.row, rows.text, strict=True)}
    return texts | {row: why.reason for rows in found for row, _, why in rows.rejects}


@pytest.mark.usefixtures("short_lines")
@given(data=line_files(), target=st.integers(1, 300), block=st.integers(3, 60), joined=st.integers(1, 5))
@example(data=b'{"text":"a"}\n' + b"b" * 90 + b'\n{"text":"c"}', target=200, block=20, joined=3)
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_row_is_what_it_is_wherever_spans_and_blocks_end(
    data: bytes, target: int, block: int, joined: int, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    path = write(tmp_path, data, suffix)
    spans = [span for span, _ in scan(path, START, open_end=True, target_bytes=target)]
    assert read_all(path, spans) == expected(data)
    # As an older version cut them: a line that is too long among others.
    groups = [spans[at : at + joined] for at in range(0, len(spans), joined)]
    wide = [
        Span(row_start=g[0].row_start, row_stop=g[-1].row_stop, byte_start=g[0].byte_start, byte_stop=g[-1].byte_stop)
        for g in groups
    ]
    assert read_all(path, wide) == expected(data)
    found = [row for rows in JsonlReader(path, "s").row_numbers() for row in rows.tolist()]
    assert found == sorted(expected(data))
    assert sum(span.n_rows - span.n_blank for span in spans) == len(found)


@pytest.mark.usefixtures("short_lines")
@given(data=line_files(), block=st.integers(3, 60), draw=st.data())
def test_a_span_is_halved_and_resumed_at_any_row(
    data: bytes, block: int, draw: st.DataObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    path = write(tmp_path, data)
    n_rows = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    if n_rows < 2:
        return
    reader = JsonlReader(path, "s")
    whole = Span(row_start=0, row_stop=n_rows, byte_stop=len(data))
    row = draw.draw(st.integers(1, n_rows - 1))
    byte = reader.byte_of(whole, row)
    assert data[:byte].count(b"\n") == row
    first = Span(row_start=0, row_stop=row, byte_stop=byte)
    rest = [
        span
        for gap, is_open in gaps([(first, False)])
        for span, _ in scan(path, gap, open_end=is_open, target_bytes=50)
    ]
    assert read_all(path, [first, *rest]) == expected(data)
    assert reader.ends_at(rest[-1])


@pytest.mark.usefixtures("short_lines")
@given(data=line_files(), head=st.integers(5, 60), block=st.integers(3, 60))
def test_a_head_has_whole_lines_and_knows_whether_there_are_more(
    data: bytes, head: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    monkeypatch.setattr(lines, "HEAD_BYTES", head)
    found = read_head(write(tmp_path, data))
    rows = [line for line in data.removeprefix(UTF8_BOM).split(b"\n") if line.strip()]
    rows = rows[1:] if found.long_line_bytes else rows
    assert [line.strip() for line in found.lines] == [line.strip() for line in rows[: len(found.lines)]]
    assert len(found.lines) == len(rows) if found.is_all else True
    assert not found.is_endless or (found.is_all and not rows and found.long_line_bytes > MAX_BYTES)


@pytest.mark.usefixtures("short_lines")
def test_a_line_that_is_too_long_says_nothing_of_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, b"x" * 500 + b"\n" + b'{"text":"a"}\n' * 9 + b"y" * 400)
    span = first_span(line_ends(read_blocks(path, 0, None), 0), 30)
    assert (span.row_start, span.n_rows, span.byte_stop - span.byte_start) == (1, 3, 39)
    endless = read_blocks(write(tmp_path, b"x" * 500), 0, None)
    assert first_span(line_ends(endless, 0), 30).n_rows == 0
    long = Span(row_start=0, row_stop=1, byte_stop=20 << 20)
    assert Density(tokens_per_row=1.0, tokens_per_byte=1.0).n_tokens(long) == 0


def test_what_is_kept_of_a_long_line_is_text(tmp_path: Path) -> None:
    line = b" \t" + ('{"text": "' + "\u00e9" * (9 << 20)).encode()
    path = write(tmp_path, b"{}\n" + line)
    (span,) = [span for span, _ in scan(path, START, open_end=True, target_bytes=1)][1:]
    (reject,) = JsonlReader(path, "s").read(span, COLUMNS).rejects
    assert reject[:2] == (1, "s:1")
    assert reject[2].text == '{"text": "' + "\u00e9" * 990
    assert reject[2].detail == f"expected lines of at most 16,777,216 bytes, found one of {len(line):,}"


def test_one_limit_whatever_is_before_a_line_and_every_count_agrees(tmp_path: Path) -> None:
    long = json.dumps({"id": "2", "text": "y" * (17 << 20)}).encode() + b"\n"
    after = b'\n{"id": "3", "text": "z"}\n\r\n'
    before = json.dumps({"id": "1", "text": "a", "more": "w " * (3 << 19)}).encode() + b"\n"
    corpus = {"first": long + after, "later": before + long + after, "last": before + after + long.rstrip()}
    calls = []
    for name, data in corpus.items():
        where = ("--input", write(tmp_path, data, f".{name}.jsonl"))
        output = tmp_path / name
        calls += [Call(["plan", *where, *HASHING, "--json"]), Call(["run", *where, "--output", output, *HASHING])]
        calls += [Call(["verify", output, *where])]
    done = run_all(calls)
    assert [each.returncode for each in done] == [0] * 9, [each.stderr for each in done]
    for name, planned in zip(corpus, done[::3], strict=True):
        embedded = ids(tmp_path / name)
        assert sorted(embedded) == (["3"] if name == "first" else ["1", "3"])
        rejects = ds.dataset(tmp_path / name / "rejects", format="parquet").to_table().to_pylist()
        row = {"first": 0, "later": 1, "last": 4}[name]
        assert [(reject["row"], reject["reason"]) for reject in rejects] == [(row, "too_long")]
        assert json.loads(planned.stdout)["input_rows"] == len(embedded) + 1


def test_a_row_put_in_front_of_a_long_line_changes_nothing_else(tmp_path: Path) -> None:
    path, output = tmp_path / "x.jsonl", tmp_path / "out"
    rows = b"z" * (17 << 20) + b'\n{"id": "3", "text": "z"}\n'
    where = ("--input", path)
    path.write_bytes(rows)
    run = Call(["run", *where, "--output", output, *HASHING])
    first = run_all([run, Call(["verify", output, *where])])
    path.write_bytes(b'{"id": "1", "text": "a"}\n' + rows)
    then = run_all([run, Call(["verify", output, *where])])
    assert [each.returncode for each in (*first, *then)] == [0] * 4, [each.stderr for each in (*first, *then)]
    assert sorted(ids(output)) == ["1", "3"]
