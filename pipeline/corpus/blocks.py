"""Blocks: some rows of a shard, how long each is, and the texts of a few; the length of a corpus is learned of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.chunk import MAX_LINE_BYTES
from pipeline.corpus import stream
from pipeline.corpus.stream import Cursor
from pipeline.corpus.textual.lines import line_ends

PIECE_BYTES = 1 << 20  # of a file that are looked at together
PLACE_BYTES = 1 << 18  # of a plain file
PACKED_PLACE_BYTES = 16 << 20  # of a packed one, from its start


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some rows of a shard."""

    share: float  # of the shard, by the bytes of its file
    n_bytes: int  # before compression
    sizes: NDArray[np.int64]  # bytes of each row
    texts: Callable[[Sequence[int]], list[str | None]]  # of rows by their index here; None of one that has no text


def line_place(path: Path, share: float) -> int:
    """Return the number of the place that is a share into a file of lines; a packed one has its beginning alone."""
    is_packed = path.suffix.lower() in stream.COMPRESSION
    return 0 if is_packed else int(share * path.stat().st_size) // PLACE_BYTES


def line_blocks(path: Path, place: int | None, text_of: Callable[[bytes], str | None]) -> Iterator[Block]:
    """Yield the lines that begin in a place, or without one all of a file, in blocks of whole lines.

    Blank lines and those over MAX_LINE_BYTES are left out. Raises CorpusError for a stream that cannot be read.
    """
    with contextlib.closing(Cursor(path)) as cursor:
        size_bytes = max(1, path.stat().st_size)
        if place is None or cursor.is_packed:
            pieces = _from_start(cursor, math.inf if place is None else PACKED_PLACE_BYTES)
        else:
            pieces = _about(cursor, place * PLACE_BYTES)
        for data, n_taken in pieces:
            yield _block(data, n_taken / size_bytes, text_of)


def _from_start(cursor: Cursor, stop: float) -> Iterator[tuple[bytes, int]]:
    """Yield whole lines until so many bytes of the file were read, each time with how many those lines took."""
    rest, is_long, begin = b"", False, 0
    while begin < stop and (block := cursor.read(PIECE_BYTES)):
        if is_long:
            is_long = b"\n" not in block
            block = block.partition(b"\n")[2]
        data = rest + block
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if len(rest) > MAX_LINE_BYTES:
            rest, is_long = b"", True
        yield data[:end], cursor.position_in_file - begin
        begin = cursor.position_in_file
    if begin < stop:
        yield rest, 0


def _about(cursor: Cursor, start: int) -> Iterator[tuple[bytes, int]]:
    """Yield the lines of a plain file that begin within PLACE_BYTES from a byte on, and those bytes."""
    cursor.skip_to(max(0, start - 1))
    data = cursor.read(start + PLACE_BYTES - cursor.position)
    n_taken = cursor.position - start
    if start:
        data = data.partition(b"\n")[2]
    more = data
    while more and not more.endswith(b"\n") and len(data) <= MAX_LINE_BYTES:
        more = cursor.read(PLACE_BYTES)
        more = more[: more.find(b"\n") + 1] or more
        data += more
    yield data, n_taken


def _block(data: bytes, share: float, text_of: Callable[[bytes], str | None]) -> Block:
    found = list(line_ends([data], 0))
    ends = np.concatenate([np.empty(0, np.int64), *(ends for ends, _ in found)])
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
    is_row = np.concatenate([np.empty(0, np.bool_), *(~blank for _, blank in found)]) & (
        ends - starts <= MAX_LINE_BYTES
    )
    starts, ends = starts[is_row], ends[is_row]
    return Block(
        share=share,
        n_bytes=len(data),
        sizes=ends - starts,
        texts=lambda rows: [text_of(data[starts[row] : ends[row]]) for row in rows],
    )
