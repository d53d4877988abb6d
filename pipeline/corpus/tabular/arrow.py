"""Arrow columns of a shard, as texts, as ids and as they are kept."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.corpus.rows import Reject
from pipeline.corpus.tabular.types import TEXTS
from pipeline.corpus.texts import as_id, as_text, not_utf8

TEXT_TESTS = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")

PLAIN_TESTS = ("integer", "floating", "decimal", "boolean", "temporal")


def field_type(schema: pa.Schema, name: str) -> pa.DataType | None:
    """Return the type of a column, or of a dotted path into structs; None where there is none."""
    if name in schema.names:
        return schema.field(name).type
    steps = name.split(".")
    kind = schema.field(steps[0]).type if steps[0] in schema.names else None
    for step in steps[1:]:
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            return None
        kind = kind.field(step).type
    return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type can be texts: strings or bytes, plain, dictionary-encoded or under an extension type,
    or nothing but nulls."""
    if isinstance(kind, pa.BaseExtensionType):
        return is_text(kind.storage_type)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(getattr(pa.types, f"is_{test}")(kind) for test in TEXT_TESTS)


def is_plain(kind: pa.DataType) -> bool:
    """Whether values of a type are numbers, booleans, dates or times, which a template takes too."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(getattr(pa.types, f"is_{test}")(kind) for test in PLAIN_TESTS)


def column_of(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return a column, or the values at a dotted path into structs."""
    if name in batch.schema.names:
        return batch.column(name)
    first, *steps = name.split(".")
    return pc.struct_field(batch.column(first), steps)


def to_strings(column: pa.Array) -> list[str | Reject | None]:
    """Return each value of a column for which `is_text` holds, a Reject for bytes that are no UTF-8."""
    column = _bare(column)
    if pa.types.is_null(column.type):
        return column.to_pylist()  # type: ignore[no-any-return]
    try:
        return column.cast(pa.large_binary()).cast(pa.large_string()).to_pylist()  # type: ignore[no-any-return]
    except pa.ArrowInvalid:
        return [_decoded(value) for value in column.cast(pa.large_binary()).to_pylist()]


def byte_lengths(column: pa.Array) -> NDArray[np.int64]:
    """Return how many bytes each value of a column has for which `is_text` holds; a null has none."""
    column = _bare(column)
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64)
    lengths = pc.binary_length(column.cast(pa.large_binary())).fill_null(0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def _decoded(value: bytes | None) -> str | Reject | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        return not_utf8(error)


def to_ids(column: pa.Array) -> list[str | None]:
    """Return each value as text, as `as_id` has it."""
    return [as_id(value) for value in _values(column)] if _may_be_nan(column.type) else to_texts(column)


def to_texts(column: pa.Array) -> list[str | None]:
    """Return each value as text, as `as_text` has it."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    if is_text(column.type):
        column = _bare(column)
        if not pa.types.is_null(column.type):
            column = column.cast(pa.large_binary())
            try:
                return column.cast(pa.large_string()).to_pylist()  # type: ignore[no-any-return]
            except pa.ArrowInvalid:
                pass
    return [as_text(value) for value in _values(column)]


def to_kept(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a kept column as a plain type that holds its values; raises what pyarrow raises where it does not."""
    try:
        kept = _converted(column, kind)
        kept.validate(full=True)
    except pa.ArrowInvalid:  # bytes that are no UTF-8, at any depth
        kept = _converted(column, kind, is_mended=True)
        kept.validate(full=True)
    return kept


def _converted(column: pa.Array, kind: pa.DataType, *, is_mended: bool = False) -> pa.Array:
    """Return a column as another type of the same shape, also where strings are to be mended.

    Not a cast of nested types: pyarrow 26 casts lists of views to lists whose offsets are cut short.
    """
    types, converted = pa.types, partial(_converted, is_mended=is_mended)
    if kind in TEXTS and (is_mended or not is_text(column.type)):
        return pa.array(to_texts(column), kind)
    if column.type.equals(kind) and not (is_mended and types.is_nested(kind)):
        return column
    if types.is_dictionary(column.type):
        return converted(column.dictionary_decode(), kind)
    if kind in TEXTS and types.is_binary_view(column.type):
        column = column.cast(pa.binary())
    if types.is_null(column.type):
        return pa.nulls(len(column), kind)
    if isinstance(column.type, pa.BaseExtensionType):
        return converted(column.storage, kind)
    is_null = column.is_null()
    if types.is_struct(kind):
        fields = [converted(column.field(index), field.type) for index, field in enumerate(kind)]
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=is_null)
    if types.is_map(kind):
        keys, items = converted(column.keys, kind.key_type), converted(column.items, kind.item_type)
        offsets = pa.array(column.offsets.to_numpy() - column.offsets[0].as_py(), pa.int32())
        start, n = column.offsets[0].as_py(), column.offsets[-1].as_py() - column.offsets[0].as_py()
        return pa.MapArray.from_arrays(offsets, keys.slice(start, n), items.slice(start, n), kind, mask=is_null)
    if types.is_fixed_size_list(kind):
        values = column.values.slice(column.offset * kind.list_size, len(column) * kind.list_size)
        return pa.FixedSizeListArray.from_arrays(converted(values, kind.value_type), type=kind, mask=is_null)
    if types.is_list(kind) or types.is_large_list(kind):
        lengths = pc.list_value_length(column).fill_null(0).to_numpy()
        width = np.int64 if types.is_large_list(kind) else np.int32
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(width))
        whole = pa.LargeListArray if types.is_large_list(kind) else pa.ListArray
        return whole.from_arrays(offsets, converted(column.flatten(), kind.value_type), type=kind, mask=is_null)
    return column.cast(kind)


def _bare(column: pa.Array) -> pa.Array:
    """Return a column without its extension type and without its dictionary."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _may_be_nan(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind.value_type if pa.types.is_dictionary(kind) else kind))


def _values(column: pa.Array) -> list[Any]:
    """Return each value as a Python object, or as text where Python has no such date, time or duration."""
    if "time64[ns]" not in str(column.type):
        try:
            return column.to_pylist()  # type: ignore[no-any-return]
        except (OverflowError, ValueError):
            pass
    return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    types, kind = pa.types, scalar.type
    if not scalar.is_valid:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        try:
            return scalar.as_py()
        except (OverflowError, ValueError):
            return _value(scalar.value)
    if types.is_dictionary(kind):
        return _value(scalar.value)
    if types.is_struct(kind):
        return {name: _value(value) for name, value in scalar.items()}
    if types.is_map(kind):
        return [(_value(pair["key"]), _value(pair["value"])) for pair in scalar.values]
    if types.is_nested(kind):
        return [_value(value) for value in scalar.values]
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return bytes(scalar.as_buffer())
    try:
        value = scalar.as_py()
    except (OverflowError, ValueError):
        return _beyond_python(scalar)
    return str(scalar.cast(pa.string())) if types.is_time64(kind) and scalar.value % 1000 else value


def _beyond_python(scalar: pa.Scalar) -> str:
    """Return the ISO form of a date or a time in UTC outside the years 1 to 9999, or the number of a duration."""
    types, kind = pa.types, scalar.type
    if types.is_timestamp(kind):
        return f"{np.datetime64(scalar.value, kind.unit)}{'Z' if kind.tz else ''}"
    return str(
        np.datetime64(scalar.value, "D" if types.is_date32(kind) else "ms") if types.is_date(kind) else scalar.value
    )
