"""Shapes: what a text is that has no object on its lines."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline.corpus.sniff.kinds import Kind
from pipeline.corpus.textual.lines import Head
from pipeline.corpus.textual.record import UTF8_BOM

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
RECORD_SEPARATOR = b"\x1e"
NO_NUMBERS = re.compile(r"-?\b(NaN|Infinity)\b")  # that some writers take for JSON
NO_VALUE = object()
NAME = r"[A-Za-z_][A-Za-z0-9_]*"
SCALAR = r'"(?:[^"\\]|\\.)*"|[\w.+-]+'
# An object up to its first list of objects, with scalars and flat objects before it.
BEFORE_LIST = re.compile(
    rf'\{{(?:\s*"[^"\\]*"\s*:\s*(?:{SCALAR}|\{{[^{{}}]*\}})\s*,)*+\s*"({NAME})"\s*:\s*(?=\[\s*\{{)'.encode()
)
SAMPLED_BYTES = 1 << 16
SAMPLED_LINES = 100
YAML_LINE = re.compile(r"( *- |  |( *- )? *[A-Za-z_][\w .-]{0,40}:( |$)|#)")
BOMS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# Which of the first four bytes are zero where two characters of ASCII begin the text.
WITHOUT_BOM: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}

LINES = Kind(name="lines of JSON", ending=".jsonl")
POINTER = Kind(name="a pointer of Git LFS", advice="fetch what it points to with `git lfs pull`")
NOTHING = Kind(name="nothing but zero bytes", advice="what was written was lost: fetch it again")
HTML = Kind(name="HTML", advice="this may be the error page of a download: fetch it again")
XML = Kind(name="XML", advice="write its texts as lines of JSON")
SEQUENCE = Kind(name="a JSON text sequence (RFC 7464)", command="tr -d '\\036' < {file} > {new}.jsonl")
OLD_MAC = Kind(name="lines that end in CR alone", command="tr '\\r' '\\n' < {file} > {new}{same}")
ARRAY = Kind(name="a JSON array", ending=".json")
DOCUMENT = Kind(name="one JSON document over many lines", command="jq -c . {file} > {new}.jsonl")
COLUMNS = Kind(  # by the numbers of its rows, as pandas writes it
    name="one JSON object with an object for each column",
    command="python -c \"import pandas; pandas.read_json('{file}').to_parquet('{new}.parquet')\"",
)
RUN_ON = Kind(name="JSON objects without a line each", command="jq -c . {file} > {new}.jsonl")
COMMAS = Kind(name="JSON objects with commas between", command="sed 's/,[[:space:]]*$//' {file} > {new}.jsonl")
ARRAYS = Kind(name="lines of JSON arrays, not objects", command="jq -c '{{id: .[0], text: .[1]}}' {file} > {new}.jsonl")
STRINGS = Kind(name="lines of JSON strings, not objects", command="jq -c '{{text: .}}' {file} > {new}.jsonl")
VALUES = Kind(name="lines of JSON values, not objects", command="jq -c '{{text: tostring}}' {file} > {new}.jsonl")
CSV = Kind(name="CSV", ending=".csv")
TSV = Kind(name="TSV", ending=".tsv")
_READ_CSV = "duckdb -c \"copy (from read_csv('{file}')) to '{new}.parquet'\""
SEMICOLONS = Kind(name="CSV with semicolons", command=_READ_CSV)
PIPES = Kind(name="CSV with vertical bars", command=_READ_CSV)
DELIMITED = {"\t": TSV, ",": CSV, ";": SEMICOLONS, "|": PIPES}
YAML = Kind(name="YAML", command="yq -o json -I 0 {file} > {new}.jsonl")
PLAIN = Kind(name="plain text", command="jq -Rc '{{text: .}}' {file} > {new}.jsonl")
UNKNOWN = Kind(name="bytes that are no text", advice="write its texts as lines of JSON or as Parquet")


def document_of(head: Head) -> Kind | None:
    """Return what a file is whose lines are pieces of larger values, an object by chance; None for another."""
    if not head.lines or _value(head.lines[0]) is not NO_VALUE:
        return None
    kind = ARRAY if head.data.startswith(b"[") else _rows_inside(head.data) or DOCUMENT
    if not head.is_all and _is_begun(head):
        return kind
    spans_lines, rest = _first_value(head)
    if spans_lines:
        return kind if not rest.strip() and head.is_all else RUN_ON
    with_comma = [line.rstrip()[:-1] for line in head.lines if line.rstrip().endswith(b",")]
    return COMMAS if sum(isinstance(_value(line), dict) for line in with_comma) > len(head.lines) / 2 else None


def shape_of(head: Head) -> Kind | None:
    """Return what a text is in which no line is an object.

    None where lines begin as an object does: they are damaged, but they are what the name says.
    """
    if not head.data:
        return None
    if head.data.startswith(LFS_POINTER):
        return POINTER
    found = encoding_of(head.data) or _markup(head.data) or _json(head)
    is_tried = any(line.lstrip(b" \t\r" + UTF8_BOM).startswith(b"{") for line in (head.data, *head.lines))
    return found or (None if is_tried else _text(head))


def object_of(values: Mapping[str, Any]) -> Kind | None:
    """Return what the only object of a file is where all the rows are inside of it; None where it may be a row."""
    if values and all(isinstance(each, dict) and each and all(map(str.isdigit, each)) for each in values.values()):
        return COLUMNS
    with contextlib.suppress(RecursionError):
        return _rows_inside(json.dumps(values, default=str).encode())
    return None


def has_object(head: Head) -> bool:
    """Whether one of the first lines is an object."""
    return any(isinstance(_value(line), dict) for line in head.lines[:SAMPLED_LINES])


def encoding_of(data: bytes) -> Kind | None:
    """Return which encoding the first bytes of a text are in; None for UTF-8 and what is like it."""
    if not data.strip(b"\0"):
        return NOTHING
    name = next((name for bom, name in BOMS.items() if data.startswith(bom)), None)
    zeros = tuple(byte == 0 for byte in data[:4])
    name = name or WITHOUT_BOM.get(zeros)
    return Kind(name=name, command=f"iconv -f {name} -t UTF-8 {{file}} > {{new}}{{same}}") if name else None


def _rows_inside(data: bytes) -> Kind | None:
    """Return an object that is a list of objects for the most part, as far as it is there; None for another."""
    if not (found := BEFORE_LIST.match(data)):
        return None
    text, key = _text_of(data[found.end() :]), found[1].decode()
    with contextlib.suppress(ValueError, RecursionError):  # it goes on
        if json.JSONDecoder().raw_decode(text)[1] < (found.end() + len(text)) / 2:
            return None
    return Kind(name=f"one JSON object with its rows in {key!r}", command=f"jq -c '.{key}[]' {{file}} > {{new}}.jsonl")


def _markup(data: bytes) -> Kind | None:
    if data.startswith(RECORD_SEPARATOR):
        return SEQUENCE
    if re.match(rb"<[?!a-zA-Z]", data):
        return HTML if re.search(rb"<(!doctype )?(html|head|body)\b", data[:SAMPLED_BYTES], re.IGNORECASE) else XML
    is_of_cr = b"\r" in data.strip() and b"\n" not in data.strip()
    return OLD_MAC if is_of_cr and isinstance(_value(data.split(b"\r")[0]), dict) else None


def _json(head: Head) -> Kind | None:
    if head.long_line_bytes:
        if head.lines:
            return None
        if head.data.startswith(b"["):
            return ARRAY
        return RUN_ON if _first_value(head)[1].startswith("{") else None
    values = [_value(line) for line in head.lines[:SAMPLED_LINES]]
    if values and NO_VALUE not in values:
        if isinstance(values[0], list):
            return ARRAY if len(values) == 1 else ARRAYS
        return STRINGS if all(isinstance(value, str) for value in values) else VALUES
    if head.data.startswith(b"{") and (rest := _first_value(head)[1])[:1] in ("{", ","):
        return RUN_ON if rest.startswith("{") else COMMAS
    if head.data.startswith(b"[") or len(head.lines) > 1:
        kind = ARRAY if head.data.startswith(b"[") else _rows_inside(head.data) or DOCUMENT
        return kind if _is_begun(head) else None
    return None


def _text(head: Head) -> Kind:
    if re.search(rb"[\x00-\x08\x0e-\x19\x1c-\x1f]", head.data):
        return UNKNOWN
    text = head.data[:SAMPLED_BYTES].decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()][:SAMPLED_LINES]
    if not lines:
        return UNKNOWN
    pairs = sum(bool(YAML_LINE.match(line)) for line in lines)
    if re.match(r"---\s*$|%YAML ", lines[0]) or (len(lines) > 1 and pairs > 0.8 * len(lines)):
        return YAML
    return next((kind for mark, kind in DELIMITED.items() if _is_table(text, mark)), PLAIN)


def _is_table(text: str, delimiter: str) -> bool:
    try:
        rows = [row for row in csv.reader(text.splitlines(keepends=True), delimiter=delimiter) if row]
    except csv.Error:
        return False
    widths = Counter(map(len, rows))
    width, n_rows = widths.most_common(1)[0]
    return len(rows[0]) == width > 1 and n_rows > max(1, 0.8 * len(rows))


def _value(line: bytes) -> Any:
    """Return the JSON value on a line, or NO_VALUE."""
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return NO_VALUE


def _first_value(head: Head) -> tuple[bool, str]:
    """Return whether the first JSON value goes over several lines, and what comes after it; nothing without one."""
    text = _text_of(head.data)
    try:
        _, stop = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False, ""
    return "\n" in text[:stop], text[stop : stop + SAMPLED_BYTES].lstrip(" \t\r")


def _is_begun(head: Head) -> bool:
    """Whether the data is the beginning of a JSON value."""
    data = head.data if head.is_all else head.data[: head.data.rfind(b"\n") + 1] or head.data
    try:
        msgspec.json.decode(NO_NUMBERS.sub("null", _text_of(data)))
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    except RecursionError:
        return False
    return True


def _text_of(data: bytes) -> str:
    return data.decode(errors="replace")
