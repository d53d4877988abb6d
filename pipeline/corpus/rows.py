"""Rows of a chunk: what the readers hand to the worker, the rejected ones apart and with a reason."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa

from pipeline.errors import ConfigError
from pipeline.schema import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns of a shard are read; a dotted name is a path into structs unless a column has that very name."""

    text: tuple[str, ...]
    template: str | None  # how the text columns become one text; None when there is just one
    id: str | None
    keep: tuple[str, ...] = ()
    keep_as_text: frozenset[str] = frozenset()  # kept columns whose type differs between shards


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

    @property
    def n_rows(self) -> int:
        """Number of rows read, embeddable or not."""
        return len(self.row) + len(self.rejects)


def text_columns(text: str) -> tuple[tuple[str, ...], str | None]:
    """Return the columns that `corpus.text` names, and itself when it is a template such as "{title}\\n{body}".

    Raises ConfigError for a brace that is not closed.
    """
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(text) if name]
    except ValueError as error:
        raise ConfigError(f"corpus.text {text!r}: {error}; write a brace that is text twice") from error
    return (tuple(dict.fromkeys(names)), text) if names else ((text,), None)


def render(values: Sequence[Any], columns: Columns) -> str | Reject:
    """Return the text of one row from the values of its text columns, or why there is none.

    In a template a null value reads as nothing. A row has no text where all values are null, or null, empty and white
    space, whatever the template puts around them.
    """
    if all(value is None for value in values):
        return Reject(reason="null_text", detail=f"{'/'.join(columns.text)} is null")
    for name, value in zip(columns.text, values, strict=True):
        if value is not None and not isinstance(value, str):
            return Reject(
                reason="not_a_string",
                detail=f"{name}: expected a string, found {type(value).__name__}",
                text=as_text(value),
            )
    text: str = values[0] if columns.template is None else _fill(columns, values)
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

    A lone surrogate, which UTF-8 has no place for, becomes U+FFFD.
    """
    try:
        plain = msgspec.to_builtins(value, enc_hook=str)
        text = plain if plain is None or isinstance(plain, str) else msgspec.json.encode(plain).decode()
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(value, separators=(",", ":"), default=str)
    if text is None or text.isascii():
        return text
    return text.encode(errors="surrogatepass").decode(errors="replace")


def _fill(columns: Columns, values: Sequence[Any]) -> str:
    by_name = dict(zip(columns.text, values, strict=True))
    pieces = string.Formatter().parse(columns.template or "")
    return "".join(literal + ((by_name[name] or "") if name else "") for literal, name, _, _ in pieces)
