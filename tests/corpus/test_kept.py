"""Kept columns and ids: values of any Arrow type come back as they were, or the column is refused by its name."""

from __future__ import annotations

import contextlib
import datetime
import decimal
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
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.chunk import Density, Span
from pipeline.config import CorpusConfig
from pipeline.corpus import Corpus, Kinds, find_shards, notices, open_corpus, reader_of, settle
from pipeline.corpus.arrow import to_ids
from pipeline.corpus.record import types_of
from pipeline.corpus.rows import Rows, as_id, as_text
from pipeline.corpus.types import plain_type, unified_type
from pipeline.errors import CorpusError

START, DENSITY = Span(row_start=0, row_stop=0), Density(tokens_per_row=1, tokens_per_byte=1, spread=0)
numbers = itertools.count()

# Types and their values.

UNITS = st.sampled_from(["s", "ms", "us", "ns"])
leaf_types: st.SearchStrategy[pa.DataType] = st.one_of(
    st.sampled_from([pa.null(), pa.bool_(), pa.date32(), pa.date64(), pa.float16(), pa.float32(), pa.float64()]),
    st.sampled_from([getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]),
    st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()]),
    st.sampled_from([pa.binary_view(), pa.binary(3), pa.uuid(), pa.json_(), pa.bool8()]),
    st.sampled_from([pa.decimal32(9, 2), pa.decimal64(18, 0), pa.decimal128(38, 10), pa.decimal256(76, 3)]),
    st.sampled_from([pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]),
    st.builds(pa.timestamp, UNITS, st.sampled_from([None, "UTC", "Europe/Berlin", "+05:30"])),
    st.builds(pa.duration, UNITS),
    st.builds(pa.dictionary, st.just(pa.int8()), st.sampled_from([pa.string(), pa.binary(), pa.int64(), pa.float64()])),
)


def nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    return st.one_of(
        st.builds(pa.list_, inner),
        st.builds(pa.large_list, inner),
        st.builds(pa.list_view, inner),
        st.builds(pa.large_list_view, inner),
        st.builds(pa.list_, inner, st.integers(1, 3)),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([(f"f{i}", k) for i, k in enumerate(kinds)])
        ),
        st.builds(pa.map_, st.sampled_from([pa.string(), pa.int32()]), inner),
    )


any_type = st.recursive(leaf_types, nested, max_leaves=4)

NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
FLOAT_BITS = {2: 16, 4: 32, 8: 64}


def values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Draw what `pa.array` takes for a type: numbers for times, storage for extension types."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return values_of(kind.storage_type)
    if types.is_dictionary(kind):
        return values_of(kind.value_type)
    if types.is_null(kind):
        return st.none()
    if types.is_boolean(kind):
        return st.none() | st.booleans()
    if types.is_integer(kind):
        low = -(2 ** (kind.bit_width - 1)) if types.is_signed_integer(kind) else 0
        return st.none() | st.integers(low, low + 2**kind.bit_width - 1)
    if types.is_floating(kind):
        return st.none() | st.floats(width=FLOAT_BITS[kind.bit_width // 8])  # type: ignore[call-overload]
    if types.is_decimal(kind):
        digits = st.integers(-(10**kind.precision) + 1, 10**kind.precision - 1)
        with_point = digits.map(
            lambda number: decimal.Decimal((number < 0, tuple(map(int, str(abs(number)))), -kind.scale))
        )
        return st.none() | with_point
    if "string" in str(kind) and not types.is_nested(kind):
        return st.none() | st.text(max_size=6)
    if "binary" in str(kind) and not types.is_nested(kind):
        size = kind.byte_width if types.is_fixed_size_binary(kind) else None
        return st.none() | st.binary(min_size=size or 0, max_size=size or 6)
    if types.is_date64(kind):
        return st.none() | st.integers(-(2**31), 2**31 - 1).map(lambda days: days * 86_400_000)
    if types.is_time(kind):
        return st.none() | st.integers(0, 86_400 * 10**9 // NS[kind.unit] - 1)
    if types.is_timestamp(kind) or types.is_duration(kind):
        most = 2**63 - 1 if kind.unit != "s" else (2**63 - 1) // 1000
        return st.none() | st.integers(-most, most) | st.integers(-(10**6), 10**6)
    if types.is_date32(kind):
        return st.none() | st.integers(-(2**31), 2**31 - 1)
    if types.is_struct(kind):
        return st.none() | st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    if types.is_map(kind):
        keys = values_of(kind.key_type).filter(lambda key: key is not None)
        return st.none() | st.lists(
            st.tuples(keys, values_of(kind.item_type)), max_size=3, unique_by=lambda pair: pair[0]
        )
    size = kind.list_size if types.is_fixed_size_list(kind) else None
    return st.none() | st.lists(values_of(kind.value_type), min_size=size or 0, max_size=size or 3)


def exact(scalar: pa.Scalar) -> Any:
    """Return a value as Python compares it: times as nanoseconds, NaN as a word, storage for extension types."""
    kind, types = scalar.type, pa.types
    if not scalar.is_valid:
        return None
    if isinstance(kind, pa.BaseExtensionType) or types.is_dictionary(kind):
        return bool(scalar.value.as_py()) if kind == pa.bool8() else exact(scalar.value)
    if types.is_struct(kind):
        return tuple((name, exact(value)) for name, value in scalar.items())
    if types.is_nested(kind):
        return tuple(map(exact, scalar.values))
    if types.is_date(kind):
        return scalar.value * NS["ms"] * (86_400_000 if types.is_date32(kind) else 1)
    if types.is_time(kind) or types.is_timestamp(kind) or types.is_duration(kind):
        return scalar.value * NS[kind.unit]
    value = scalar.as_py()
    return "not a number" if isinstance(value, float) and math.isnan(value) else value


def exactly(column: pa.ChunkedArray) -> list[Any]:
    return [exact(scalar) for scalar in column]


@st.composite
def columns(draw: st.DrawFn, kinds: st.SearchStrategy[pa.DataType] = any_type) -> pa.Array:
    """Draw a column that Parquet can store."""
    kind = draw(kinds)
    values = draw(st.lists(values_of(kind), min_size=1, max_size=8))
    with contextlib.suppress(pa.ArrowException, TypeError, ValueError):
        column = pa.array(values, kind)
        pq.write_table(pa.table({"k": column}), io.BytesIO(), row_group_size=1)
        return column
    assume(False)


def write(folder: Path, column: pa.Array, **options: Any) -> Path:
    path = folder / f"{next(numbers)}/{next(numbers)}.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(len(column))], "k": column}), path, **options)
    return path


def write_lines(path: Path, values: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps({"text": "a text", "k": value}) + "\n" for value in values))
    return path


def surveyed(folder: Path, config: CorpusConfig) -> tuple[Corpus, Kinds]:
    """Return a corpus as a first run finds it, its lines cut."""
    corpus, kinds = open_corpus(*find_shards(str(folder)), config), {name: set[str]() for name in config.keep}
    for shard in corpus.shards:
        list(corpus.reader(shard).cut(START, DENSITY, 50, is_open=True, limit=None, kinds=kinds))
    return settle(corpus, kinds), kinds


def kept(folder: Path, *, cut: int = 50) -> pa.Table:
    """Return the kept column `k` of a corpus as the parts of a first run have it; `cut` is in tokens a chunk."""
    corpus, kinds = surveyed(folder, CorpusConfig(keep=("k",)))
    found, seen = [], set[str]()
    for shard in corpus.shards:
        with contextlib.closing(reader_of(corpus.root, shard.source)) as reader:
            for span, _ in reader.cut(START, DENSITY, cut, is_open=True, limit=None, kinds={}):
                rows = reader.read(span, corpus.columns)
                part = io.BytesIO()
                pq.write_table(rows.kept, part)
                part.seek(0)
                found.append(pq.read_table(part))
                seen |= rows.kinds.get("k", set())
    assert types_of(seen) == types_of(kinds["k"])
    return pa.concat_tables(found)


@given(column=columns(), group=st.integers(1, 5), cut=st.integers(1, 4))
@settings(max_examples=200)
def test_kept_values_of_any_type_come_back_as_they_were(column: pa.Array, group: int, cut: int, tmp_path: Path) -> None:
    path = write(tmp_path, column, row_group_size=group)
    stored = pq.read_table(path).column("k")
    found = kept(path.parent, cut=cut).column("k")
    assert exactly(found) == exactly(stored)
    assert found.type == pq.read_table(write(tmp_path, found.combine_chunks())).column("k").type


@given(left=columns(), right=columns())
@settings(max_examples=150)
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
        [pa.list_(pa.int32()), pa.list_view(pa.int64()), pa.list_(pa.int8(), 2), pa.large_list(pa.null())],
        [pa.struct([("a", kind)]) for kind in (pa.int32(), pa.float64(), pa.string_view(), pa.null())],
        [pa.map_(pa.string(), kind) for kind in (pa.int32(), pa.float64(), pa.list_view(pa.int8()), pa.null())],
    ],
    ids=lambda kinds: str(kinds[0]),
)
@settings(max_examples=25)
def test_values_of_types_that_are_alike_are_equal_in_one_type(
    kinds: list[pa.DataType], data: st.DataObject, tmp_path: Path
) -> None:
    drawn = [data.draw(columns(st.sampled_from(kinds))) for _ in range(2)]
    check_together(*drawn, tmp_path)


def check_together(left: pa.Array, right: pa.Array, tmp_path: Path) -> None:
    folder = tmp_path / str(next(numbers))
    paths = [write(folder, column) for column in (left, right)]
    paths = [path.rename(folder / name) for path, name in zip(paths, ("a.parquet", "b.parquet"), strict=True)]
    stored = [pq.read_table(path).column("k") for path in paths]
    found = kept(folder).column("k")
    one_type = unified_type({plain_type(column.type) for column in stored})
    if one_type is not None:
        assert exactly(found) == [value for column in stored for value in exactly(column)]
        return
    assert found.type == pa.string()
    for column, start in zip(stored, (0, len(left)), strict=True):
        texts = found.slice(start, len(column)).to_pylist()
        assert len({repr(value) for value in exactly(column)}) == len(set(texts))


@given(column=columns())
@settings(max_examples=200)
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
json_columns = st.one_of(
    st.lists(values, min_size=1, max_size=6)
    for values in (
        st.none() | st.integers(-(2**53), 2**53),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
        st.none() | st.text(max_size=4),
        json_values,
    )
)


@given(files=st.lists(json_columns, min_size=1, max_size=3))
@settings(max_examples=150)
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
