"""Arrow types: the plain type of a column, and the one type that holds the values of several as they are."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

UNITS = ("s", "ms", "us", "ns")
SIGNED = {7: pa.int8(), 15: pa.int16(), 31: pa.int32(), 63: pa.int64()}  # by the bits of a value without its sign
UNSIGNED = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}
FLOATS = {11: pa.float16(), 24: pa.float32(), 53: pa.float64()}  # by the bits of the integers that each holds
BITS = {kind: bits for kinds in (SIGNED, UNSIGNED, FLOATS) for bits, kind in kinds.items()}
TEXTS = (pa.string(), pa.large_string())
MAX_DIGITS = 76  # of a decimal


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type with the same values that has no views and no dictionaries, at any depth."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        storage = plain_type(kind.storage_type)
        return kind if storage.equals(kind.storage_type) else storage
    if types.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(plain_type(kind.value_type))
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)


def unified_type(kinds: Iterable[pa.DataType]) -> pa.DataType | None:
    """Return the type that holds every value of these plain types exactly; None where only text does."""
    found: pa.DataType | None = pa.null()
    for kind in sorted(kinds, key=str):
        found = None if found is None else _both(found, kind)
    return found


def _both(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if a.equals(b) or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    rules = (_strings, _numbers, _decimals, _times, _lists, _fields)
    return next((found for rule in rules if (found := rule(a, b)) is not None), None)


def _strings(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if a in TEXTS and b in TEXTS:
        return pa.large_string()
    if all(_is_binary(kind) for kind in (a, b)):
        return pa.large_binary() if pa.large_binary() in (a, b) else pa.binary()
    return None


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_binary(kind) or kind in (pa.binary(), pa.large_binary())


def _numbers(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if a not in BITS or b not in BITS:
        return None
    if any(pa.types.is_floating(kind) for kind in (a, b)):
        held = FLOATS
    else:
        held = SIGNED if any(pa.types.is_signed_integer(kind) for kind in (a, b)) else UNSIGNED
    return next((kind for bits, kind in held.items() if bits >= max(BITS[a], BITS[b])), None)


def _decimals(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if not any(pa.types.is_decimal(kind) for kind in (a, b)):
        return None
    digits = [found for kind in (a, b) if (found := _digits(kind))]
    if len(digits) < 2:
        return None
    scale = max(after for _, after in digits)
    precision = max(before for before, _ in digits) + scale
    if precision > MAX_DIGITS:
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _digits(kind: pa.DataType) -> tuple[int, int] | None:
    """Return the digits before and after the point; None for a type that is neither decimal nor integer."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return (len(str(2 ** BITS[kind])), 0) if pa.types.is_integer(kind) else None


def _times(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    tests = (pa.types.is_time, pa.types.is_duration, pa.types.is_timestamp)
    is_kind = next((test for test in tests if test(a) and test(b)), None)
    if is_kind is None:
        return None
    unit = max(a.unit, b.unit, key=UNITS.index)
    if is_kind is pa.types.is_time:  # every unit holds a whole day
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if unit == "ns":  # spans 584 years, the others hundreds of thousands
        return None
    if is_kind is pa.types.is_duration:
        return pa.duration(unit)
    return pa.timestamp(unit, a.tz) if a.tz == b.tz else None


def _lists(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if not all(_is_list(kind) for kind in (a, b)):
        return None
    value = _both(a.value_type, b.value_type)
    if value is None:
        return None
    if all(pa.types.is_fixed_size_list(kind) for kind in (a, b)) and a.list_size == b.list_size:
        return pa.list_(value, a.list_size)
    return pa.large_list(value) if any(pa.types.is_large_list(kind) for kind in (a, b)) else pa.list_(value)


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _fields(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Return the type of two maps, or of two structs whose fields have the same names in the same order."""
    if pa.types.is_map(a) and pa.types.is_map(b):
        key, item = _both(a.key_type, b.key_type), _both(a.item_type, b.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if not (pa.types.is_struct(a) and pa.types.is_struct(b)):
        return None
    if [field.name for field in a] != [field.name for field in b]:
        return None
    kinds = [_both(left.type, right.type) for left, right in zip(a, b, strict=True)]
    return None if None in kinds else pa.struct([(field.name, kind) for field, kind in zip(a, kinds, strict=True)])
