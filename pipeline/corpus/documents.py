"""Documents: plain text and Markdown, a row for each file, named by its path and titled by its first heading."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import MAX_LINE_BYTES, ChunkSize, Density, Span
from pipeline.corpus.blocks import Block
from pipeline.corpus.partitions import given_columns
from pipeline.corpus.rows import Columns, Reject, Rows, no_column
from pipeline.corpus.sniff.misnamed import check_document
from pipeline.corpus.tabular.declared import as_declared
from pipeline.corpus.texts import as_id, not_utf8, render
from pipeline.corpus.textual.lines import SHOWN_BYTES, too_long
from pipeline.corpus.textual.record import Kinds
from pipeline.errors import CorpusError
from pipeline.schema import kept_name

MARKDOWN = ".md"
SUFFIXES = (MARKDOWN, ".txt")
NAMES = ("id", "text", "title", "name", "path")
FRONT_MATTER = re.compile(r"---[ \t]*\r?\n.*?^(?:---|\.\.\.)[ \t]*\r?$", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r" {0,3}(```+|~~~+)")
HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*\n?")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*\n?")


class DocumentReader:
    """One text with the columns `text`, `title` (of Markdown its first heading, else `name`), `name` (that of the file
    without its ending), and `id` and `path` (that below the input)."""

    rows_have_places: ClassVar[bool] = True

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source
        self._given = {**given_columns(source), "name": PurePosixPath(source).stem, "id": source, "path": source}

    def column_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        """Return the columns that every document has, and those that its folders give; all of them are text."""
        with self._reading() as file:
            check_document(self._path, file.read(SHOWN_BYTES))
        found = dict.fromkeys((*NAMES, *self._given), pa.string())
        if missing := [name for name in (*needed, *columns.keep) if name not in found]:
            raise no_column(self._path, missing[0], tuple(found))
        return {**found}

    def head(self, columns: Columns) -> tuple[Rows, int]:
        """Return the document, and its bytes."""
        return self.read(Span(row_start=0, row_stop=1), columns), self._n_bytes()

    def place_at(self, share: float) -> int:
        """Return 0: a document is looked at whole."""
        return 0

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        """Yield the one row."""
        found, n_bytes = self.read(Span(row_start=0, row_stop=1), columns).text, self._n_bytes()
        text = found[0] if found else None
        yield Block(share=1.0, n_bytes=n_bytes, sizes=np.array([n_bytes]), texts=lambda rows: [text for _ in rows])

    def cut(
        self, gap: Span, density: Density, size: ChunkSize, *, is_open: bool, limit: int | None, kinds: Kinds
    ) -> Iterator[tuple[Span, bool]]:
        """Yield the one span of the file, where it is not done."""
        if gap.row_start == 0 and limit != 0:
            yield Span(row_start=0, row_stop=1, byte_stop=self._n_bytes()), True

    def byte_of(self, span: Span, row: int) -> int:
        """Return 0: no row begins inside of a document."""
        return 0

    def ends_at(self, span: Span) -> bool:
        """Whether the file has no row after a span."""
        return span.row_stop == 1

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Yield the number of the one row."""
        yield np.arange(1)

    def read(self, span: Span, columns: Columns) -> Rows:
        """Read the document."""
        rows = Rows(kept=pa.table({}))
        text = self._text()
        record: dict[str, str | None] = {**self._given}
        if not isinstance(text, Reject):
            record |= {"text": text, "title": self._title(text)}
        row_id = as_id(record.get(columns.id or "")) or f"{self._source}:0"
        found = text if isinstance(text, Reject) else render([record.get(name) for name in columns.text], columns)
        if isinstance(found, Reject):
            rows.rejects.append((0, row_id, found))
            return rows
        rows.row, rows.id, rows.text = [0], [row_id], [found]
        if columns.keep:
            rows.kept = self._kept(record, rows, columns)
        return rows

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _kept(self, record: Mapping[str, str | None], rows: Rows, columns: Columns) -> pa.Table:
        kept = {name: pa.array([record.get(name)], pa.string()) for name in columns.keep}
        return pa.table({kept_name(name): values for name, values in as_declared(kept, rows, 0, columns).items()})

    def _text(self) -> str | Reject:
        with self._reading() as file:
            data = file.read(MAX_LINE_BYTES + 1)
        if len(data) > MAX_LINE_BYTES:
            return too_long(data[:SHOWN_BYTES], self._n_bytes())
        try:
            return data.removeprefix(codecs.BOM_UTF8).decode()
        except UnicodeDecodeError as error:
            return not_utf8(error)

    def _title(self, text: str) -> str | None:
        heading = _first_heading(text) if self._source.lower().endswith(MARKDOWN) else ""
        return heading or self._given["name"]

    def _n_bytes(self) -> int:
        return self._path.stat().st_size

    @contextlib.contextmanager
    def _reading(self) -> Iterator[BinaryIO]:
        try:
            with self._path.open("rb") as file:
                yield file
        except OSError as error:
            raise CorpusError(f"{self._path}: expected a text that can be read, found: {error.strerror}") from error


def _first_heading(text: str) -> str:
    """Return the first heading of Markdown outside of code and front matter; "" for none.

    Source: CommonMark 0.31, ATX and setext headings.
    """
    front = FRONT_MATTER.match(text)
    fence, before = "", ""
    for line in io.StringIO(text[front.end() :] if front else text, newline=None):
        if found := FENCE.match(line):
            fence = "" if fence and found[1].startswith(fence) else fence or found[1]
        elif fence:
            continue
        elif found := HEADING.fullmatch(line):
            if found[1]:
                return found[1]
        elif before.strip() and UNDERLINE.fullmatch(line):
            return before.strip()
        before = line
    return ""
