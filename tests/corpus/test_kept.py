"""Kept columns and ids: values of any Arrow type come back as they were, or the column is refused by its name."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chunk import ChunkSize, Density, Span
from pipeline.config import CorpusConfig
from pipeline.corpus import Corpus, Kinds, find_shards, open_corpus, reader_of, settle
from pipeline.corpus.reader import shard_at
from pipeline.corpus.tabular.arrow import to_ids, to_kept
from pipeline.corpus.tabular.types import plain_type, unified_type
from pipeline.corpus.texts import as_id, as_text
from pipeline.corpus.textual.record import types_of
from pipeline.errors import CorpusError
from tests.support.columns import NS, columns, exactly

START, DENSITY = Span(row_start=0, row_stop=0), Density(tokens_per_row=1, tokens_per_byte=1)
numbers = itertools.count()


def write(folder: Path, column: pa.Array, **options: Any) -> Path:
    path = folder / f"{next(numbers)}/{next(numbers)}.parquet"
    path.parent.mkdir(parents=True)
    table = pa.table({"text": [f"text {n}" for n in range(len(column))], "k": column})
    try:
        pq.write_table(table, path, **options)
    except pa.ArrowNotImplementedError:  # pyarrow cannot divide lists of views into row groups
        pq.write_table(table, path)
    return path


def write_lines(path: Path, values: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps({"text": "a text", "k": value}) + "\n" for value in values))
    return path


def surveyed(folder: Path, config: CorpusConfig) -> tuple[Corpus, Kinds]:
    """Return a corpus as a first run finds it, its lines cut."""
    corpus, kinds = open_corpus(*find_shards(str(folder)), config), {name: set[str]() for name in config.keep}
    for shard in corpus.shards:
        list(corpus.reader(shard).cut(START, DENSITY, ChunkSize(tokens=50), is_open=True, limit=None, kinds=kinds))
    return settle(corpus, kinds), kinds


def kept(folder: Path, *, cut: int = 50) -> pa.Table:
    """Return the kept column `k` of a corpus as the parts of a first run have it; `cut` is in tokens a chunk."""
    corpus, kinds = surveyed(folder, CorpusConfig(keep=("k",)))
    found, seen = [], set[str]()
    for shard in corpus.shards:
        with contextlib.closing(reader_of(corpus.root, shard.source)) as reader:
            for span, _ in reader.cut(START, DENSITY, ChunkSize(tokens=cut), is_open=True, limit=None, kinds={}):
                rows = reader.read(span, corpus.columns)
                part = io.BytesIO()
                pq.write_table(rows.kept, part)
                part.seek(0)
                found.append(pq.read_table(part))
                seen |= rows.kinds.get("k", set())
    assert types_of(seen) == types_of(kinds["k"])
    return pa.concat_tables(found)


@given(column=columns(), group=st.integers(1, 5), cut=st.integers(1, 4))
@settings(max_examples=120)
def test_kept_values_of_any_type_come_back_as_they_were(column: pa.Array, group: int, cut: int, tmp_path: Path) -> None:
    path = write(tmp_path, column, row_group_size=group)
    stored = pq.read_table(path).column("k")
    found = kept(path.parent, cut=cut).column("k")
    assert exactly(found) == exactly(stored)
    assert found.type == pq.read_table(write(tmp_path, found.combine_chunks())).column("k").type


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string_view(), 2),
        pa.list_(pa.binary_view()),
        pa.large_list_view(pa.list_view(pa.int8())),
        pa.map_(pa.string_view(), pa.list_view(pa.int8())),
        pa.struct([("a", pa.list_view(pa.string())), ("b", pa.list_(pa.string_view(), 1))]),
    ],
    ids=str,
)
def test_any_slice_of_a_column_is_kept(kind: pa.DataType) -> None:
    some = {"a": ["x", None], "b": ["y"]} if pa.types.is_struct(kind) else ["x", None]
    if pa.types.is_map(kind):
        values: list[Any] = [[("x", [1, 2]), ("y", None)], None, [], [("z", [])], None, [("w", [3])]]
    elif "int8" in str(kind):
        values = [[[1, 2], None], None, [], [[]], [[3]], None]
    else:
        values = [some, None, some, None, None, some]
    column = pa.array(values, kind)
    for start, stop in itertools.combinations(range(len(values) + 1), 2):
        found = to_kept(column.slice(start, stop - start), plain_type(kind))
        assert found.type == plain_type(kind)
        assert found.to_pylist() == column.to_pylist()[start:stop]


@given(left=columns(), right=columns())
@settings(max_examples=80)
def test_values_of_two_files_are_equal_in_one_type_or_apart_as_text(
    left: pa.Array, right: pa.Array, tmp_path: Path
) -> None:
    check_together(left, right, tmp_path)


@given(data=st.data())
@pytest.mark.parametrize(
    "kinds",
    [
        [pa.int8(), pa.uint8(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64(), pa.null()],
        [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.int16(), pa.int32(), pa.int64()],
        [pa.decimal32(9, 2), pa.decimal128(38, 10), pa.decimal256(76, 3), pa.int64(), pa.uint64()],
        [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.json_()],
        [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3), pa.string()],
        [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")],
        [pa.timestamp(unit) for unit in NS],
        [pa.duration(unit) for unit in NS],
        [pa.list_(pa.int32()), pa.list_view(pa.int64()), pa.list_(pa.int8(), 2), pa.large_list(pa.null())],
        [pa.struct([("a", kind)]) for kind in (pa.int32(), pa.float64(), pa.string_view(), pa.null())],
        [pa.map_(pa.string(), kind) for kind in (pa.int32(), pa.float64(), pa.list_view(pa.int8()), pa.null())],
    ],
    ids=lambda kinds: str(kinds[0]),
)
@settings(max_examples=12)
def test_values_of_types_that_are_alike_are_equal_in_one_type(
    kinds: list[pa.DataType], data: st.DataObject, tmp_path: Path
) -> None:
    left, right = (data.draw(columns(st.sampled_from(kinds))) for _ in range(2))
    check_together(left, right, tmp_path)


def check_together(left: pa.Array, right: pa.Array, tmp_path: Path) -> None:
    folder = tmp_path / str(next(numbers))
    paths = [write(folder, column) for column in (left, right)]
    paths = [path.rename(folder / name) for path, name in zip(paths, ("a.parquet", "b.parquet"), strict=True)]
    stored = [pq.read_table(path).column("k") for path in paths]
    one_type = unified_type({plain_type(column.type) for column in stored})
    if one_type in (pa.timestamp("us"), pa.duration("us"), pa.timestamp("ms"), pa.duration("ms")):
        ceiling = 2**63 * NS[one_type.unit]
        if any(value is not None and abs(value) >= ceiling for column in stored for value in exactly(column)):
            with pytest.raises(CorpusError, match=r"parquet: .*the kept column 'k'"):
                kept(folder)
            return
    found = kept(folder).column("k")
    if one_type is not None:
        assert exactly(found) == [value for column in stored for value in exactly(column)]
        return
    assert found.type == pa.string()
    for column, start in zip(stored, (0, len(left)), strict=True):
        texts = found.slice(start, len(column)).to_pylist()
        assert len({repr(value) for value in exactly(column)}) == len(set(texts))


@given(column=columns())
@settings(max_examples=120)
def test_different_values_of_any_type_are_different_ids(column: pa.Array, tmp_path: Path) -> None:
    stored = pq.read_table(write(tmp_path, column)).column("k")
    found = [value for chunk in stored.chunks for value in to_ids(chunk)]
    known = [(repr(value), text) for value, text in zip(exactly(stored), found, strict=True) if text is not None]
    assert len({value for value, _ in known}) == len({text for _, text in known}) == len(set(known))
    assert not {text.lower() for _, text in known} & {"nan", "null"}
    assert all(text.encode() is not None for _, text in known)


json_values = st.one_of(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.integers(-5, 5) | st.floats(),
    st.text(max_size=5) | st.text(st.characters(categories=["Cs", "Ll"]), max_size=3),
    st.lists(st.none() | st.integers() | st.floats() | st.text(max_size=3), max_size=3),
)
json_columns: st.SearchStrategy[list[Any]] = st.sampled_from(
    [
        st.none() | st.integers(-(2**53), 2**53),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
        st.none() | st.text(max_size=4),
        json_values,
    ]
).flatmap(lambda values: st.lists(values, min_size=1, max_size=6))


@given(files=st.lists(json_columns, min_size=1, max_size=3))
@settings(max_examples=80)
def test_values_of_lines_are_equal_in_one_type_or_apart_as_text(files: list[list[Any]], tmp_path: Path) -> None:
    folder = tmp_path / str(next(numbers))
    folder.mkdir()
    for number, values in enumerate(files):
        write_lines(folder / f"{number}.jsonl", values)
    found = kept(folder).column("k")
    values = [value for values in files for value in values]
    if found.type == pa.string():
        assert found.to_pylist() == [as_text(value) for value in values]
        told = {
            text: {repr(v) for v, t in zip(values, found.to_pylist(), strict=True) if t == text}
            for text in found.to_pylist()
        }
        assert all(len(same) == 1 or {"1", "True"} & same for same in told.values())
    else:
        assert found.to_pylist() == values


def test_ids_of_lines_that_are_different_stay_different() -> None:
    values = [
        "\ud800",
        "\ud801",
        "a\ud800",
        "a\\ud800\ud800",
        math.inf,
        -math.inf,
        [math.nan],
        [None],
        2**64,
        2.0**64,
        "é",
    ]
    found = [as_id(value) for value in values]
    assert len(set(found)) == len(values)
    assert all(text and text.encode() for text in found)
    assert as_id(math.nan) is None


BYTE_TYPES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3), pa.dictionary(pa.int8(), pa.binary())]


@pytest.mark.parametrize("kind", BYTE_TYPES, ids=str)
def test_ids_of_bytes_that_are_no_utf8_are_their_hex(kind: pa.DataType) -> None:
    values = pa.array([b"\x80\x81\x82", b"abc", None, b"\xff\xfe\xfd", b"\xff\xfe\xfd"], pa.binary(3))
    plain = values.cast(kind.value_type if pa.types.is_dictionary(kind) else kind)
    column = plain.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else plain
    assert to_ids(column) == ["808182", "abc", None, "fffefd", "fffefd"]


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pa.array([math.nan, 0.5, math.inf]), [None, "0.5", "Infinity"]),
        (pa.array([math.nan, 1], pa.float32()), [None, "1.0"]),
        (pa.array([math.nan, None], pa.float16()), [None, None]),
        (pa.array([[math.nan, None], [None, math.inf]]), ["[NaN,null]", "[null,Infinity]"]),
        (pa.array([{"a": b"\xff"}, {"a": b"x"}]), ['{"a":"ff"}', '{"a":"x"}']),
        (pa.array([2**62], pa.timestamp("us")), ["148108-07-06T14:00:27.387904"]),
        (pa.array([2**62], pa.timestamp("us", "UTC")), ["148108-07-06T14:00:27.387904Z"]),
        (
            pa.array([[2**62, 0]], pa.list_(pa.timestamp("us"))),
            ['["148108-07-06T14:00:27.387904","1970-01-01T00:00:00"]'],
        ),
        (pa.array([1001, 1000], pa.time64("ns")), ["00:00:00.000001001", "00:00:00.000001"]),
        (pa.array([2**31 - 1], pa.date32()), ["5881580-07-11"]),
        (pa.array([2**62], pa.duration("s")), [str(2**62)]),
        (pa.array([{"t": 1}, {"t": 2}], pa.struct([("t", pa.time64("ns"))])), None),
        (pa.array([[("k", 2**62)], []], pa.map_(pa.string(), pa.date64())), None),
    ],
    ids=lambda case: str(case.type) if isinstance(case, pa.Array) else "",
)
def test_ids_of_odd_values_are_exact(column: pa.Array, found: list[str | None] | None) -> None:
    ids = to_ids(column)
    assert len(set(ids)) == len(ids) if found is None else ids == found


@pytest.mark.parametrize(
    "column",
    [
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(["[1]", None])),
        pa.ExtensionArray.from_storage(pa.json_(pa.string_view()), pa.array(["[1]", None], pa.string_view())),
        pa.ExtensionArray.from_storage(pa.json_(pa.large_string()), pa.array(["[1]", None], pa.large_string())),
        pa.ExtensionArray.from_storage(pa.opaque(pa.binary(), "t", "v"), pa.array([b"[1]", None])),
    ],
    ids=lambda column: str(column.type.storage_type),
)
def test_an_extension_type_over_strings_is_text(column: pa.Array, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": column, "id": column}), path)
    corpus = open_corpus(tmp_path, [shard_at(tmp_path, path.name)], CorpusConfig())
    rows = corpus.reader(corpus.shards[0]).read(Span(row_start=0, row_stop=2), corpus.columns)
    assert (rows.text, rows.id, rows.rejects[0][2].reason) == (["[1]"], ["[1]"], "null_text")


def test_strings_that_are_no_utf8_are_kept_as_hex_at_any_depth(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"]).buffers())
    for number, column in enumerate(
        [
            bad,
            pa.ListArray.from_arrays([0, 1, 2], bad),
            pa.StructArray.from_arrays([pa.array([1, 2]), bad], ["n", "s"]),
            pa.MapArray.from_arrays([0, 1, 2], pa.array(["k", "l"]), bad),
            pa.FixedSizeListArray.from_arrays(bad, 1),
        ]
    ):
        found = kept(write(tmp_path / str(number), column).parent).column("k")
        assert [str(value).count("ff") for value in found.to_pylist()] == [0, 1]


def test_a_value_that_its_one_type_cannot_hold_is_refused_by_file_and_column(tmp_path: Path) -> None:
    folder = write(tmp_path, pa.array([2**62], pa.timestamp("ms"))).parent
    write(tmp_path, pa.array([0], pa.timestamp("us"))).rename(folder / "us.parquet")
    with pytest.raises(CorpusError, match=r"\.parquet: expected values of type timestamp\[us\] in the kept column 'k'"):
        kept(folder)
