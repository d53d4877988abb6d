"""Declared types: kept columns as the types that `corpus.types` asks for; a value that is none of them is a reject."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.rows import Columns, Reject, Rows
from pipeline.corpus.tabular.arrow import is_text, to_kept, to_texts
from pipeline.corpus.tabular.types import TEXTS, plain_type

WHOLE_REAL = r"^([+-]?[0-9]+)\.0*$"  # 1000.0, as pandas writes the integers of a column that lacks one


def can_be(kind: pa.DataType, declared: pa.DataType) -> bool:
    """Whether there is a conversion from a type of a file to a declared one."""
    if is_text(kind) or declared in TEXTS:
        return True
    try:
        pa.array([], plain_type(kind)).cast(declared)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def as_declared(kept: Mapping[str, pa.Array], rows: Rows, n_before: int, columns: Columns) -> dict[str, pa.Array]:
    """Return kept columns, by their names in the input, as the types that are declared for them.

    They belong to the rows from `n_before` on; one with a value that does not convert becomes a reject.
    """
    found, wrong = dict(kept), dict[int, str]()
    for name, values in kept.items():
        kind = columns.declared.get(name)
        if kind is None:
            continue
        if kind not in TEXTS and is_text(values.type):
            texts = pc.utf8_trim_whitespace(pa.array(to_texts(values), pa.large_string()))
            if pa.types.is_integer(kind):
                texts = pc.replace_substring_regex(texts, WHOLE_REAL, r"\1")
            values = pc.if_else(pc.equal(texts, ""), None, texts)
        no_values = dict[int, str]()
        found[name] = pa.concat_arrays(_converted(values, kind, 0, no_values))
        wrong |= {at: f"{name}: expected {kind}, found {value!r}" for at, value in no_values.items()}
    if not wrong:
        return found
    for at in sorted(wrong, reverse=True):
        row, row_id, text = rows.row.pop(n_before + at), rows.id.pop(n_before + at), rows.text.pop(n_before + at)
        rows.rejects.append((row, row_id, Reject(reason="malformed_row", detail=wrong[at], text=text)))
    n_rows = len(next(iter(kept.values())))
    left = np.delete(np.arange(n_rows), list(wrong))
    return {name: values.take(pa.array(left)) for name, values in found.items()}


def _converted(values: pa.Array, kind: pa.DataType, start: int, wrong: dict[int, str]) -> list[pa.Array]:
    """Return values as a type, in pieces; one that does not convert is a null, and `wrong` gets it by its number."""
    try:
        return [to_kept(values, kind)]
    except pa.ArrowException:
        if len(values) == 1:
            wrong[start] = str(values[0])
            return [pa.nulls(1, kind)]
    half = len(values) // 2
    return [
        *_converted(values[:half], kind, start, wrong),
        *_converted(values[half:], kind, start + half, wrong),
    ]
