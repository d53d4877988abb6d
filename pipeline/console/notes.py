"""Notices: a line on stderr, above what a screen shows there."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


def in_one_line(text: str) -> str:
    """Return a text with what a terminal does not print as it is (controls, line ends, lone surrogates) as escapes."""
    return text if text.isprintable() else "".join(map(_printed, text))


def _printed(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


_kept: list[list[str]] = []
_writers: list[Callable[[str], None]] = []


def note(text: str) -> None:
    """Write a line."""
    line = in_one_line(text)
    write = _writers[-1] if _writers else sys.stderr.write
    write(f"embed-corpus: {line}\n")
    for notes in _kept:
        notes.append(line)


@contextlib.contextmanager
def keep_notes() -> Iterator[list[str]]:
    """Yield a list that gets the lines that are written meanwhile, for one who does not see this terminal."""
    notes: list[str] = []
    _kept.append(notes)
    try:
        yield notes
    finally:
        _kept.remove(notes)


@contextlib.contextmanager
def written_by(write: Callable[[str], None]) -> Iterator[None]:
    """Let notices be written by another function meanwhile."""
    _writers.append(write)
    try:
        yield
    finally:
        _writers.remove(write)
