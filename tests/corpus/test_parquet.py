"""Parquet shards: the same rows whatever the text type, the row groups and the span."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunk import Span
from pipeline.corpus import parquet
from pipeline.corpus.jsonl import JsonlReader
from pipeline.corpus.parquet import ParquetReader
from pipeline.corpus.rows import Columns, Rows
from pipeline.corpus.tabular.arrow import field_type, is_text
from pipeline.errors import CorpusError

COLUMNS = Columns(text=("text",), template=None, id="id")
numbers = itertools.count()

TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]
texts = st.none() | st.text(max_size=12) | st.sampled_from([" ", "\u2003", "a", "a"])


def write(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / f"{next(numbers)}.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def as_type(values: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    if "binary" in str(kind):
        return pa.array([v and v.encode() if v != "" else v for v in values], kind)
    return pa.array(values, kind)


def test_a_template_takes_numbers_and_dates_and_a_missing_one_as_nothing(tmp_path: Path) -> None:
    columns = {
        "text": ["a", "b"],
        "year": pa.array([2026, None]),
        "on": pa.array([datetime.date(2026, 11, 27), None]),
        "share": [0.5, float("nan")],
        "rank": pa.array([1, 2]).dictionary_encode(),
    }
    text = Columns(text=tuple(columns), template="{text} {year} {on} {share} {rank}", id=None)
    path = write(tmp_path, columns)
    ParquetReader(path, "s").column_types(text, tuple(columns))
    assert whole(path, text).text == ["a 2026 2026-11-27 0.5 1", "b    2"]
    with pytest.raises(CorpusError, match="expected text in column 'year', found int64"):
        ParquetReader(path, "s").column_types(Columns(text=("year",), template=None, id=None), ("year",))


def whole(path: Path, columns: Columns = COLUMNS) -> Rows:
    return read(path, Span(row_start=0, row_stop=pq.read_metadata(path).num_rows), columns)


def read(path: Path, span: Span, columns: Columns = COLUMNS) -> Rows:
    with contextlib.closing(ParquetReader(path, "s")) as reader:
        return reader.read(span, columns)


def invalid_strings(*values: bytes) -> pa.Array:
    """Return a string column whose bytes nobody has checked."""
    offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))]
    )


@given(values=st.lists(texts, max_size=20), group=st.integers(1, 8), batch=st.integers(1, 5), data=st.data())
@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_rows_do_not_depend_on_type_row_groups_or_spans(
    values: list[str | None], group: int, batch: int, data: st.DataObject, kind: pa.DataType, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(parquet, "BATCH_ROWS", batch)
    columns = {"n": pa.array(range(len(values)), pa.int64()), "text": as_type(values, kind)}
    path = write(tmp_path, columns, row_group_size=group)
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(values)), st.integers(0, len(values)))))
    rows = read(path, Span(row_start=start, row_stop=stop), COLUMNS)
    good = [row for row in range(start, stop) if (values[row] or "").strip()]
    assert rows.row == good
    assert rows.text == [values[row] for row in good]
    assert rows.id == [f"s:{row}" for row in good]
    assert [(row, why.reason) for row, _, why in rows.rejects] == [
        (row, "null_text" if values[row] is None else "empty_text") for row in range(start, stop) if row not in good
    ]


json_ids = {
    "string": st.none() | st.text(max_size=5),
    "int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "bool": st.none() | st.booleans(),
    "double": st.none() | st.floats(allow_nan=False, allow_infinity=False),
}


@given(data=st.data())
@pytest.mark.parametrize("kind", json_ids)
def test_parquet_and_lines_give_the_same_ids_and_texts(data: st.DataObject, kind: str, tmp_path: Path) -> None:
    rows = data.draw(st.lists(st.fixed_dictionaries({"id": json_ids[kind], "text": texts}), min_size=1, max_size=8))
    columns = {
        "id": pa.array([row["id"] for row in rows], kind),
        "text": pa.array([row["text"] for row in rows], "string"),
    }
    of_parquet = whole(write(tmp_path, columns))
    path = tmp_path / f"{next(numbers)}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    span = Span(row_start=0, row_stop=len(rows), byte_stop=path.stat().st_size)
    of_lines = JsonlReader(path, "s").read(span, COLUMNS)
    assert (of_parquet.row, of_parquet.id, of_parquet.text) == (of_lines.row, of_lines.id, of_lines.text)
    assert [(row, row_id, why.reason) for row, row_id, why in of_parquet.rejects] == [
        (row, row_id, why.reason) for row, row_id, why in of_lines.rejects
    ]


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (pa.array([7, None], pa.int32()), ["7", "s:1"]),
        (pa.array([2**64 - 1, 0], pa.uint64()), ["18446744073709551615", "0"]),
        (pa.array([b"x", b""], pa.binary()), ["x", "s:1"]),
        (pa.array(["x", None], pa.large_string()), ["x", "s:1"]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array([True, None]), ["true", "s:1"]),
        (pa.nulls(2), ["s:0", "s:1"]),
        (pa.array([{"oid": 5}, None]), ['{"oid":5}', "s:1"]),
        (pa.array([["a"], []]), ['["a"]', "[]"]),
    ],
    ids=lambda case: str(case.type) if isinstance(case, pa.Array) else "",
)
def test_an_id_of_any_kind_becomes_text(tmp_path: Path, ids: pa.Array, found: list[str]) -> None:
    assert whole(write(tmp_path, {"text": ["a", "b"], "id": ids})).id == found


def test_rows_of_a_file_without_ids_are_named_after_their_place(tmp_path: Path) -> None:
    assert whole(write(tmp_path, {"text": ["a", "b"]})).id == ["s:0", "s:1"]


def test_bytes_that_are_no_utf8_reject_their_row_alone(tmp_path: Path) -> None:
    rows = whole(write(tmp_path, {"text": invalid_strings(b"a", b"\xff", b"c", b"\xed\xa0\x80"), "id": list("wxyz")}))
    assert (rows.id, rows.text) == (["w", "y"], ["a", "c"])
    assert [(row, row_id, why.reason) for row, row_id, why in rows.rejects] == [
        (1, "x", "invalid_utf8"),
        (3, "z", "invalid_utf8"),
    ]


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()], ids=str)
def test_an_id_that_is_no_utf8_does_not_stop_the_chunk(tmp_path: Path, kind: pa.DataType) -> None:
    ids = pa.Array.from_buffers(kind, 2, invalid_strings(b"x", b"\xff").buffers())
    rows = whole(write(tmp_path, {"text": ["a", "b"], "id": ids}))
    assert rows.n_rows == 2
    assert rows.id[0] == "x"


def test_a_kept_string_that_is_no_utf8_is_its_hex(tmp_path: Path) -> None:
    columns = Columns(text=("text",), template=None, id=None, keep=("k",))
    rows = whole(write(tmp_path, {"text": ["a", "b"], "k": invalid_strings(b"x", b"\xff")}), columns)
    rows.kept.validate(full=True)
    assert rows.kept.to_pydict() == {"k": ["x", "ff"]}


def test_texts_are_found_along_a_path_of_structs(tmp_path: Path) -> None:
    inner = pa.StructArray.from_arrays([pa.array(["a", "b", None])], ["body"], mask=pa.array([False, True, False]))
    path = write(tmp_path, {"meta": pa.StructArray.from_arrays([inner], ["page"])})
    rows = whole(path, Columns(text=("meta.page.body",), template=None, id=None))
    assert rows.text == ["a"]
    assert [(row, why.reason) for row, _, why in rows.rejects] == [(1, "null_text"), (2, "null_text")]


def test_a_dotted_name_is_a_path_unless_a_column_has_that_name(tmp_path: Path) -> None:
    path = write(tmp_path, {"a": [{"b": "inner"}], "a.b": ["outer"]})
    assert whole(path, Columns(text=("a.b",), template=None, id=None)).text == ["outer"]


def test_a_template_takes_values_from_several_columns(tmp_path: Path) -> None:
    path = write(tmp_path, {"b": ["x", None, None], "a": [None, "y", None]})
    rows = whole(path, Columns(text=("a", "b"), template="{a}-{b}", id=None))
    assert rows.text == ["-x", "y-"]
    assert [(row, why.reason) for row, _, why in rows.rejects] == [(2, "null_text")]


def test_kept_columns_keep_their_types_and_follow_the_rows(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "text": ["a", None, "c", "d"],
            "year": pa.array([1, 2, None, 4], pa.int16()),
            "m": [{"x": [1]}, {"x": [2]}, {"x": None}, None],
            "c": pa.array(["p", "q", "p", None]).dictionary_encode(),
        },
        row_group_size=2,
    )
    rows = whole(path, Columns(text=("text",), template=None, id=None, keep=("year", "m.x", "c", "text")))
    assert rows.kept.to_pydict() == {
        "year": [1, None, 4],
        "m.x": [[1], None, None],
        "c": ["p", "p", None],
        "corpus_text": ["a", "c", "d"],
    }
    assert rows.kept.schema.field("year").type == pa.int16()
    assert rows.kept.schema.field("c").type == pa.string()


def test_a_kept_column_whose_type_differs_between_shards_becomes_text(tmp_path: Path) -> None:
    columns = Columns(text=("text",), template=None, id=None, keep=("k",)).typed({"k": pa.string()})
    rows = whole(write(tmp_path, {"text": ["a", "b", "c"], "k": [[1, 2], None, []]}), columns)
    assert rows.kept.to_pydict() == {"k": ["[1,2]", None, "[]"]}


def test_kept_columns_are_there_when_every_row_is_rejected(tmp_path: Path) -> None:
    columns = Columns(text=("text",), template=None, id=None, keep=("k",))
    rows = whole(write(tmp_path, {"text": pa.nulls(2, pa.string()), "k": [1, 2]}), columns)
    assert rows.kept.schema == pa.schema({"k": pa.int64()})
    assert rows.n_rows == 2


@pytest.mark.parametrize("n_groups", [0, 1, 3])
def test_a_file_without_rows_has_none(tmp_path: Path, n_groups: int) -> None:
    path = tmp_path / "empty.parquet"
    schema = pa.schema({"text": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(n_groups):
            writer.write_table(schema.empty_table())
    assert ParquetReader(path, "s")._size() == (0, 0) or n_groups
    assert ParquetReader(path, "s")._size()[0] == 0
    assert read(path, Span(row_start=0, row_stop=0)).n_rows == 0


def test_empty_row_groups_between_others_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "gaps.parquet"
    schema = pa.schema({"text": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        for values in ([], ["a"], [], ["b", "c"], []):
            writer.write_table(pa.table({"text": pa.array(values, pa.string())}))
    assert whole(path).text == ["a", "b", "c"]
    assert read(path, Span(row_start=1, row_stop=2)).text == ["b"]


def test_the_size_of_a_file_is_that_of_its_rows_before_compression(tmp_path: Path) -> None:
    long = [f"{i:0100d}" for i in range(1000)]
    path = write(tmp_path, {"text": long, "other": long, "textual": long}, use_dictionary=False)
    n_rows, n_bytes = ParquetReader(path, "s")._size()
    assert n_rows == 1000
    assert 300_000 < n_bytes < 330_000


def test_a_file_that_is_not_parquet_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for data in (b"", b"PAR1", b"PAR1" + b"x" * 100, b'{"text": "a"}\n'):
        path.write_bytes(data)
        with pytest.raises(CorpusError, match=r"a\.parquet: expected a Parquet file"):
            ParquetReader(path, "s").column_types(COLUMNS, ())


def test_a_damaged_page_is_refused_by_name_and_rows(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": [f"some text {i}" for i in range(1000)]}, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 50] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=rf"{path.name} rows 0-999"):
        whole(path)


@pytest.mark.parametrize("kind", [*TEXT_TYPES, pa.null()], ids=str)
def test_texts_may_stand_in_columns_of_strings_or_bytes(kind: pa.DataType) -> None:
    assert is_text(kind)


@pytest.mark.parametrize(
    "kind",
    [pa.int64(), pa.bool_(), pa.list_(pa.string()), pa.struct({"a": pa.string()}), pa.date32()],
    ids=str,
)
def test_texts_may_not_stand_in_other_columns(kind: pa.DataType) -> None:
    assert not is_text(kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a", None),
        ("s", "struct"),
        ("s.t", "string"),
        ("s.u", None),
        ("s.t.v", None),
        ("x.y", "int64"),
        ("", None),
    ],
)
def test_the_type_at_a_path(name: str, kind: str | None) -> None:
    schema = pa.schema({"s": pa.struct({"t": pa.string()}), "x.y": pa.int64()})
    check: Callable[[Any], bool] = (lambda found: found is None) if kind is None else (lambda found: kind in str(found))
    assert check(field_type(schema, name))
