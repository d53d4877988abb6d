"""Tables of a TOML file: read, single values put in, and made a record; what is wrong with one is said in words."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from pipeline.errors import ConfigError

MOST_WHOLE = 2.0**53  # above that not every whole number is a float

T = TypeVar("T")
Tables = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the values of a config come from."""

    file: str
    flags: Mapping[str, str] = field(default_factory=dict)  # "table.key" -> the flag that gave it, such as "--set"

    def of(self, key: str) -> str:
        """Return what a message about a value begins with: its file or its flag, and its key."""
        flag = self.flags.get(key)
        return f"{self.file}: {key}" if flag is None else f"--set {key}" if flag == "--set" else flag

    def source(self, key: str) -> str:
        """Return the file or the flag that a key, or a table of that name, comes from."""
        return next((flag for each, flag in self.flags.items() if f"{each}.".startswith(f"{key}.")), self.file)


def read_tables(path: Path, what: str) -> dict[str, Any]:
    """Return the tables of a TOML file; raises ConfigError for one that cannot be read, which begins with `what`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{what}: expected a readable TOML file, found {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also numbers of 5,000 digits and lists 1,000 deep
        raise ConfigError(f"{what}: expected TOML, found: {error}") from error


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


def converted(tables: Mapping[str, Any], record: type[T], places: Places) -> T:
    """Return tables as a record whose fields are records; raises ConfigError naming a key and where it comes from.

    A whole number may be written as any number, such as 1e6.
    """
    _refuse_unknown(tables, record, places)
    _refuse_missing(tables, record, places)
    tables = _with_whole_numbers(tables, record)
    try:
        found = msgspec.convert(tables, record)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(error, tables, record, places)) from error
    _refuse_unusual(tables, places)
    return found


def _refuse_unknown(tables: Mapping[str, Any], record: type, places: Places, prefix: str = "") -> None:
    """Raise ConfigError for the first key that is no field of a record, or of the record in that field."""
    known = {f.name: f for f in dataclasses.fields(record)}
    for key, value in tables.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            source = places.source(f"{prefix}{key}")
            raise ConfigError(f"{source}: unknown key {prefix}{key}; did you mean {prefix}{near[0]}?")
        if not prefix:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{places.file}: expected a table [{key}], found {value!r}")
            _refuse_unknown(value, get_type_hints(record)[key], places, f"{key}.")


def _refuse_missing(tables: Tables, record: type, places: Places) -> None:
    """Raise ConfigError naming all keys that there have to be and are not."""
    missing = [
        f"{table}.{each.name}"
        for table, of_table in get_type_hints(record).items()
        for each in dataclasses.fields(of_table)
        if each.default is each.default_factory is dataclasses.MISSING and each.name not in tables.get(table, {})
    ]
    if missing:
        raise ConfigError(
            f"{places.file}: expected {', '.join(missing)}, found none; write them in the file, or give each by --set"
        )


def _refuse_unusual(tables: Tables, places: Places) -> None:
    """Raise ConfigError for a number that is not finite, and for a name or a licence of several lines."""
    for table, values in tables.items():
        for key, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{places.of(f'{table}.{key}')} expected a finite number, found {value}")
    for table, key in (("model", "name"), ("model", "licence"), ("corpus", "licence")):
        if not (found := tables.get(table, {}).get(key, "")).isprintable():
            place = places.of(f"{table}.{key}")
            raise ConfigError(f"{place} expected printable characters in one line, found {found!r}")


def _with_whole_numbers(tables: Tables, record: type) -> dict[str, dict[str, Any]]:
    """Return tables with whole numbers as such where a record wants one, however they are written: 1e6."""
    found = {}
    for table, values in tables.items():
        hints = get_type_hints(get_type_hints(record)[table])
        found[table] = {key: _whole(value) if _is_whole(hints[key]) else value for key, value in values.items()}
    return found


def _explained(error: msgspec.ValidationError, tables: Tables, record: type, places: Places) -> str:
    """Turn "Expected `int`, got `str` - at `$.table.key`" into "--set table.key expected int, found 'x'"."""
    problem, _, path = str(error).replace("`", "").partition(" - at $.")
    table, _, inner = path.partition(".")
    key, _, index = inner.partition("[")
    name, value = f"{table}.{key}", tables[table][key]
    place = f"{places.of(name)}[{index}" if index else places.of(name)
    return f"{place} {_wanted(problem, get_type_hints(get_type_hints(record)[table])[key], value, name, places)}"


def _wanted(problem: str, hint: Any, value: object, name: str, places: Places) -> str:
    """Return what was expected and found, and how it is written where that is the trouble."""
    expected = problem.removeprefix("Expected ").partition(", got ")[0]
    if choices := [str(choice) or '""' for choice in _choices(hint)]:
        near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5) if isinstance(value, str) else []
        meant = f"; did you mean {near[0]}?" if near else ""
        return f"expected one of {', '.join(choices)}, found {_shown(value)}{meant}"
    if expected == "bool":
        return f"expected true or false, found {_shown(value)}"
    if expected == "array":
        items = [item.strip() for item in value.split(",")] if isinstance(value, str) else [value]
        return f"expected a list, found {_shown(value)}; write {_written(name, items, places)}"
    if expected == "str" and isinstance(value, bool | int | float):
        return f"expected a text, found {_shown(value)}; write {_written(name, str(value).lower(), places)}"
    return f"expected {expected}, found {_shown(value)}"


def _written(name: str, value: object, places: Places) -> str:
    """Return how a value is written where it was."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"{name}={shlex.quote(text)}" if name in places.flags else f"{name.partition('.')[2]} = {text}"


def _choices(hint: Any) -> Iterator[object]:
    """Yield the values of a closed choice; none for any other type."""
    for each in get_args(hint):
        yield from [each] if get_origin(hint) is Literal else _choices(each)


def _is_whole(hint: Any) -> bool:
    return hint is int or (get_origin(hint) is tuple and get_args(hint)[0] is int)


def _whole(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= MOST_WHOLE else value


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no integer of over 4,300 digits
        return "a number of thousands of digits"
