"""Arrow columns of a shard, as texts, as ids and as they are kept."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.rows import Reject, as_text


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
    """Whether values of a type can be texts: strings or bytes, plain or dictionary-encoded, or nothing but nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")
    return any(getattr(pa.types, f"is_{test}")(kind) for test in tests)


def column_of(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return a column, or the values at a dotted path into structs."""
    if name in batch.schema.names:
        return batch.column(name)
    first, *steps = name.split(".")
    return pc.struct_field(batch.column(first), steps)


def to_strings(column: pa.Array) -> list[str | Reject | None]:
    """Return each value of a text column, a Reject for bytes that are no UTF-8; other types stay what they are."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not pa.types.is_null(column.type):
        try:
            return column.cast(pa.large_binary()).cast(pa.large_string()).to_pylist()  # type: ignore[no-any-return]
        except pa.ArrowInvalid:
            return [_decoded(value) for value in column.cast(pa.large_binary()).to_pylist()]
    return column.to_pylist()  # type: ignore[no-any-return]


def _decoded(value: bytes | None) -> str | Reject | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        return Reject(reason="invalid_utf8", detail=str(error), text=value.decode(errors="replace") if value else None)


def to_ids(column: pa.Array) -> list[str | None]:
    """Return each value as text; bytes that are no UTF-8 with U+FFFD in their place."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    if is_text(column.type):
        return [value.text if isinstance(value, Reject) else value for value in to_strings(column)]
    return [as_text(value) for value in column.to_pylist()]


def to_kept(column: pa.Array, *, is_text_wanted: bool) -> pa.Array:
    """Return a kept column in its own type, or as text."""
    if is_text_wanted:
        return pa.array(to_ids(column), pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        if pa.types.is_nested(column.type):
            raise
        return pa.array(to_ids(column), column.type)
    return column
