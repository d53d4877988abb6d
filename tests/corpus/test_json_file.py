"""JSON files: the elements of an array are those of the standard library, wherever it is cut, and lines are lines."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.chunk import ChunkSize, Density, Span
from pipeline.corpus import json_file, stream
from pipeline.corpus.json_file import JsonReader
from pipeline.corpus.rows import Columns
from pipeline.corpus.textual.elements import Elements
from pipeline.corpus.textual.record import Kinds
from pipeline.errors import CorpusError

COLUMNS = Columns(text=("text",), template=None, id="id")
DENSITY = Density(tokens_per_row=1, tokens_per_byte=1)
START = Span(row_start=0, row_stop=0)
numbers = itertools.count()
odd_text = st.text(st.sampled_from('"\\[]{},: \na\u00e9\U0001f600'), max_size=12)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | odd_text, lambda inner: st.lists(inner) | st.dictionaries(odd_text, inner), max_leaves=6
)
objects = st.fixed_dictionaries({"text": odd_text.map("x{}".format)}, optional={"k": values, "id": st.integers(-9, 9)})


def write(folder: Path, data: bytes) -> Path:
    path = folder / f"{next(numbers)}.json"
    path.write_bytes(data)
    return path


def by_us(path: Path, target: int, kinds: Kinds | None = None) -> list[tuple[int, str]]:
    size = ChunkSize(tokens=target)
    rows = []
    with contextlib.closing(JsonReader(path, "s")) as reader:
        cut = list(reader.cut(START, DENSITY, size, is_open=True, limit=None, kinds=kinds if kinds is not None else {}))
        for span, last in cut:
            found = reader.read(span, COLUMNS)
            rows += [*zip(found.row, found.text, strict=True), *((row, why.reason) for row, _, why in found.rejects)]
            assert reader.ends_at(span) == last
        if cut:  # what comes after the last one is nothing
            end = Span(row_start=span.row_stop, row_stop=span.row_stop, byte_start=span.byte_stop, byte_stop=0)
            assert list(reader.cut(end, DENSITY, size, is_open=True, limit=None, kinds={})) == []
        assert [row for part in reader.row_numbers() for row in part.tolist()] == sorted(row for row, _ in rows)
    return sorted(rows)


@given(
    rows=st.lists(objects, max_size=8), indent=st.sampled_from([None, 0, 1]), escaped=st.booleans(),
    space=st.sampled_from(["", "\n", " \r\n\t"]), target=st.integers(1, 60), block=st.integers(1, 30),
)  # fmt: skip
@example(rows=[{"text": "x\\"}, {"text": "\\\\"}], indent=None, escaped=True, space="", target=1, block=1)
def test_elements_are_those_of_the_standard_library(  # noqa: PLR0913  drawn
    rows: list[dict[str, Any]], indent: int | None, escaped: bool, space: str, target: int, block: int,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    monkeypatch.setattr(json_file, "SOUGHT_BYTES", (block + 1) // 2)
    path = write(tmp_path, (space + json.dumps(rows, indent=indent, ensure_ascii=escaped) + space).encode())
    kinds: Kinds = {"id": set()}
    assert by_us(path, target, kinds) == [(at, row["text"]) for at, row in enumerate(rows)]
    assert kinds["id"] == ({"integer"} if any("id" in row for row in rows) else set())


@given(rows=st.lists(objects, min_size=1, max_size=5), data=st.data())
def test_an_array_that_is_cut_short_is_refused(rows: list[dict[str, Any]], data: st.DataObject, tmp_path: Path) -> None:
    whole = json.dumps(rows).encode()
    path = write(tmp_path, whole[: data.draw(st.integers(1, len(whole) - 1))])
    with pytest.raises(CorpusError, match="expected a JSON array, found one without an end"):
        by_us(path, data.draw(st.integers(1, 100)))


@given(
    data=st.lists(st.sampled_from(['"', "\\", "[", "]", "{", "}", ",", " ", "1"])),
    sizes=st.lists(st.integers(1, 5), min_size=1),
)
def test_the_ends_of_elements_do_not_depend_on_the_blocks(data: list[str], sizes: list[int]) -> None:
    whole = ("[" + "".join(data)).encode()

    def ends(cuts: list[int]) -> tuple[list[int], list[bool], str]:
        elements, found, blank, at = Elements(is_begun=False), list[int](), list[bool](), 0
        try:
            for size in itertools.cycle(cuts):
                if at >= len(whole):
                    break
                stops, blanks = elements.ends(whole[at : at + size])
                found, blank, at = found + (stops + at).tolist(), blank + blanks.tolist(), at + size
        except ValueError:
            return [], [], "more after it"
        return found, blank, f"{elements.is_ended} {elements.is_blank}"

    assert ends(sizes) == ends([len(whole)])


ARRAYS: dict[str, tuple[bytes, list[tuple[int, str]]]] = {
    "nothing": (b"", []),
    "white space": (b" \n", []),
    "an empty array": (b"[]", []),
    "an empty array with spaces": (b" [ \n ] \n", []),
    "a comma at the end": (b'[{"text": "a"},\n]', [(0, "a")]),
    "nothing between commas": (b'[{"text": "a"},, {"text": "b"}]', [(0, "a"), (2, "b")]),
    "a null": (b'[{"text": "a"}, null]', [(0, "a"), (1, "malformed_json")]),
    "no comma": (b'[{"text": "a"} {"text": "b"}, {"text": "c"}]', [(0, "malformed_json"), (1, "c")]),
    "a broken object": (b'[{"text": "a"}, {"text": }, {"text": "c"}]', [(0, "a"), (1, "malformed_json"), (2, "c")]),
    "a vertical tab, which JSON has not": (b'[{"text": "a"},,{"text": "b"}\x0b]', [(0, "a"), (2, "malformed_json")]),
    "no UTF-8": (b'[{"text": "a"}, {"text": "\xff"}]', [(0, "a"), (1, "invalid_utf8")]),
    "a null text": (b'[{"text": null}, {"text": 5}]', [(0, "null_text"), (1, "not_a_string")]),
    "a BOM": (b'\xef\xbb\xbf\n[{"text": "a"}]', [(0, "a")]),
    "NaN": (b'[{"text": "a", "n": NaN}]', [(0, "a")]),
    "lines": (b'{"text": "a"}\n\n{"text": "b"}\n', [(0, "a"), (2, "b")]),
    "a line": (b'{"text": "a"}', [(0, "a")]),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("target", [1, 1000])
def test_what_is_in_an_array_or_on_lines(tmp_path: Path, name: str, target: int) -> None:
    data, rows = ARRAYS[name]
    assert by_us(write(tmp_path, data), target) == rows


REFUSED = {
    "more after it": (b'[{"text": "a"}]\n[{"text": "b"}]', "expected one JSON array, found more after it"),
    "no objects": (b'["a", "b"]', "found a JSON array without objects; convert it, as by `jq -c"),
    "no such column": (b'[{"body": "a"}]', r"expected column 'text', found body"),
    "one document": (
        b'{"data": [\n{"text": "a"},\n{"text": "b"}\n]}',
        "found one JSON object with its rows in 'data'; ",
    ),
    "one document on a line": (
        b'{"n": 2, "rows": [{"text": "a"}, {"text": "b"}]}',
        r"its rows in 'rows'; convert it, as by `jq -c '\.rows\[\]' 0\.json >",
    ),
    "an article": (b'{"body": "a", "title": "b", "by": [{"a": "b"}]}', "expected column 'text', found body, title, by"),
    "an object for each column": (
        b'{"text": {"0": "a"}, "id": {"0": "x"}}',
        "an object for each column; .*read_json\\('0.json'\\)",
    ),
    "CSV": (b"id,text\n1,a\n2,b\n", r"found CSV; rename it to 0\.csv"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str) -> None:
    data, said = REFUSED[name]
    path = tmp_path / "0.json"
    path.write_bytes(data)
    with contextlib.closing(JsonReader(path, "s")) as reader, pytest.raises(CorpusError, match=said):
        reader.column_types(COLUMNS, ("text",))


def test_an_element_that_is_too_long_is_one_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("textual.lines", "json_file"):
        monkeypatch.setattr(f"pipeline.corpus.{module}.MAX_LINE_BYTES", 100)
    monkeypatch.setattr(stream, "BLOCK_BYTES", 60)
    rows = [{"text": "a"}, {"text": "b" * 200}, {"text": "c"}]
    assert by_us(write(tmp_path, json.dumps(rows).encode()), 1000) == [(0, "a"), (1, "too_long"), (2, "c")]


def test_a_deep_array_takes_no_stack(tmp_path: Path) -> None:
    path = write(tmp_path, b'[{"text": "a"}, ' + b"[" * 100_000 + b"]" * 100_000 + b', {"text": "b"}]')
    assert by_us(path, 1000) == [(0, "a"), (1, "malformed_json"), (2, "b")]
    assert np.array_equal(Elements(is_begun=True).ends(b"[" * 9)[0], [])
