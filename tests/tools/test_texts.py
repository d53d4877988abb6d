"""Texts of a part against their offsets and hashes, wherever a reader's batches begin."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.schema import PART, TEXT
from pipeline.tools.texts import text_problems, with_next

COLUMNS = pa.schema([PART.field(name) for name in ("passage", "char_start", "char_end", "truncated", "content_hash")])
# A row is its text, cut at these places: into one passage, or into several.
rows = st.lists(st.tuples(st.text(min_size=1, max_size=6), st.sets(st.integers(1, 5), max_size=2), st.booleans()))


def entries_of(row: tuple[str, set[int], bool]) -> list[dict[str, Any]]:
    """Return the entries of a row, which is cut at the first place where that is asked, else split at all."""
    text, places, is_cut = row
    inside = sorted(place for place in places if place < len(text))
    edges = [0, *inside[:1]] if is_cut and inside else [0, *inside, len(text)]
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return [
        {
            "passage": number,
            "char_start": start,
            "char_end": end,
            "truncated": is_cut and bool(inside),
            "content_hash": digest,
            "text": text[start:end],
        }
        for number, (start, end) in enumerate(itertools.pairwise(edges))
    ]


def problems(entries: Sequence[dict[str, Any]], batch_rows: int) -> list[tuple[str, str]]:
    table = pa.Table.from_pylist(list(entries), COLUMNS.append(TEXT))
    batches = with_next(table.to_batches(max_chunksize=batch_rows))
    first = itertools.count(0, batch_rows)
    return [found for batch, after in batches for found in text_problems(batch, after, next(first))]


@given(found=rows, batch_rows=st.integers(1, 4))
def test_a_sound_text_is_no_problem_wherever_a_batch_ends(
    found: list[tuple[str, set[int], bool]], batch_rows: int
) -> None:
    assert problems([entry for row in found for entry in entries_of(row)], batch_rows) == []


@given(found=rows, batch_rows=st.integers(1, 4), data=st.data())
def test_another_length_is_found_in_any_passage_and_other_words_in_any_whole_row(
    found: list[tuple[str, set[int], bool]], batch_rows: int, data: st.DataObject
) -> None:
    entries = [entry for row in found for entry in entries_of(row)]
    if not entries:
        return
    at = data.draw(st.integers(0, len(entries) - 1))
    text = entries[at]["text"]
    longer = [{**entry, "text": f"{text}\u00e9"} if entry is entries[at] else entry for entry in entries]
    [(kind, detail)] = problems(longer, batch_rows)[:1]
    assert (kind, detail.split(" has ")[0]) == ("text", f"entry {at}")
    other = [{**entry, "text": f"\0{text[1:]}"} if entry is entries[at] else entry for entry in entries]
    is_whole = len([row for row in found if entries_of(row) == [entries[at]] and not entries[at]["truncated"]]) > 0
    expected = [("text", f"entry {at} has another text than that of its content hash")]
    assert problems(other, batch_rows) == (expected if is_whole and text[0] != "\0" else [])


def test_a_null_is_named_once() -> None:
    [entry] = entries_of(("one", set(), False))
    assert problems([{**entry, "text": None}, entry, {**entry, "text": None}], 9) == [
        ("null", "2 nulls in column text")
    ]
