"""JSON files, plain or packed: an array of objects, or an object a line."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.chunk import MAX_LINE_BYTES, Span
from pipeline.corpus.blocks import Block
from pipeline.corpus.jsonl import JsonlReader
from pipeline.corpus.rows import Columns, Reject, Rows
from pipeline.corpus.sniff.misnamed import check_array
from pipeline.corpus.stream import PACKINGS, Cursor, read_blocks
from pipeline.corpus.textual.byte_reader import ByteReader
from pipeline.corpus.textual.elements import Elements
from pipeline.corpus.textual.lines import HEAD_BYTES, SHOWN_BYTES, Ends, too_long
from pipeline.corpus.textual.record import UTF8_BOM, Kinds, add_kinds, has_value_at, is_blank, parse, parsed
from pipeline.errors import CorpusError

AFTER_ELEMENT = re.compile(rb"[}\]\"\w]\s*,(?=\s*\{)")
TRIES = 64
SOUGHT_BYTES = 1 << 20  # in which ends are sought at once: of more, what that takes is new memory each time
DECODED_BYTES = 16 << 20  # of a span, at most, whose objects are in memory at once
_decode_objects = msgspec.json.Decoder(list[dict[str, Any]]).decode
SUFFIXES = tuple(f".json{packing}" for packing in PACKINGS)


class JsonReader(JsonlReader):
    """A file that is one array of objects, which may go over several lines each, or else has an object a line."""

    def __init__(self, path: Path, source: str) -> None:
        super().__init__(path, source)
        self._known: bool | None = None

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        """Yield the rows that begin in a place, or all of the file; reads no other."""
        return ByteReader.blocks(self, columns, place) if self._is_array() else super().blocks(columns, place)

    def first_row_in(self, data: bytes, columns: Columns) -> int:
        """Return where the first element begins that is followed by another and has a text column."""
        for found in itertools.islice(AFTER_ELEMENT.finditer(data), TRIES):
            stops, _ = Elements(is_begun=True).ends(data[found.end() :])
            record = parse(data[found.end() : found.end() + int(stops[0]) - 1]) if len(stops) else None
            if isinstance(record, dict) and any(has_value_at(record, name) for name in columns.text):
                return found.end()
        return len(data)

    def row_ends(
        self, blocks: Iterator[bytes], start: int, *, is_open: bool, kinds: Kinds, limit: int | None
    ) -> Iterator[Ends]:
        """Yield where elements or lines end; raises CorpusError for an array that does not end well."""
        if not self._is_array():
            return super().row_ends(blocks, start, is_open=is_open, kinds=kinds, limit=limit)
        if kinds:
            blocks = self._watched(blocks, start, kinds, limit)
        return self._element_ends(_in_steps(blocks), start, is_open=is_open)

    def ends_at(self, span: Span) -> bool:
        """Whether the file has nothing after a span."""
        if not self._is_array():
            return super().ends_at(span)
        rest = b""
        for block in read_blocks(self._path, span.byte_stop, None):
            rest += block.strip()
            if rest not in (b"", b"]"):
                return False
        return rest == b"]"

    def read(self, span: Span, columns: Columns) -> Rows:
        """Read the rows of a span; what is between two commas of an array is a row unless it is blank."""
        if not self._is_array() or not span.n_rows:
            return super().read(span, columns)
        n_bytes = span.byte_stop - span.byte_start
        with self._at(span) as cursor:
            if span.n_rows == 1 and n_bytes > MAX_LINE_BYTES + 1:
                why = too_long(cursor.read(SHOWN_BYTES).lstrip(b"[ \t\r\n" + UTF8_BOM), n_bytes)
                cursor.skip_to(span.byte_stop)
                return self.rows_of([[{}]], span.row_start, {span.row_start: why}, columns)
            data = cursor.read(n_bytes)
        is_begun = span.byte_start > 0
        objects = _decoded(data, is_begun=is_begun) if n_bytes <= DECODED_BYTES else []
        if len(objects) == span.n_rows:
            return self.rows_of([objects], span.row_start, {}, columns)
        pieces = self._split(data, is_begun=is_begun, is_whole=True)
        if len(pieces) != span.n_rows:
            raise CorpusError(
                f"{self._path} rows {span.row_start}-{span.row_stop - 1}: expected {span.n_rows:,} elements, found "
                f"{len(pieces):,}; run again to embed it as it is now"
            )
        return self.rows_of(parsed(pieces), span.row_start, {}, columns)

    def _first_records(self) -> list[dict[str, Any]]:
        """Return the objects of the first HEAD_BYTES, or the first element of an array."""
        if not self._is_array():
            return super()._first_records()
        data, objects = b"", list[bytes]()
        for block in read_blocks(self._path, 0, None):
            data += block[: HEAD_BYTES if not data else None]
            objects = self._split(data, is_begun=False, is_whole=False)
            if objects or len(data) > MAX_LINE_BYTES:
                break
        found = [parse(each) for each in objects if not is_blank(each)]
        records = [record for record in found if not isinstance(record, Reject)]
        check_array(self._path, data, n_objects=len(records), n_others=len(found) - len(records))
        return records

    def _is_array(self) -> bool:
        if self._known is None:
            with contextlib.closing(Cursor(self._path)) as cursor:
                data = cursor.read(HEAD_BYTES).removeprefix(UTF8_BOM).lstrip()
            self._known = data.startswith(b"[")
        return self._known

    def _element_ends(self, blocks: Iterator[bytes], start: int, *, is_open: bool) -> Iterator[Ends]:
        elements, at = Elements(is_begun=start > 0), start
        for block in blocks:
            stops, blank = self._ends_in(elements, block)
            if len(stops):
                yield stops + at, blank
            at += len(block)
        if is_open and not elements.is_ended:
            raise CorpusError(f"{self._path}: expected a JSON array, found one without an end; it has {at:,} bytes")
        if not (elements.is_ended or elements.is_blank):  # the last one of a gap, whose bracket is not in it
            yield np.array([at]), np.array([False])

    def _watched(self, blocks: Iterator[bytes], start: int, kinds: Kinds, limit: int | None) -> Iterator[bytes]:
        """Pass blocks on and add to `kinds` what their first `limit` elements have."""
        elements, rest, left, is_begun = Elements(is_begun=start > 0), b"", limit, start > 0
        for block in blocks:
            yield block
            stops, _ = self._ends_in(elements, block)
            objects = _pieces(rest + block, stops + len(rest), is_begun=is_begun) if len(stops) else []
            add_kinds(kinds, objects[:left], MAX_LINE_BYTES)
            left = None if left is None else max(0, left - len(objects))
            rest = (block[int(stops[-1]) :] if len(stops) else rest + block)[: MAX_LINE_BYTES + 1]
            is_begun = is_begun or len(stops) > 0
        if left != 0 and not (elements.is_ended or elements.is_blank):
            add_kinds(kinds, _pieces(rest, np.array([len(rest)]), is_begun=is_begun), MAX_LINE_BYTES)

    def _ends_in(self, elements: Elements, block: bytes) -> Ends:
        try:
            return elements.ends(block)
        except ValueError as error:
            raise CorpusError(f"{self._path}: expected one JSON array, found {error}") from error

    def _split(self, data: bytes, *, is_begun: bool, is_whole: bool) -> list[bytes]:
        """Return the elements that end in some bytes, and with them if they are whole."""
        elements = Elements(is_begun=is_begun)
        stops, _ = self._ends_in(elements, data)
        if is_whole and not (elements.is_ended or elements.is_blank):
            stops = np.append(stops, len(data))
        return _pieces(data, stops, is_begun=is_begun)


def _in_steps(blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        for at in range(0, len(block), SOUGHT_BYTES):
            yield block[at : at + SOUGHT_BYTES]


def _decoded(data: bytes, *, is_begun: bool) -> list[dict[str, Any]]:
    """Return whole elements, by a parser that takes nothing but JSON; none where they are not objects all of them."""
    start = 0 if is_begun else data.find(b"[") + 1
    body = data[start:].rstrip(b" \t\r\n").removesuffix(b",")  # of white space, what JSON has
    try:
        return _decode_objects(b"[%b]" % body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _pieces(data: bytes, stops: NDArray[np.int64], *, is_begun: bool) -> list[bytes]:
    """Return the bytes of elements without what divides them; the array begins with the first if it is not begun."""
    starts = [0 if is_begun else data.find(b"[") + 1, *stops[:-1].tolist()]
    return [data[start:stop].removesuffix(b",") for start, stop in zip(starts, stops.tolist(), strict=False)]
