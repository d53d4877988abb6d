"""Hits in words: no line wider than the terminal, texts cut at words, nothing that a terminal obeys."""

from __future__ import annotations

from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.hits import cut, describe_hit, width_of, wrapped

OWN = {"passage": 0, "char_start": 0, "char_end": 9, "n_tokens": 3, "truncated": False}
HIT: dict[str, Any] = {"score": 0.62974, "id": "doc-1", "source": "a/b.jsonl", "row": 17, **OWN}
WORDS = st.text(st.characters(categories=["L", "N", "P", "Zs", "Cc", "Mn"]))


def test_a_hit_is_its_place_its_kept_columns_and_the_beginning_of_its_text() -> None:
    kept = {"lang": "en", "year": 2001, "none": None, "tags": ["a", "b"]}
    text = "One fish,\n two\tfish, red fish, blue fish. Black fish, blue fish, old fish, new fish. This one has a star."
    assert [*describe_hit({**HIT, **kept, "text": text}, 40, cuts=True)] == [
        "0.6297  doc-1  a/b.jsonl:17",
        '        lang: en, year: 2001, tags: ["a…',
        "        One fish, two fish, red fish,",
        "        blue fish. Black fish, blue",
        "        fish, old fish, new fish. This …",
    ]
    assert [*describe_hit({**HIT, "passage": 2, "text": "Short."}, 40, cuts=True)] == [
        "0.6297  doc-1  a/b.jsonl:17  passage 2",
        "        Short.",
    ]
    assert [*describe_hit(HIT, 40, cuts=True)] == ["0.6297  doc-1  a/b.jsonl:17"]


def test_where_there_is_no_terminal_the_place_is_whole() -> None:
    hit = HIT | {"id": "x" * 100, "kept": "y " * 100}
    place, kept = describe_hit(hit, 40, cuts=False)
    assert place == f"0.6297  {'x' * 100}  a/b.jsonl:17"
    assert width_of(kept) <= 40
    assert [width_of(line) <= 40 for line in describe_hit(hit, 40, cuts=True)] == [True, True]


@given(st.fixed_dictionaries({"id": WORDS, "text": WORDS | st.none(), "kept": WORDS}), st.integers(20, 120))
def test_no_line_is_wider_than_the_terminal_or_moves_its_cursor(values: dict[str, Any], columns: int) -> None:
    for line in describe_hit(HIT | values, columns, cuts=True):
        assert line.isprintable()
        assert width_of(line) <= columns


@given(WORDS, st.integers(12, 60), st.integers(1, 4))
def test_a_text_is_cut_at_its_words_and_only_where_it_does_not_fit(text: str, columns: int, n_lines: int) -> None:
    lines = wrapped(text, columns, n_lines)
    assert len(lines) <= n_lines
    whole = " ".join(wrapped(text, 10**6, 1))
    shown = " ".join(lines)
    if width_of(whole) <= columns:
        assert shown == whole
    elif all(width_of(word) < columns - 2 for word in whole.split(" ")):
        assert shown == whole or whole.startswith(shown.removesuffix(" …") + " ")


@given(WORDS, st.integers(1, 60))
def test_what_is_cut_ends_in_an_ellipsis(text: str, columns: int) -> None:
    found = cut(text, columns)
    assert width_of(found) <= columns
    assert found == text or (found.endswith("…") and text.startswith(found[:-1]))


@pytest.mark.parametrize("text", ["plain", "漢字かな", "e\u0301a", "\uff46\uff55", "한글", "русский"])
def test_a_width_is_that_of_a_terminal(text: str) -> None:
    screen = pyte.Screen(80, 1)
    pyte.Stream(screen).feed(text)
    assert width_of(text) == screen.cursor.x


def test_of_a_book_only_the_beginning_is_looked_at() -> None:
    lines = wrapped("word " * 3_000_000, 80, 3)
    assert [width_of(line) <= 80 for line in lines] == [True] * 3
    assert lines[-1].endswith(" …")
