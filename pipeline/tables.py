"""Tables of a TOML file: single values put in, unknown keys refused, and what is wrong with one in words."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

from pipeline.errors import ConfigError


def parse_override(override: str) -> tuple[str, str, Any]:
    """Return table, key and value of `table.key=value`, whose value is TOML or bare text; raises ConfigError."""
    key, equals, text = override.partition("=")
    table, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        raise ConfigError(f"--set {override}: expected table.key=value, such as model.dtype=float32")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        value = text
    except RecursionError as error:
        raise ConfigError(f"--set {key}: expected TOML or bare text, found: {error}") from error
    return table, name, value


def set_value(tables: dict[str, Any], table: str, name: str, value: Any, *, where: str) -> None:
    """Set a key of a table, which is made where there is none; raises ConfigError where a value has its name."""
    inner = tables.setdefault(table, {})
    if not isinstance(inner, dict):
        raise ConfigError(f"{where}: expected a table [{table}], found {inner!r}")
    inner[name] = value


def refuse_unknown(tables: Mapping[str, Any], record: type, where: str, prefix: str = "") -> None:
    """Raise ConfigError for the first key that is no field of a record, or of the record in that field."""
    fields = {f.name: f for f in dataclasses.fields(record)}
    for key, value in tables.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.0)
            raise ConfigError(f"{where}: unknown key {prefix}{key}; did you mean {prefix}{near[0]}?")
        if not prefix:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: expected a table [{key}], found {value!r}")
            refuse_unknown(value, get_type_hints(record)[key], where, f"{key}.")


def refuse_unusual(tables: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Raise ConfigError for a number that is not finite, and for a name or a licence of several lines."""
    for table, values in tables.items():
        for key, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{where}: {table}.{key} expected a finite number, found {value}")
    for table, key in (("model", "name"), ("model", "licence"), ("corpus", "licence")):
        if not (found := tables.get(table, {}).get(key, "")).isprintable():
            raise ConfigError(f"{where}: {table}.{key} expected printable characters in one line, found {found!r}")


def explained(error: msgspec.ValidationError, tables: Mapping[str, Any]) -> str:
    """Turn "Expected `int`, got `str` - at `$.table.key`" into "table.key expected int, found 'x'"."""
    problem, _, path = str(error).replace("`", "").partition(" - at $.")
    table, _, key = path.partition(".")
    if problem.startswith("Object missing required field"):
        return f"expected {f'{path}.' if path else ''}{problem.split()[-1]}, found none"
    if not problem.startswith("Expected"):
        return f"{path}: {problem}"
    expected = problem.removeprefix("Expected ").partition(", got ")[0]
    return f"{path} expected {expected}, found {_shown(tables[table][key.partition('[')[0]])}"


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no integer of over 4,300 digits
        return "a number of thousands of digits"
