"""Line files: JSONL and NDJSON, plain or packed. Cut into spans and read back in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.chunk import MAX_LINE_BYTES, Span
from pipeline.corpus.blocks import Block, line_blocks
from pipeline.corpus.rows import Columns, Reject, Rows
from pipeline.corpus.sniff.misnamed import check_kind
from pipeline.corpus.stream import PACKINGS
from pipeline.corpus.texts import render
from pipeline.corpus.textual.lines import Ends, line_ends, read_head, read_lines
from pipeline.corpus.textual.objects import ObjectReader
from pipeline.corpus.textual.record import UTF8_BOM, Kinds, parse, parsed, value_at, watched
from pipeline.errors import CorpusError

SUFFIXES = tuple(kind + packing for kind in (".jsonl", ".ndjson") for packing in PACKINGS)


class JsonlReader(ObjectReader):
    """A file with one JSON object a line."""

    def _first_records(self) -> list[dict[str, Any]]:
        """Return the objects of the first HEAD_BYTES, or of the first line."""
        head = read_head(self._path)
        records = [record for line in head.lines if not isinstance(record := parse(line), Reject)]
        check_kind(self._path, head, n_objects=len(records))
        return records

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        """Yield the lines of a place, or of all of the file; reads no other."""

        def text_of(line: bytes) -> str | None:
            record = parse(line.removeprefix(UTF8_BOM))
            if isinstance(record, Reject):
                return None
            text = render([value_at({**self._given, **record}, name) for name in columns.text], columns)
            return None if isinstance(text, Reject) else text

        return line_blocks(self._path, place, text_of)

    def row_ends(
        self, blocks: Iterator[bytes], start: int, *, is_open: bool, kinds: Kinds, limit: int | None
    ) -> Iterator[Ends]:
        """Yield where lines end, see `line_ends`."""
        return line_ends(watched(blocks, kinds, limit, MAX_LINE_BYTES) if kinds else blocks, start)

    def read(self, span: Span, columns: Columns) -> Rows:
        """Read the rows of a span; blank lines are no rows."""
        with self._at(span) as cursor:
            data, too_long = read_lines(cursor, span)
        n_lines = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
        if n_lines != span.n_rows:
            raise CorpusError(
                f"{self._path} rows {span.row_start}-{span.row_stop - 1}: expected {span.n_rows:,} lines, found "
                f"{n_lines:,}; run again to embed it as it is now"
            )
        if span.byte_start == 0:
            data = data.removeprefix(UTF8_BOM)
        return self.rows_of(parsed(data.split(b"\n")), span.row_start, too_long, columns)
