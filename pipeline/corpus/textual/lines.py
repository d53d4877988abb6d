"""Lines: where they end, which of them are rows, and spans of them, in memory that no line can exhaust."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.chunk import MAX_LINE_BYTES, Span
from pipeline.corpus import stream
from pipeline.corpus.rows import Reject
from pipeline.corpus.stream import Cursor, read_blocks
from pipeline.corpus.textual.record import UTF8_BOM, Kinds, is_blank, watched

HEAD_BYTES = 1 << 18
SHOWN_BYTES = 4000  # of a line that is too long
SHOWN_CHARACTERS = 1000
NEWLINE = ord("\n")
NONE = np.array([], np.int64)
Ends = tuple[NDArray[np.int64], NDArray[np.bool_]]  # where some rows end, in bytes of the file, and which are blank
IS_WHITE = np.isin(np.arange(256), list(b"\t\n\v\f\r "))  # for bytes.isspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a file of lines begins with, from its first row on and without a BOM."""

    data: bytes  # the first bytes, HEAD_BYTES or fewer
    lines: tuple[bytes, ...]  # of the first HEAD_BYTES and of the whole first line: those that end and are not blank
    is_all: bool  # whether there are no other lines
    row: int = 0  # number of the first line
    long_line_bytes: int = 0  # of a first line over MAX_LINE_BYTES, which is not among `lines`
    is_endless: bool = False  # whether that is all of the file, up to its last byte


def read_head(path: Path) -> Head:
    """Return the head of a file; a line over MAX_LINE_BYTES is passed over, not held.

    Raises CorpusError for a stream that cannot be read.
    """
    with contextlib.closing(Cursor(path)) as cursor:
        data = cursor.read(HEAD_BYTES)
        is_all = len(data) < HEAD_BYTES
        data = data.removeprefix(UTF8_BOM)
        first = data.lstrip()
        row = data[: len(data) - len(first)].count(b"\n")
        if is_all or not first or b"\n" in first:
            return Head(data=first, lines=_whole(first, is_all=is_all), is_all=is_all, row=row)
        pieces, n_bytes, end, block = [first], len(first), -1, b""
        while end < 0 and (block := cursor.read(stream.BLOCK_BYTES)):
            end = block.find(b"\n")
            pieces.append(block[:end] if end >= 0 else block)
            n_bytes += len(pieces[-1])
            if n_bytes > MAX_LINE_BYTES:
                pieces = [first]
        after = block[end + 1 :]
        more = cursor.read(HEAD_BYTES)
        is_all = len(more) < HEAD_BYTES
        others = _whole(after + more, is_all=is_all) if end >= 0 else ()
        if n_bytes > MAX_LINE_BYTES:
            ends = is_all and end < 0
            return Head(data=first, lines=others, is_all=is_all, row=row, long_line_bytes=n_bytes, is_endless=ends)
        return Head(data=first, lines=(b"".join(pieces), *others), is_all=is_all, row=row)


def read_raw_head(path: Path) -> Head:
    """Return the head of a file as it is, packed or not; raises OSError."""
    with path.open("rb") as file:
        data = file.read(HEAD_BYTES)
    is_all = len(data) < HEAD_BYTES
    data = data.removeprefix(UTF8_BOM).lstrip()
    return Head(data=data, lines=_whole(data, is_all=is_all), is_all=is_all)


def scan(
    path: Path,
    gap: Span,
    *,
    open_end: bool,
    target_bytes: int,
    max_rows: int = sys.maxsize,
    limit: int | None = None,
    kinds: Kinds | None = None,
) -> Iterator[tuple[Span, bool]]:
    """Cut the lines of a gap into spans as `cut_spans` does.

    What the lines of the spans have is added to `kinds`, if there are any columns in it. Raises CorpusError for a
    stream that cannot be read.
    """
    blocks = read_blocks(path, gap.byte_start, None if open_end else gap.byte_stop)
    if kinds:
        blocks = watched(blocks, kinds, limit, MAX_LINE_BYTES)
    ends = line_ends(blocks, gap.byte_start)
    return cut_spans(ends, gap, open_end=open_end, target_bytes=target_bytes, max_rows=max_rows, limit=limit)


def cut_spans(
    ends: Iterable[Ends], gap: Span, *, open_end: bool, target_bytes: int, max_rows: int, limit: int | None
) -> Iterator[tuple[Span, bool]]:
    """Cut the rows of a gap into spans of about `target_bytes`, or of `max_rows`, each with whether it ends the file.

    A row over MAX_LINE_BYTES is a span of its own.
    """
    row_limit = gap.row_start + limit if limit is not None else sys.maxsize
    held: Span | None = None
    for span in _spans(ends, gap, target_bytes, max_rows, row_limit):
        if held:
            yield held, False
        held = span
    if held:
        yield held, open_end and held.row_stop < row_limit


def first_span(ends: Iterable[Ends], target_bytes: int) -> Span:
    """Return at most about `target_bytes` from the start, after rows over MAX_LINE_BYTES; nothing if there are none.

    It takes no more than one block of the ends of rows, where that has a row.
    """
    row = byte = 0
    for stops, _ in ends:
        if len(stops) and stops[0] - byte > MAX_LINE_BYTES + 1:
            row, byte, stops = row + 1, int(stops[0]), stops[1:]
        if len(stops):
            n_rows = min(int(np.searchsorted(stops, byte + target_bytes)) + 1, len(stops))
            return Span(row_start=row, row_stop=row + n_rows, byte_start=byte, byte_stop=int(stops[n_rows - 1]))
    return Span(row_start=0, row_stop=0)


def row_numbers(ends: Iterable[Ends]) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of those that are no blank ones, in rising order."""
    row = 0
    for _, blank in ends:
        yield np.flatnonzero(~blank) + row
        row += len(blank)


def read_lines(cursor: Cursor, span: Span) -> tuple[bytes, dict[int, Reject]]:
    """Return the bytes of a span from the cursor on, and why some of its rows are none: lines over MAX_LINE_BYTES.

    Of such a line the beginning alone is there, without white space before it.
    """
    n_bytes = span.byte_stop - span.byte_start
    if n_bytes <= MAX_LINE_BYTES:
        return cursor.read(n_bytes), {}
    long_ones: dict[int, Reject] = {}
    done: list[bytes] = []
    line: list[bytes] = []  # the pieces of the line in whose middle a block ends
    row, n_line_bytes, block = span.row_start, 0, b"\n"
    while block:
        block = cursor.read(min(stream.BLOCK_BYTES, MAX_LINE_BYTES, span.byte_stop - cursor.position))
        first, last = block.find(b"\n"), block.rfind(b"\n")
        line.append(block[:first] if first >= 0 else block)
        n_line_bytes += len(line[-1])
        if n_line_bytes > MAX_LINE_BYTES:
            line = [b"".join(line).lstrip()[:SHOWN_BYTES] or b" "]
        if first < 0 and block:
            continue
        if n_line_bytes > MAX_LINE_BYTES:
            long_ones[row] = too_long(line[0], n_line_bytes)
        done += [*line, block[first : last + 1]]
        row += block.count(b"\n")
        line, n_line_bytes = [block[last + 1 :]], len(block) - last - 1
    return b"".join(done), long_ones


def _whole(data: bytes, *, is_all: bool) -> tuple[bytes, ...]:
    lines = data.split(b"\n")
    return tuple(line for line in (lines if is_all else lines[:-1]) if not is_blank(line))


def _spans(found: Iterable[Ends], gap: Span, target_bytes: int, max_rows: int, row_limit: int) -> Iterator[Span]:
    row, byte, n_rows, n_blank = gap.row_start, gap.byte_start, 0, 0  # of the span being collected
    line_start = byte
    for ends, blank in found:
        at = 0
        if ends[0] - line_start > MAX_LINE_BYTES + 1:
            if n_rows:
                yield Span(row_start=row, row_stop=row + n_rows, byte_start=byte, byte_stop=line_start, n_blank=n_blank)
            row, byte, n_rows, n_blank = row + n_rows, int(ends[0]), 0, 0
            yield Span(row_start=row, row_stop=row + 1, byte_start=line_start, byte_stop=byte, n_blank=int(blank[0]))
            row, at = row + 1, 1
        while at < len(ends) and row < row_limit:
            full = at + min(max_rows, row_limit - row) - n_rows - 1
            cut = min(int(np.searchsorted(ends, byte + target_bytes)), full)
            n_rows += min(cut + 1, len(ends)) - at
            n_blank += int(np.count_nonzero(blank[at : cut + 1]))
            at = cut + 1
            if cut < len(ends):
                stop_byte = int(ends[cut])
                yield Span(row_start=row, row_stop=row + n_rows, byte_start=byte, byte_stop=stop_byte, n_blank=n_blank)
                row, byte, n_rows, n_blank = row + n_rows, stop_byte, 0, 0
        if row == row_limit:
            return
        line_start = int(ends[-1])
    if n_rows:
        yield Span(row_start=row, row_stop=row + n_rows, byte_start=byte, byte_stop=line_start, n_blank=n_blank)


def line_ends(blocks: Iterable[bytes], start: int) -> Iterator[Ends]:
    """Yield for the lines that end in a block, and at last for one without its newline: where, and whether blank.

    The blocks begin at byte `start` of the file; a block in which no line ends has none.
    """
    position, starts_blank = start, True  # of the line in whose middle a block ends
    for block in blocks:
        data = np.frombuffer(block, np.uint8)
        newlines = np.flatnonzero(data == NEWLINE) if b"\n" in block else NONE
        bom = len(UTF8_BOM) if position == 0 and block.startswith(UTF8_BOM) else 0
        if len(newlines):
            starts = np.concatenate([[bom], newlines[:-1] + 1])
            blank = (starts == newlines) | IS_WHITE[data[starts]]
            for at in np.flatnonzero(blank & (newlines > starts + 1)):
                blank[at] = is_blank(block[starts[at] : newlines[at]])
            blank[0] &= starts_blank
            yield newlines + (position + 1), blank
            starts_blank = True
        starts_blank = starts_blank and is_blank(block[newlines[-1] + 1 if len(newlines) else bom :])
        ends_line = block.endswith(b"\n")
        position += len(block)
    if position > start and not ends_line:
        yield np.array([position]), np.array([starts_blank])


def too_long(beginning: bytes, n_bytes: int) -> Reject:
    """Return why a row of that many bytes is none, with its beginning."""
    return Reject(
        reason="too_long",
        detail=f"expected lines of at most {MAX_LINE_BYTES:,} bytes, found one of {n_bytes:,}",
        text=beginning.decode(errors="replace")[:SHOWN_CHARACTERS],
    )
