"""A line of JSON: its object, the values in it, and which kinds of value its columns have."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa

from pipeline.corpus.rows import Reject

Kinds = dict[str, set[str]]  # by kept column

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
MAX_EXACT = 2**53  # up to here every integer is a double
MIN_LONG, MAX_LONG = -(2**63), 2**63 - 1
UTF8_BOM = b"\xef\xbb\xbf"

_decode = msgspec.json.Decoder().decode


def parse(line: bytes) -> dict[str, Any] | Reject:
    """Return the object on a line, or why there is none."""
    try:
        try:
            record = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # takes NaN and lone surrogates, which other writers emit
            record = json.loads(line.decode(), parse_float=_real)
    except UnicodeDecodeError as error:
        return Reject(reason="invalid_utf8", detail=str(error), text=line.decode(errors="replace"))
    except (ValueError, RecursionError) as error:
        return Reject(reason="malformed_json", detail=str(error), text=line.decode())
    if not isinstance(record, dict):
        detail = f"expected an object, found {type(record).__name__}"
        return Reject(reason="malformed_json", detail=detail, text=line.decode())
    return record


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


def kind_of(value: Any) -> str:
    """Return which kind of value this is: a key of TYPES, "null", or "other" for what is kept as its JSON text."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if abs(value) <= MAX_EXACT else "long" if MIN_LONG <= value <= MAX_LONG else "other"
    return "real" if isinstance(value, float) and math.isfinite(value) else "other"


def types_of(kinds: Collection[str]) -> tuple[pa.DataType, ...]:
    """Return the types that hold all values of these kinds, the best first; none where only text does."""
    return TYPES.get(frozenset(kinds) - {"null"}, ())


def add_kinds(kinds: Kinds, line: bytes) -> None:
    """Add the kinds of values that a line has, until a column is sure to be text for two reasons."""
    names = [name for name, found in kinds.items() if types_of(found)]
    if not names or not line or line.isspace():
        return
    record = _some_values(tuple(names))(line)
    for name in names:
        if has_value_at(record, name):
            kinds[name].add(kind_of(value_at(record, name)))


def watched(blocks: Iterator[bytes], kinds: Kinds, limit: int | None, max_line_bytes: int) -> Iterator[bytes]:
    """Pass blocks of lines on and add to `kinds` what their first `limit` lines have; longer lines are passed over."""
    rest, left = b"", limit
    for block in blocks:
        *lines, tail = block.split(b"\n")
        if lines:
            lines[0], rest = rest + lines[0], b""
        for line in lines[:left]:
            if len(line) <= max_line_bytes:
                add_kinds(kinds, line)
        left = None if left is None else max(0, left - len(lines))
        rest = (rest + tail)[: max_line_bytes + 1]
        yield block
    if left != 0 and len(rest) <= max_line_bytes:
        add_kinds(kinds, rest)


@lru_cache(maxsize=16)
def _some_values(names: tuple[str, ...]) -> Callable[[bytes], dict[str, Any]]:
    """Return what decodes of a line only what these columns need; nothing of a line that has no object."""
    keys = list(dict.fromkeys(key for name in names for key in (name, name.partition(".")[0])))
    fields = [f"f{number}" for number in range(len(keys))]
    record = msgspec.defstruct(
        "Record",
        [(field, Any, msgspec.field(default=msgspec.UNSET)) for field in fields],
        rename=dict(zip(fields, keys, strict=True)),
    )
    decode = msgspec.json.Decoder(record).decode

    def values(line: bytes) -> dict[str, Any]:
        try:
            found = msgspec.structs.astuple(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            whole = parse(line.removeprefix(UTF8_BOM))
            return {} if isinstance(whole, Reject) else whole
        return {key: value for key, value in zip(keys, found, strict=True) if value is not msgspec.UNSET}

    return values


def _real(text: str) -> float | Decimal:
    value = float(text)
    return value if math.isfinite(value) else Decimal(text)
