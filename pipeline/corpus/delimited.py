"""CSV and TSV, plain or packed: RFC 4180 with a header, cut into spans between records and parsed by pyarrow."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from pipeline.chunk import MAX_LINE_BYTES, Span
from pipeline.corpus.rows import Columns, Reject, Rows
from pipeline.corpus.sniff.misnamed import check_table
from pipeline.corpus.stream import PACKINGS, Cursor
from pipeline.corpus.tabular.table import Table, joined
from pipeline.corpus.texts import odd_byte
from pipeline.corpus.textual.byte_reader import ByteReader
from pipeline.corpus.textual.lines import HEAD_BYTES, SHOWN_BYTES, Ends, read_head, too_long
from pipeline.corpus.textual.record import UTF8_BOM, Kinds
from pipeline.corpus.textual.records import Records, first_record, record_ends, split
from pipeline.errors import CorpusError
from pipeline.files import readable

BATCH_ROWS = 4096
CSV_SUFFIXES = tuple(f".csv{packing}" for packing in PACKINGS)
TSV_SUFFIXES = tuple(f".tsv{packing}" for packing in PACKINGS)


class CsvReader(ByteReader):
    """A file of records, the first of which names the columns. All values are texts; an empty line is no row."""

    delimiter: ClassVar[str] = ","

    def __init__(self, path: Path, source: str) -> None:
        super().__init__(path, source)
        self._table = Table(path, source)
        self._known: _Header | None = None

    def column_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        """Return the columns of the header, each of which is text; none of a file without a record."""
        schema = self._header().schema
        if not schema.names:
            return {}
        try:
            return self._table.column_types(schema, columns, needed)
        except CorpusError:
            check_table(self._path, read_head(self._path), self.delimiter)
            raise

    def row_ends(
        self, blocks: Iterator[bytes], start: int, *, is_open: bool, kinds: Kinds, limit: int | None
    ) -> Iterator[Ends]:
        """Yield where records end, see `record_ends`; their values are texts, which adds nothing to `kinds`."""
        return record_ends(blocks, start, self.delimiter)

    def first_row_in(self, data: bytes, columns: Columns) -> int:
        """Return where the first record begins: of the two ways to take the quotes, by the one with fewer mistakes."""
        mistakes: dict[int, int] = {}
        for is_quoted in (False, True):
            records = Records(self.delimiter, is_quoted=is_quoted)
            _, stops = records.ends(data)
            if len(stops) > 1:
                wrong = self._parse(data[stops[0] : stops[-1]], columns, encoding="latin-1")[1]
                mistakes[int(stops[0])] = len(wrong) + records.n_odd
        return min(mistakes, key=lambda stop: mistakes[stop], default=len(data))

    def read(self, span: Span, columns: Columns) -> Rows:
        """Read the rows of a span; one of too many or too few values, or whose last quote is missing, is a reject."""
        rows = Rows(kept=pa.table({}))
        if not span.n_rows:
            return rows
        header = self._header()
        with self._at(span) as cursor:
            if span.byte_start == 0:
                cursor.read(header.n_bytes)
            n_bytes = span.byte_stop - cursor.position
            if span.n_rows == 1 and n_bytes > MAX_LINE_BYTES + 1:
                self._reject(rows, span.row_start, too_long(cursor.read(SHOWN_BYTES), n_bytes))
                cursor.skip_to(span.byte_stop)
                return rows
            data = cursor.read(n_bytes)
        with readable(self._path, f" rows {span.row_start}-{span.row_stop - 1}", "records that can be read"):
            kept = self._whole(rows, data, span, columns)
            rows.kept = kept if kept is not None else self._piecewise(rows, data, span, columns)
        return rows

    def _whole(self, rows: Rows, data: bytes, span: Span, columns: Columns) -> pa.Table | None:
        """Add the rows of records all of which are right; nothing where one is not, or is blank, or does not end."""
        n_columns = len(self._header().schema)
        last = b"\n" + (self.delimiter * (n_columns - 1) or "x").encode() + b"\n"  # a quote that is open takes it in
        if not _is_unicode(data):
            return None
        table, wrong = self._parse(data + last, columns)
        if wrong or len(table) != span.n_rows + 1:
            return None
        return self._added(rows, np.arange(span.row_start, span.row_stop), table.slice(0, span.n_rows), columns)

    def _piecewise(self, rows: Rows, data: bytes, span: Span, columns: Columns) -> pa.Table:
        """Add the rows of records some of which may be wrong; raises CorpusError where their number is another."""
        stops, blank, is_open = split(data, self.delimiter)
        if len(stops) != span.n_rows:
            raise CorpusError(
                f"{self._path} rows {span.row_start}-{span.row_stop - 1}: expected {span.n_rows:,} records, found "
                f"{len(stops):,}; run again to embed it as it is now"
            )
        starts = np.concatenate([[0], stops[:-1]])
        numbers = np.flatnonzero(~blank)
        if is_open:
            self._malformed(rows, span.row_start + len(stops) - 1, data[starts[-1] :], "a quote that is not closed")
            data, numbers = data[: starts[-1]], numbers[:-1]
        table, wrong = self._parsed(data, starts[numbers], stops[numbers], columns)
        good = np.delete(numbers, list(wrong)) + span.row_start
        if len(good) != len(table):
            raise ValueError(f"{len(table)} of {len(good)} records")
        for at, n_values in wrong.items():
            row, n_columns = int(numbers[at]), len(self._header().schema)
            found = f"expected {n_columns} values, found {n_values}"
            self._malformed(rows, span.row_start + row, data[starts[row] : stops[row]], found)
        return self._added(rows, good, table, columns)

    def _added(self, rows: Rows, numbers: NDArray[np.int64], table: pa.Table, columns: Columns) -> pa.Table:
        """Add the rows of a table, and return the kept columns of those that have a text."""
        batches = zip(range(0, len(numbers), BATCH_ROWS), table.to_batches(BATCH_ROWS), strict=True)
        return joined(
            self._table.add(rows, numbers[first : first + BATCH_ROWS].tolist(), batch, columns)
            for first, batch in batches
        )

    def _parsed(
        self, data: bytes, starts: NDArray[np.int64], stops: NDArray[np.int64], columns: Columns
    ) -> tuple[pa.Table, dict[int, int]]:
        """Return the columns that are needed of the records with as many values as there are columns, and of each other
        record, by its number, how many it has. `starts` and `stops` are those of the records that are not blank."""
        if _is_unicode(data):
            return self._parse(data, columns)
        _, wrong = self._parse(data, columns, encoding="latin-1")  # of a wrong record it tells the text, as UTF-8
        good = np.delete(np.arange(len(starts)), list(wrong))
        table, _ = self._parse(b"".join(data[starts[at] : stops[at]] for at in good), columns)
        return table, wrong

    def _parse(self, data: bytes, columns: Columns, encoding: str = "utf8") -> tuple[pa.Table, dict[int, int]]:
        wrong: dict[int, int] = {}

        def pass_over(row: arrow_csv.InvalidRow) -> str:
            wrong[row.number - 1] = row.actual_columns
            return "skip"

        schema = self._header().schema
        names = self._table.names_in(schema, columns)
        places = [str(schema.names.index(name)) for name in names]
        if not data:
            return pa.table({name: pa.array([], pa.binary()) for name in names}), {}
        table = arrow_csv.read_csv(
            pa.BufferReader(b"\n" * data.startswith(UTF8_BOM) + data),  # it would take a BOM away
            arrow_csv.ReadOptions(
                column_names=list(map(str, range(len(schema)))),
                use_threads=False,
                block_size=2 * len(data) + 2,  # of UTF-8: between two blocks it takes odd quotes otherwise
                encoding=encoding,
            ),
            arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=pass_over),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.binary()), include_columns=places, strings_can_be_null=False
            ),
        )
        return table.rename_columns(names).combine_chunks(), wrong

    def _header(self) -> _Header:
        self._known = self._known or _Header.read(self._path, self.delimiter)
        return self._known

    def _malformed(self, rows: Rows, row: int, record: bytes, detail: str) -> None:
        text = record.decode(errors="replace").rstrip("\r\n")
        self._reject(rows, row, Reject(reason="malformed_row", detail=detail, text=text))

    def _reject(self, rows: Rows, row: int, why: Reject) -> None:
        rows.rejects.append((row, f"{self._source}:{row}", why))


def _is_unicode(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class TsvReader(CsvReader):
    """CSV with tabs in the place of commas."""

    delimiter: ClassVar[str] = "\t"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """The first record of a file."""

    schema: pa.Schema  # of its names, all of them text; none where there is no record
    n_bytes: int  # up to the next record

    @classmethod
    def read(cls, path: Path, delimiter: str) -> _Header:
        """Read the header of a file; raises CorpusError for one that is too long or not in UTF-8."""
        with contextlib.closing(Cursor(path)) as cursor:
            data = cursor.read(HEAD_BYTES)
        start, stop = first_record(data, delimiter, is_all=len(data) < HEAD_BYTES)
        try:
            if stop > HEAD_BYTES:
                raise ValueError("a longer one")
            text = data[start:stop].decode().rstrip("\r\n")
            names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except (ValueError, csv.Error) as error:
            check_table(path, read_head(path), delimiter)
            raise CorpusError(
                f"{path}: expected a first record in UTF-8 of at most {HEAD_BYTES:,} bytes that names the columns, "
                f"found: {odd_byte(error) if isinstance(error, UnicodeDecodeError) else error}"
            ) from error
        return cls(schema=pa.schema([(name, pa.string()) for name in names]), n_bytes=stop)
