"""Which rows of a part meet a condition."""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.tools.search.where import Comparison, Condition, Joined, Not, Value

COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def mask(condition: Condition, table: pa.Table) -> NDArray[np.bool_]:
    """Return for each row of a table, which has the columns, whether it meets a condition, shape (n,).

    Raises UsageError for a value that does not fit the type of its column.
    """
    found: NDArray[np.bool_] = pc.fill_null(_evaluated(condition, table), False).to_numpy()
    return found


def _evaluated(condition: Condition, table: pa.Table) -> Any:
    """Return true, false or null for each row, as SQL's logic of three values has it."""
    if isinstance(condition, Not):
        return pc.invert(_evaluated(condition.one, table))
    if isinstance(condition, Joined):
        join = pc.or_kleene if condition.is_or else pc.and_kleene
        return functools.reduce(join, (_evaluated(one, table) for one in condition.of))
    return _tested(condition, _plain(table.column(condition.column)))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in a type that Arrow compares."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(column.cast(kind.storage_type))
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_uint64(kind):
        return column.cast(pa.decimal128(20))  # Arrow compares it with no signed number
    return column.cast(pa.float32()) if pa.types.is_float16(kind) else column


def _tested(test: Comparison, column: pa.ChunkedArray) -> Any:
    if test.sign == "null":
        return pc.is_null(column)
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), pa.bool_())])
    try:
        values = [_fitting(value, column.type) for value in test.values]
        if test.sign in COMPARED:
            return COMPARED[test.sign](column, values[0])
        if test.sign == "in":
            return functools.reduce(pc.or_kleene, (pc.equal(column, value) for value in values))
        return pc.match_like(column, values[0].as_py(), ignore_case=test.sign == "ilike")
    except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
        kind, shown = column.type, ", ".join(map(repr, test.values))
        raise UsageError(
            f"--where: expected what compares with {test.column}, which is {kind}, found {shown}{_hint(kind)}"
        ) from error


def _fitting(value: Value, kind: pa.DataType) -> pa.Scalar:
    """Return a value that compares with a column of a type; raises TypeError or ArrowException where there is none."""
    if isinstance(value, bool) != pa.types.is_boolean(kind):
        raise TypeError("true and false compare with booleans, and nothing else does")
    if isinstance(value, bool):
        return pa.scalar(value)
    if isinstance(value, str):
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.scalar(value, kind)
        if not pa.types.is_temporal(kind):
            raise TypeError("text compares with text and times")
        return _time(value, kind)
    if pa.types.is_decimal(kind):
        return pa.scalar(Decimal(str(value)))
    if not pa.types.is_integer(kind) and not pa.types.is_floating(kind):
        raise TypeError("numbers compare with numbers")
    return pa.scalar(value, kind if pa.types.is_floating(kind) else None)


def _time(text: str, kind: pa.DataType) -> pa.Scalar:
    """Return a time; one without a zone is UTC where the column has one."""
    try:
        return pa.scalar(text).cast(kind)
    except pa.ArrowException:
        if getattr(kind, "tz", None) is None:
            raise
        return pa.scalar(text).cast(pa.timestamp(kind.unit)).cast(kind)


def _hint(kind: pa.DataType) -> str:
    if pa.types.is_temporal(kind):
        return "; write a time as '2026-01-31' or '2026-01-31 12:00:00'"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "; write text in single quotes"
    comparable = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return "" if comparable or pa.types.is_decimal(kind) else "; only `is null` is asked of such a column"
