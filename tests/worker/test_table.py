"""Parts: the table that a chunk becomes, and the one of its rejected rows."""

from __future__ import annotations

import hashlib
from array import array

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.rows import ChunkRows, Reject
from pipeline.model.passages import Passages
from pipeline.schema import PART, REJECTS, TEXT, content_hashes
from pipeline.worker.table import PASSAGES, part_table, passage_table, rejects_table


def a_table(kept: pa.Table | None = None, *, has_text: bool = True) -> pa.Table:
    """Return the part of three rows: the first and the last share a text of two passages."""
    rows = ChunkRows(
        sources=("s",),
        source=["s"] * 3,
        row=[4, 6, 7],
        id=["x", "y", "z"],
        text=["long", "short", "long"],
        kept=kept or pa.table({}),
    )
    passages = Passages(
        text=[0, 0, 1],
        passage=[0, 1, 0],
        start=[0, 2, 0],
        stop=[2, 4, 5],
        truncated=[False, True, False],
        ids=[array("q", ids) for ids in ([1, 2, 3], [4], [5, 6])],
    )
    vectors = np.arange(12, dtype=np.float16).reshape(3, 4)
    of_row, of_passage = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 2, 0, 1])
    table = passage_table(passages, [0, 1])
    return part_table(rows, content_hashes(rows.text), table, of_row, of_passage, vectors, has_text=has_text)


def test_every_entry_has_the_values_of_its_row_and_of_its_passage() -> None:
    table = a_table()
    assert table.select(["id", "row", "passage", "char_start", "char_end", "n_tokens", "truncated"]).to_pylist() == [
        dict(
            zip(
                ("id", "row", "passage", "char_start", "char_end", "n_tokens", "truncated"),
                entry,
                strict=True,
            )
        )
        for entry in [
            ("x", 4, 0, 0, 2, 3, False),
            ("x", 4, 1, 2, 4, 1, True),
            ("y", 6, 0, 0, 5, 2, False),
            ("z", 7, 0, 0, 2, 3, False),
            ("z", 7, 1, 2, 4, 1, True),
        ]
    ]
    assert table.column("source").to_pylist() == ["s"] * 5
    assert [int(vector[0]) for vector in table.column("embedding").to_pylist()] == [0, 4, 8, 0, 4]


def test_equal_texts_have_equal_hashes_and_others_do_not() -> None:
    x, x2, y, z, z2 = a_table().column("content_hash").to_pylist()
    assert x == x2 == z == z2 == hashlib.blake2b(b"long", digest_size=16).digest()
    assert x != y


def test_the_schema_is_the_promised_one() -> None:
    schema = a_table(pa.table({"year": [1, 2, 3]})).schema
    assert list(schema)[:10] == [*PART, TEXT]
    assert [(field.name, str(field.type)) for field in list(schema)[10:]] == [
        ("year", "int64"),
        ("embedding", "fixed_size_list<item: halffloat>[4]"),
    ]


def test_every_passage_has_its_text_unless_texts_stay_out() -> None:
    assert a_table().column("text").to_pylist() == ["lo", "ng", "short", "lo", "ng"]
    without = a_table(has_text=False)
    assert without.equals(a_table().drop_columns("text"))


@given(data=st.data(), texts=st.lists(st.text(), max_size=6))
def test_a_passage_is_the_slice_of_its_text_whatever_its_characters_are(data: st.DataObject, texts: list[str]) -> None:
    cuts = []
    for row in data.draw(st.lists(st.sampled_from(range(len(texts))), max_size=8)) if texts else []:
        start = data.draw(st.integers(0, len(texts[row])))
        cuts.append((row, start, data.draw(st.integers(start, len(texts[row])))))
    of_row, first, last = (np.array(values, np.int64) for values in (zip(*cuts, strict=True) if cuts else ([],) * 3))
    n = len(cuts)
    made = Passages(
        text=[0] * n,
        passage=[0] * n,
        start=first.tolist(),
        stop=last.tolist(),
        truncated=[False] * n,
        ids=[array("q", [1])] * n,
    )
    rows = ChunkRows(
        sources=("s",), source=["s"] * len(texts), row=[*range(len(texts))], id=["i"] * len(texts), text=texts
    )
    vectors = np.zeros((n, 4), np.float16)
    table = part_table(
        rows, content_hashes(texts), passage_table(made, [0]), of_row, np.arange(n), vectors, has_text=True
    )
    assert table.column("text").to_pylist() == [texts[row][first:end] for row, first, end in cuts]


def test_kept_columns_follow_their_rows() -> None:
    assert a_table(pa.table({"year": [1, 2, 3]})).column("year").to_pylist() == [1, 1, 2, 3, 3]


def test_a_chunk_without_embedded_rows_is_a_table_of_the_same_schema() -> None:
    none = np.array([], np.int64)
    kept = pa.table({"year": pa.array([], pa.int64())})
    empty = part_table(
        ChunkRows(sources=("s",), kept=kept),
        [],
        PASSAGES.empty_table(),
        none,
        none,
        np.empty((0, 4), np.float16),
        has_text=True,
    )
    assert len(empty) == 0
    assert empty.schema == a_table(pa.table({"year": [1, 2, 3]})).schema


@given(texts=st.lists(st.text()))
def test_a_hash_depends_on_the_text_alone(texts: list[str]) -> None:
    found = content_hashes(texts)
    assert found == [content_hashes([text])[0] for text in texts]
    assert len(set(found)) == len(set(texts))
    assert {len(digest) for digest in found} <= {16}


def test_rejects_stand_in_the_order_of_their_rows() -> None:
    rows = ChunkRows(sources=("s", "a"))
    rows.rejects += [
        ("a", 1, "c", Reject(reason="null_text", detail="text is null")),
        ("s", 9, "b", Reject(reason="too_long", detail="over", text="t")),
        ("s", 3, "a", Reject(reason="null_text", detail="text is null")),
    ]
    table = rejects_table(rows.in_order())
    assert table is not None
    assert table.schema == REJECTS
    assert table.to_pylist() == [
        {"id": "a", "source": "s", "row": 3, "reason": "null_text", "detail": "text is null", "text": None},
        {"id": "b", "source": "s", "row": 9, "reason": "too_long", "detail": "over", "text": "t"},
        {"id": "c", "source": "a", "row": 1, "reason": "null_text", "detail": "text is null", "text": None},
    ]


def test_no_rejects_are_no_table() -> None:
    assert rejects_table([]) is None
