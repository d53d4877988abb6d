"""A line of JSON: its object, the values in it, and which kinds of value its columns have."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec
import pyarrow as pa

from pipeline.corpus.rows import Reject
from pipeline.corpus.texts import not_utf8

Kinds = dict[str, set[str]]  # by kept column
Record = dict[str, Any] | Reject
Records = Sequence[Record | None]  # None: blank
BATCH_ROWS = 1024  # whose objects are in memory at once: of those of a chunk only what is asked for

# What the rows of a column can be, and the types that hold all of them, the best first; anything else is text.
TYPES: Mapping[frozenset[str], tuple[pa.DataType, ...]] = {
    frozenset(): (pa.null(),),
    frozenset({"boolean"}): (pa.bool_(),),
    frozenset({"integer"}): (pa.int64(), pa.float64()),
    frozenset({"long"}): (pa.int64(),),
    frozenset({"integer", "long"}): (pa.int64(),),
    frozenset({"real"}): (pa.float64(),),
    frozenset({"integer", "real"}): (pa.float64(),),
    frozenset({"string"}): (pa.string(),),
}
PLAIN = {type(None): "null", str: "string", bool: "boolean"}
MAX_EXACT = 2**53  # up to here every integer is a double
MIN_LONG, MAX_LONG = -(2**63), 2**63 - 1
UTF8_BOM = b"\xef\xbb\xbf"

_decode = msgspec.json.Decoder().decode


def parse(line: bytes) -> Record:
    """Return the object on a line, or why there is none."""
    try:
        try:
            record = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # takes NaN and lone surrogates, which other writers emit
            record = json.loads(line.decode(), parse_float=_real)
    except UnicodeDecodeError as error:
        return not_utf8(error)
    except (ValueError, RecursionError) as error:
        return Reject(reason="malformed_json", detail=str(error), text=line.decode())
    if not isinstance(record, dict):
        detail = f"expected an object, found {type(record).__name__}"
        return Reject(reason="malformed_json", detail=detail, text=line.decode())
    return record


def is_blank(line: bytes) -> bool:
    """Whether a line is no row."""
    return not line or line.isspace()


def parsed(lines: Sequence[bytes]) -> Iterator[Records]:
    """Yield what `parse` makes of each line, BATCH_ROWS of them at once, None of a blank one."""
    for at in range(0, len(lines), BATCH_ROWS):
        some = lines[at : at + BATCH_ROWS]
        try:
            records: Records = list(map(_decode, some))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            records = []
        if len(records) < len(some) or set(map(type, records)) != {dict}:
            records = [None if is_blank(line) else parse(line) for line in some]
        yield records


def values_at(records: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """Return the value of a column in each record, as `value_at` does."""
    if "." not in name:
        return _gotten(records, name, None)
    return [value_at(record, name) for record in records]


def value_at(record: Mapping[str, Any], name: str) -> Any:
    """Return the value of a column, or of a dotted path into objects; None where there is none."""
    if name in record:
        return record[name]
    value: Any = record
    for key in name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def has_value_at(record: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a column, if only with a null in it."""
    if name in record:
        return True
    first, dot, rest = name.partition(".")
    inner = record.get(first)
    return bool(dot) and (has_value_at(inner, rest) if isinstance(inner, dict) else first in record and inner is None)


def kinds_of(values: Sequence[Any]) -> set[str]:
    """Return which kinds of value there are: those of TYPES, "null", and "other" for what is kept as its JSON text."""
    types = set(map(type, values))
    kinds = {PLAIN.get(kind, "other") for kind in types - {msgspec.UnsetType, int, float}}
    if int in types:
        whole = [value for value in values if type(value) is int]
        low, high = min(whole), max(whole)
        if low < MIN_LONG or high > MAX_LONG:
            kinds.add("other")
        kinds.add("integer" if low >= -MAX_EXACT and high <= MAX_EXACT else "long")
    if float in types:
        reals = (value for value in values if type(value) is float)
        kinds.add("real" if all(map(math.isfinite, reals)) else "other")
    return kinds


def types_of(kinds: Collection[str]) -> tuple[pa.DataType, ...]:
    """Return the types that hold all values of these kinds, the best first; none where only text does."""
    return TYPES.get(frozenset(kinds) - {"null"}, ())


def add_kinds(kinds: Kinds, lines: Iterable[bytes], max_line_bytes: int) -> None:
    """Add the kinds of values that lines have in columns that are not sure to be text yet; passes longer lines over."""
    names = [name for name, found in kinds.items() if types_of(found)]
    if not names:
        return
    keys = tuple(dict.fromkeys(key for name in names for key in (name, name.partition(".")[0])))
    decode = _decoder(keys)
    rows = [decode(line) for line in lines if line and len(line) <= max_line_bytes]
    for name in names:
        if name.partition(".")[0] == name:
            at = keys.index(name)
            values = [row[at] for row in rows]
        else:
            values = [_value_in(_set(keys, row), name) for row in rows]
        kinds[name] |= kinds_of(values)


def add_kinds_of(kinds: Kinds, records: Sequence[dict[str, Any]]) -> None:
    """Add the kinds of values that records have in columns that are not sure to be text yet."""
    for name, found in kinds.items():
        if types_of(found):
            if "." in name:
                values = [_value_in(record, name) for record in records]
            else:
                values = _gotten(records, name, msgspec.UNSET)
            found |= kinds_of(values)


def watched(blocks: Iterator[bytes], kinds: Kinds, limit: int | None, max_line_bytes: int) -> Iterator[bytes]:
    """Pass blocks of lines on and add to `kinds` what their first `limit` lines have."""
    rest, left = b"", limit
    for block in blocks:
        *lines, tail = block.split(b"\n")
        if lines:
            lines[0], rest = rest + lines[0], b""
        add_kinds(kinds, lines[:left], max_line_bytes)
        left = None if left is None else max(0, left - len(lines))
        rest = (rest + tail)[: max_line_bytes + 1]
        yield block
    if left != 0:
        add_kinds(kinds, [rest], max_line_bytes)


@lru_cache(maxsize=16)
def _decoder(keys: tuple[str, ...]) -> Callable[[bytes], tuple[Any, ...]]:
    """Return what decodes of a line only the values of these keys, UNSET for each that it does not have."""
    fields = [f"f{number}" for number in range(len(keys))]
    record = msgspec.defstruct(
        "Record",
        [(field, Any, msgspec.field(default=msgspec.UNSET)) for field in fields],
        rename=dict(zip(fields, keys, strict=True)),
    )
    decode, astuple = msgspec.json.Decoder(record).decode, msgspec.structs.astuple

    def values(line: bytes) -> tuple[Any, ...]:
        try:
            return astuple(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            whole = parse(line.removeprefix(UTF8_BOM))
            return tuple(msgspec.UNSET if isinstance(whole, Reject) else whole.get(key, msgspec.UNSET) for key in keys)

    return values


def _set(keys: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {key: value for key, value in zip(keys, values, strict=True) if value is not msgspec.UNSET}


def _gotten(records: Sequence[Mapping[str, Any]], name: str, default: Any) -> list[Any]:
    """Return the value of a key in each record, mostly without a step of Python for each."""
    try:
        return list(map(itemgetter(name), records))
    except KeyError:
        return [record.get(name, default) for record in records]


def _value_in(record: Mapping[str, Any], name: str) -> Any:
    """Return the value of a column, UNSET where a record has none."""
    return value_at(record, name) if has_value_at(record, name) else msgspec.UNSET


def _real(text: str) -> float | Decimal:
    value = float(text)
    try:
        return value if math.isfinite(value) else Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"expected a number, found one with an exponent that no number has: {text[:20]}") from error
