"""Rows: which columns make a text, and why a row has none."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.rows import Columns, Reject
from pipeline.corpus.texts import as_text, render, text_columns

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def of(text: str) -> Columns:
    names, template = text_columns(text)
    return Columns(text=names, template=template, id=None)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("text", ("text",)),
        ("meta.body", ("meta.body",)),
        ("{title}", ("title",)),
        ("{title}\n{meta.body}", ("title", "meta.body")),
        ("{b}{a}{b}", ("b", "a")),
        ("a column with spaces", ("a column with spaces",)),
    ],
)
def test_the_columns_that_a_setting_names(text: str, names: tuple[str, ...]) -> None:
    assert text_columns(text) == (names, text if "{" in text else None)


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("{a}", ["x"], "x"),
        ("{a}\n{b}", ["x", "y"], "x\ny"),
        ("{a}\n{b}", ["x", None], "x\n"),
        ("{a}\n{b}", [None, "y"], "\ny"),
        ("{b}-{a}-{b}", ["x", "y"], "x-y-x"),
        ("Title: {a}. Body: {b}", ["", "y"], "Title: . Body: y"),
        ("Title: {a}. Body: {b}", [" ", "."], "Title:  . Body: ."),
        ("{{{a}}}", ["x"], "{x}"),
        ("{a}", ["{b} {0} {a!r}"], "{b} {0} {a!r}"),
        ("100% {a} \\", ["x"], "100% x \\"),
        ("{a} ({b})", ["x", 2026], "x (2026)"),
        ("{a} ({b})", ["x", True], "x (true)"),
        ("{a} ({b})", ["x", 0.5], "x (0.5)"),
        ("{a} ({b})", ["x", float("nan")], "x ()"),
        ("{a} ({b})", ["x", datetime.date(2026, 11, 27)], "x (2026-11-27)"),
        ("{a} ({b})", ["x", Decimal("1.50")], "x (1.50)"),
        ("{a} and {b}", ["", 0], " and 0"),
    ],
)
def test_a_template_is_filled_from_values(template: str, values: list[object], text: str) -> None:
    assert render(values, of(template)) == text


@given(text=st.text(min_size=1).filter(str.strip))
def test_a_text_comes_through_as_it_is(text: str) -> None:
    assert render([text], of("text")) == text


@pytest.mark.parametrize(
    ("setting", "values", "reason"),
    [
        ("text", [None], "null_text"),
        ("{a}{b}", [None, None], "null_text"),
        ("Title: {a}. Body: {b}", [None, None], "null_text"),
        ("Title: {a}. Body: {b}", ["", " "], "empty_text"),
        ("Title: {a}. Body: {b}", [None, ""], "empty_text"),
        ("Title: {a}. Body: {b}", ["\u2003\n", None], "empty_text"),
        ("<{a}>", ["\t\u3000"], "empty_text"),
        ("{a}{b}", [float("nan"), None], "null_text"),
        ("text", [5], "not_a_string"),
        ("text", [b"x"], "not_a_string"),
        ("{a}{b}", ["x", ["y"]], "not_a_string"),
        ("text", [""], "empty_text"),
        ("text", [" \t\r\n\u00a0\u3000"], "empty_text"),
        ("{a} {b}", ["", None], "empty_text"),
        ("text", ["a\ud800"], "invalid_utf8"),
        ("{a}{b}", ["\ud83d", "\ude00"], "invalid_utf8"),
    ],
)
def test_a_row_without_a_text_has_a_reason(setting: str, values: list[object], reason: str) -> None:
    found = render(values, of(setting))
    assert isinstance(found, Reject)
    assert found.reason == reason
    assert found.detail


def test_a_value_that_is_no_string_is_named_with_its_column_and_shown() -> None:
    found = render(["x", {"k": [1]}], of("{title} {body}"))
    assert found == Reject(reason="not_a_string", detail="body: expected a string, found dict", text='{"k":[1]}')


@given(value=json_values)
def test_any_json_value_becomes_a_text_that_says_the_same(value: object) -> None:
    found = as_text(value)
    if value is None or isinstance(value, str):
        assert found == value
    else:
        assert found is not None
        assert json.loads(found) == value


@pytest.mark.parametrize("value", [["\ud800"], {"\ud800": 1}, [float("nan")], 10**400])
def test_json_that_other_writers_emit_becomes_a_text_too(value: object) -> None:
    found = as_text(value)
    assert found
    assert found.encode()
