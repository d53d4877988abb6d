"""Planning: every row of a shard in exactly one chunk, whatever is done already."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunk import (
    Chunk,
    ChunkSize,
    Shard,
    Span,
    cut_rows,
    gaps,
    overlapping,
    rows_per_chunk,
)
from tests.support import one_span

SHARD = Shard(source="a/b.jsonl", size_bytes=100, mtime_ns=5)
SPAN = Span(row_start=10, row_stop=20, byte_start=100, byte_stop=200)

rows = st.integers(0, 10**12)
cut_points = st.lists(st.integers(1, 1000), min_size=1, max_size=12, unique=True).map(sorted)
spans = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda s: Span(row_start=s[0], row_stop=s[0] + s[1]))


def chunk(source: str = "a/b.jsonl", span: Span = SPAN, fingerprint: str = "f") -> Chunk:
    return one_span(Shard(source=source, size_bytes=100, mtime_ns=5), span, fingerprint)


def consecutive(points: list[int]) -> list[Span]:
    """Return the spans between cut points, with seven bytes to a row."""
    return [Span(row_start=a, row_stop=b, byte_start=7 * a, byte_stop=7 * b) for a, b in pairwise([0, *points])]


@given(start=rows, n_rows=st.integers(0, 1000), step=st.integers(1, 300))
def test_cut_rows_covers_every_row_once_and_in_order(start: int, n_rows: int, step: int) -> None:
    found = list(cut_rows(start, start + n_rows, step))
    assert [row for span in found for row in range(span.row_start, span.row_stop)] == [*range(start, start + n_rows)]
    assert all(1 <= span.n_rows <= step for span in found)


@given(points=cut_points, data=st.data())
def test_gaps_are_exactly_the_rows_and_bytes_that_are_not_done(points: list[int], data: st.DataObject) -> None:
    pieces = consecutive(points)
    done = data.draw(st.lists(st.sampled_from(pieces), unique=True))
    found = gaps([(span, span == pieces[-1]) for span in done])
    closed = [gap for gap, is_open in found if not is_open]
    opened = [gap for gap, is_open in found if is_open]
    if pieces[-1] in done:
        assert not opened
        end = pieces[-1]
    else:
        assert len(opened) == 1
        assert opened[0].n_rows == 0
        end = Span(row_start=0, row_stop=opened[0].row_start, byte_start=0, byte_stop=opened[0].byte_start)
    assert end.row_stop == max((span.row_stop for span in done), default=0)
    assert end.byte_stop == 7 * end.row_stop
    covered = sorted([*done, *closed], key=lambda span: span.row_start)
    edges = [(0, 0), *((span.row_stop, span.byte_stop) for span in covered)]
    assert edges[:-1] == [(span.row_start, span.byte_start) for span in covered]
    assert edges[-1] == (end.row_stop, end.byte_stop)


def test_a_shard_without_finished_spans_is_one_open_gap() -> None:
    assert gaps([]) == [(Span(row_start=0, row_stop=0), True)]


@given(found=st.lists(spans, max_size=15))
def test_overlapping_leaves_disjoint_spans_of_which_none_could_stay(found: list[Span]) -> None:
    def rows_of(span: Span) -> set[int]:
        return set(range(span.row_start, span.row_stop))

    dropped = overlapping(found)
    held: set[int] = set()
    for index, span in enumerate(found):
        assert (index in dropped) == bool(held & rows_of(span))
        if index not in dropped:
            held |= rows_of(span)
    assert len(set(dropped)) == len(dropped)


@given(
    n_tokens=st.integers(0, 10**12),
    n_rows=st.integers(0, 10**9),
    size_bytes=st.integers(0, 10**13),
    size=st.builds(
        ChunkSize, tokens=st.integers(1, 10**7), rows=st.integers(1, 10**5), size_bytes=st.integers(1, 10**9)
    ),
)
def test_a_chunk_has_at_least_one_row_and_keeps_its_limits(
    n_tokens: int, n_rows: int, size_bytes: int, size: ChunkSize
) -> None:
    found = rows_per_chunk(n_tokens, n_rows, size_bytes, size)
    assert 1 <= found <= size.rows
    if found > 1:
        assert found * n_tokens <= size.tokens * n_rows
        assert found * size_bytes <= size.size_bytes * n_rows


@pytest.mark.parametrize(
    "other",
    [
        one_span(Shard(source="a/c.jsonl", size_bytes=100, mtime_ns=5), SPAN, "f"),
        one_span(Shard(source="a/b.jsonl", size_bytes=101, mtime_ns=5), SPAN, "f"),
        one_span(Shard(source="a/b.jsonl", size_bytes=100, mtime_ns=6), SPAN, "f"),
        chunk(span=Span(row_start=11, row_stop=20)),
        chunk(span=Span(row_start=10, row_stop=21)),
        chunk(fingerprint="g"),
    ],
)
def test_a_chunk_id_changes_with_what_it_holds_and_with_the_recipe(other: Chunk) -> None:
    assert other.id != chunk().id


def test_a_chunk_id_is_the_same_in_every_release() -> None:
    assert chunk().id == "62507f17614ddef3"


@given(first=st.tuples(st.text(max_size=20), rows, rows), second=st.tuples(st.text(max_size=20), rows, rows))
def test_chunks_that_differ_have_parts_that_differ(first: tuple[str, int, int], second: tuple[str, int, int]) -> None:
    names = [chunk(source, Span(row_start=start, row_stop=start + n)).part_name for source, start, n in (first, second)]
    assert (names[0] == names[1]) == (first == second)


@given(source=st.text(min_size=1), row=rows)
def test_a_part_has_a_name_that_every_file_system_takes(source: str, row: int) -> None:
    name = chunk(source, Span(row_start=row, row_stop=row + 1)).part_name
    assert re.fullmatch(r"part-[A-Za-z0-9_]+-[0-9]{10,}-[0-9a-f]{16}\.parquet", name)
    assert len(name) < 100


@given(starts=st.lists(st.integers(0, 10**10 - 1), unique=True))
def test_the_parts_of_a_shard_sort_by_row(starts: list[int]) -> None:
    names = {start: chunk(span=Span(row_start=start, row_stop=start + 1)).part_name for start in starts}
    assert sorted(starts, key=lambda start: names[start]) == sorted(starts)
