"""A hit in words that fit a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.console import in_one_line
from pipeline.schema import RESERVED

INDENT = " " * 8  # below the score
TEXT_LINES = 3
LEAST_COLUMNS = 20
OWN = {*RESERVED, "score", "text"}  # keys of a hit that are no kept column
ELLIPSIS = "…"


def describe_hit(hit: Mapping[str, Any], columns: int, *, cuts: bool) -> Iterator[str]:
    """Yield the lines of a hit: score, id and where it is from; kept columns; the beginning of its text if it has one.

    None is wider than `columns`; the first is as long as it is unless `cuts`.
    """
    from pipeline.corpus import as_text

    passage = f"  passage {hit['passage']}" if hit["passage"] else ""
    head = in_one_line(f"{hit['score']:.4f}  {hit['id']}  {hit['source']}:{hit['row']}{passage}")
    yield cut(head, columns) if cuts else head
    room = max(columns, LEAST_COLUMNS) - len(INDENT)
    kept = {name: value for name, value in hit.items() if name not in OWN and value is not None}
    if kept:
        words = (f"{name}: {value if isinstance(value, str) else as_text(value)}" for name, value in kept.items())
        yield INDENT + cut(in_one_line(", ".join(words)), room)
    yield from (INDENT + line for line in wrapped(str(hit.get("text") or ""), room, TEXT_LINES))


def wrapped(text: str, columns: int, n_lines: int) -> list[str]:
    """Return the beginning of a text in lines that are cut at words; an ellipsis says that there is more."""
    text = text.strip()
    begin = text[: 4 * columns * n_lines]  # more than there is room for, and not all of a book
    lines = [""]
    for word in in_one_line(" ".join(begin.split())).split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if width_of(longer) <= columns:
            lines[-1] = longer
        elif not lines[-1]:
            lines[-1] = cut(word, columns)
        else:
            lines.append(cut(word, columns))
        if len(lines) > n_lines:
            break
    if len(lines) > n_lines or len(begin) < len(text):
        del lines[n_lines:]
        while " " in lines[-1] and width_of(lines[-1]) > columns - len(f" {ELLIPSIS}"):
            lines[-1] = lines[-1].rpartition(" ")[0]
        lines[-1] = cut(f"{lines[-1]} {ELLIPSIS}", columns)
    return lines if text else []


def cut(text: str, columns: int) -> str:
    """Return a text that is no wider than asked, with an ellipsis where something was cut off."""
    if width_of(text) <= columns:
        return text
    kept, used = "", 0
    for character in text:
        used += width_of(character)
        if used > columns - len(ELLIPSIS):
            break
        kept += character
    return kept + ELLIPSIS


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for wide characters of East Asia, none for accents."""
    return sum(
        0 if unicodedata.category(each) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )
