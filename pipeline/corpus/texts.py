"""Texts: what the values of a row read as, through a template or by themselves."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import math
import string
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.corpus.rows import Columns, Reject
from pipeline.errors import ConfigError

# What reads as text in a template.
PLAIN = (bool, int, float, Decimal, datetime.date, datetime.time, datetime.timedelta)


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


def render(values: Sequence[Any], columns: Columns) -> str | Reject:
    """Return the text of one row from the values of its text columns, or why there is none.

    In a template a null value reads as nothing, and a number, a date or a boolean as `as_id` has it. A row has no text
    where all values are null, or null, empty and white space, whatever the template puts around them. A value may be a
    Reject itself.
    """
    return render_all([[value] for value in values], columns)[0]


def render_all(values: Sequence[Sequence[Any]], columns: Columns) -> list[str | Reject]:
    """Return what `render` makes of each row, from the values of each text column."""
    if columns.template is None:
        if _are_plain(values[0]) and all(map(str.strip, values[0])):
            return list(values[0])
        return [
            # What most texts are, without a call for each.
            text if type(text) is str and text.isascii() and text and not text.isspace() else _render((text,), columns)
            for text in values[0]
        ]
    return [_render(each, columns) for each in zip(*values, strict=True)]


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


def not_utf8(error: UnicodeDecodeError) -> Reject:
    """Return the reject of bytes that could not be decoded."""
    detail = f"expected UTF-8, found {odd_byte(error)}"
    return Reject(reason="invalid_utf8", detail=detail, text=error.object.decode(errors="replace"))


def odd_byte(error: UnicodeDecodeError) -> str:
    """Return in words the first byte that is not UTF-8, and what to do with a file that is in another encoding."""
    byte = error.object[error.start]
    return f"0x{byte:02x} at byte {error.start}; `iconv -f WINDOWS-1252 -t UTF-8` converts a text file from Windows"


def as_text(value: Any) -> str | None:
    """Return a string as it is, nothing as nothing, a date in its ISO form and any other value as its JSON text.

    Bytes read as UTF-8, or else as their hex. A string with a lone surrogate, which UTF-8 has no place for, has that as
    `\\udXXX` and its backslashes twice. Numbers that JSON does not have are NaN, Infinity and -Infinity.
    """
    if type(value) is str:
        return value if value.isascii() else _unicode(value)
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


def as_texts(values: Sequence[Any]) -> list[str | None]:
    """Return what `as_text` makes of each value."""
    if _are_plain(values):
        return list(values)
    return [value if type(value) is str and value.isascii() else as_text(value) for value in values]


def as_ids(values: Sequence[Any]) -> list[str | None]:
    """Return what `as_id` makes of each value."""
    if _are_plain(values):
        return list(values)
    return [value if type(value) is str and value.isascii() else as_id(value) for value in values]


def _are_plain(values: Sequence[Any]) -> bool:
    """Whether all values are strings of ASCII, as they mostly are; without a step of Python for each."""
    return set(map(type, values)) == {str} and all(map(str.isascii, values))


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
