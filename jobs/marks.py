"""The marks of an output's attempts on Modal: entries of a shared Dict, which no container's death takes along."""

from __future__ import annotations

import msgspec

from jobs.resources import attempts
from pipeline.chunk import Chunk
from pipeline.dataset.marks import Mark


class DictMarks:
    """An entry for each mark, by output and chunk."""

    def __init__(self, output: str) -> None:
        self._output = output

    def put(self, chunk: Chunk, deaths: int) -> None:
        """Mark a chunk; with no deaths its mark is taken away."""
        if deaths:
            attempts.put((self._output, chunk.id), msgspec.to_builtins(Mark(chunk=chunk, deaths=deaths)))
        else:
            attempts.pop((self._output, chunk.id), None)

    def read(self) -> list[Mark]:
        """Return all marks of the output."""
        return [msgspec.convert(mark, Mark) for (output, _), mark in attempts.items() if output == self._output]
