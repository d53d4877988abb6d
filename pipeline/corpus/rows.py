"""Rows of a chunk: what the readers hand to the worker, the rejected ones apart and with a reason."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import functools
import json
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from pipeline.errors import ConfigError, CorpusError
from pipeline.schema import Reason, kept_name

# What reads as text in a template.
PLAIN = (bool, int, float, Decimal, datetime.date, datetime.time, datetime.timedelta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns of a shard are read; a dotted name is a path into structs unless a column has that very name."""

    text: tuple[str, ...]
    template: str | None  # how the text columns become one text; None when there is just one
    id: str | None
    keep: tuple[str, ...] = ()
    declared: Mapping[str, pa.DataType] = field(
        default_factory=dict, hash=False
    )  # kept column -> the type that was asked for
    schema: bytes = b""  # of the kept columns as parts have them, serialised; b"": each as its own shard has it

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The types of the kept columns as parts have them, by the names they have there."""
        schema = pa.ipc.read_schema(pa.py_buffer(self.schema)) if self.schema else pa.schema([])
        declared = {kept_name(name): kind for name, kind in self.declared.items()}
        return declared | dict(zip(schema.names, schema.types, strict=True))

    def typed(self, types: Mapping[str, pa.DataType]) -> Columns:
        """Return these columns with the types that parts have them in."""
        fields = [(name, types[name]) for name in map(kept_name, self.keep)]
        return replace(self, schema=pa.schema(fields).serialize().to_pybytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Why a value cannot be embedded; the reader adds its row."""

    reason: Reason
    detail: str
    text: str | None = None


@dataclass(slots=True, kw_only=True)
class Rows:
    """Columns over the rows of a chunk that can be embedded, and the rejected rest."""

    row: list[int] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    kept: pa.Table  # the kept columns, one row for each entry above
    rejects: list[tuple[int, str, Reject]] = field(default_factory=list)  # row, id, why
    kinds: dict[str, set[str]] = field(default_factory=dict)  # of JSON in each kept column; Parquet has none

    @property
    def n_rows(self) -> int:
        """Number of rows read, embeddable or not."""
        return len(self.row) + len(self.rejects)


@dataclass(slots=True, kw_only=True)
class ChunkRows:
    """The rows of all spans of a chunk, one after the other, like those of one."""

    sources: tuple[str, ...]  # of its shards, in their order, each once
    source: list[str] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    kept: pa.Table = field(default_factory=lambda: pa.table({}))
    rejects: list[tuple[str, int, str, Reject]] = field(default_factory=list)  # source, row, id, why
    kinds: dict[str, set[str]] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Number of rows read, embeddable or not."""
        return len(self.row) + len(self.rejects)

    def add(self, source: str, rows: Rows) -> None:
        """Add the rows of the next span."""
        self.source += [source] * len(rows.row)
        self.row += rows.row
        self.id += rows.id
        self.text += rows.text
        self.rejects += [(source, *reject) for reject in rows.rejects]
        if rows.kept.num_columns:
            self.kept = pa.concat_tables([self.kept, rows.kept]) if self.kept.num_columns else rows.kept
        for name, found in rows.kinds.items():
            self.kinds.setdefault(name, set()).update(found)

    def in_order(self) -> list[tuple[str, int, str, Reject]]:
        """Return the rejected rows in the order of the corpus."""
        order = {source: at for at, source in enumerate(self.sources)}
        return sorted(self.rejects, key=lambda reject: (order[reject[0]], reject[1]))


def text_columns(text: str) -> tuple[tuple[str, ...], str | None]:
    """Return the columns that `corpus.text` names, and itself when it is a template such as "{title}\\n{body}".

    Raises ConfigError for a brace that is not closed, and for braces with anything but the name of a column in them.
    """
    try:
        fields = [field for field in string.Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        raise ConfigError(f"corpus.text {text!r}: {error}; write a brace that is text twice") from error
    names = [name for _, name, _, _ in fields if name]
    for _, name, form, conversion in fields:
        if form or conversion or (names and not name):
            found = f"{{{name}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}}}"
            raise ConfigError(f"corpus.text {text!r}: expected names of columns alone in braces, found {found}")
    return (tuple(dict.fromkeys(names)), text) if names else ((text,), None)


def no_column(where: Path | str, name: str, names: Sequence[str]) -> CorpusError:
    """Return the error for a column that is not among these names, with the nearest of them."""
    alike = [each for each in names if each.casefold() == name.casefold()]
    near = (alike or difflib.get_close_matches(name, names, n=1, cutoff=0.5))[:1]
    meant = "".join(f"; did you mean {each!r}?" for each in near)
    error = CorpusError(f"{where}: expected column {name!r}, found {', '.join(names) or 'none'}{meant}")
    error.column = name
    return error


def render(values: Sequence[Any], columns: Columns) -> str | Reject:
    """Return the text of one row from the values of its text columns, or why there is none.

    In a template a null value reads as nothing, and a number, a date or a boolean as `as_id` has it. A row has no text
    where all values are null, or null, empty and white space, whatever the template puts around them. A value may be a
    Reject itself.
    """
    if columns.template is None and type(text := values[0]) is str and text.isascii() and text and not text.isspace():
        return text
    return _render(values, columns)


def _render(values: Sequence[Any], columns: Columns) -> str | Reject:
    if reject := next((value for value in values if isinstance(value, Reject)), None):
        return reject
    if columns.template is not None:
        values = [as_id(value) if isinstance(value, PLAIN) else value for value in values]
    if all(value is None for value in values):
        return Reject(reason="null_text", detail=f"{'/'.join(columns.text)} is null")
    for name, value in zip(columns.text, values, strict=True):
        if value is not None and not isinstance(value, str):
            return Reject(
                reason="not_a_string",
                detail=f"{name}: expected a string, found {type(value).__name__}",
                text=as_text(value),
            )
    text: str = values[0] if columns.template is None else _fill(columns.template, columns.text, values)
    if all(not value or value.isspace() for value in values):
        return Reject(reason="empty_text", detail=f"{'/'.join(columns.text)}: nothing but white space", text=text)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return Reject(reason="invalid_utf8", detail=f"lone surrogate at character {error.start}")
    return text


def as_text(value: Any) -> str | None:
    """Return a string as it is, nothing as nothing, a date in its ISO form and any other value as its JSON text.

    Bytes read as UTF-8, or else as their hex. A string with a lone surrogate, which UTF-8 has no place for, has that as
    `\\udXXX` and its backslashes twice. Numbers that JSON does not have are NaN, Infinity and -Infinity.
    """
    if type(value) is str and value.isascii():
        return value
    if type(value) is int:
        return str(value)
    plain = msgspec.to_builtins(value, enc_hook=str, builtin_types=(bytes,))
    leaves = [plain] if isinstance(plain, str | bytes | float | None) else _leaves(plain)
    if any(isinstance(leaf, bytes) for leaf in leaves):
        plain = _readable(plain)
    if plain is None or isinstance(plain, str):
        return plain and _unicode(plain)
    if all(math.isfinite(leaf) for leaf in leaves if isinstance(leaf, float)):
        with contextlib.suppress(UnicodeEncodeError, OverflowError):
            return msgspec.json.encode(plain).decode()
    return json.dumps(plain, separators=(",", ":"))


def as_id(value: Any) -> str | None:
    """Return a value as text; what is no number is no id."""
    return None if isinstance(value, float) and math.isnan(value) else as_text(value)


def _leaves(value: Any) -> list[Any]:
    """Return what is in a value that is not itself a list or an object, at any depth."""
    leaves, inner = [], [value]
    while inner:
        each = inner.pop()
        if isinstance(each, dict | list | tuple):
            inner += each.values() if isinstance(each, dict) else each
        else:
            leaves.append(each)
    return leaves


def _readable(value: Any) -> Any:
    """Return a value with its bytes as UTF-8 or hex, at any depth."""
    if isinstance(value, dict):
        return {key: _readable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.replace("\\", "\\\\").encode(errors="backslashreplace").decode()
    return text


def _fill(template: str, names: Sequence[str], values: Sequence[str | None]) -> str:
    by_name = dict(zip(names, values, strict=True))
    return "".join(literal + ((by_name[name] or "") if name else "") for literal, name in _pieces(template))


@functools.lru_cache(maxsize=8)
def _pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    """Return the literal texts of a template, each with the column that comes after it."""
    return tuple((literal, name) for literal, name, _, _ in string.Formatter().parse(template))
