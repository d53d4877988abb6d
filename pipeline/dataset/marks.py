"""Marks: attempts on chunks that have begun and not ended, where the death of a process does not reach."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from pipeline.chunk import Chunk
from pipeline.files import remove_file, writing


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk with the number of attempts on it that never ended."""

    chunk: Chunk
    deaths: int


class Marks(Protocol):
    """Where the marks of one output are kept; they have to outlive the process that makes them."""

    def put(self, chunk: Chunk, deaths: int) -> None:
        """Mark a chunk; with no deaths its mark is taken away."""
        ...

    def read(self) -> list[Mark]:
        """Return all marks, in no order."""
        ...


class MarkFiles:
    """A file for each mark. They are not flushed: it is a process that dies, and the system writes them later."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, chunk: Chunk, deaths: int) -> None:
        """Mark a chunk; with no deaths its mark is taken away."""
        path = self._folder / f"{chunk.id}.json"
        if not deaths:
            remove_file(path)
            return
        with writing(path):
            self._folder.mkdir(exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(msgspec.json.encode(Mark(chunk=chunk, deaths=deaths)))
            temporary.replace(path)

    def read(self) -> list[Mark]:
        """Return all marks; a file that is none counts as no mark."""
        marks = []
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
                marks.append(msgspec.json.decode(path.read_bytes(), type=Mark))
        return marks


def deaths_of(chunk: Chunk, marks: Sequence[Mark]) -> int:
    """Return how often a chunk has died."""
    return next((mark.deaths for mark in marks if mark.chunk.id == chunk.id), 0)
