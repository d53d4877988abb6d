"""Columns of any Arrow type that Parquet can store, and their values as Python compares them."""

from __future__ import annotations

import contextlib
import decimal
import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import assume
from hypothesis import strategies as st

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
FLOATS = {16: st.floats(width=16), 32: st.floats(width=32), 64: st.floats(width=64)}


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
        return st.none() | FLOATS[kind.bit_width]
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
        pq.write_table(pa.table({"k": column}), io.BytesIO())
        return column
    assume(False)
