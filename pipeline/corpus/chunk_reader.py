"""The chunk reader: the rows of a chunk, from readers that stay open for the next one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import pyarrow as pa

from pipeline.chunk import Shard, ShardSpan
from pipeline.corpus.reader import Reader, check_unchanged, reader_at
from pipeline.corpus.rows import ChunkRows, Columns, Rows
from pipeline.corpus.tabular.table import joined
from pipeline.errors import CorpusError

KEPT = 2  # readers that are open: as many chunks are in flight


class _Open(NamedTuple):
    """A reader that waits for its next span."""

    key: tuple[Path, Shard]
    row: int  # behind the last one that it has read
    reader: Reader


class ChunkReader:
    """Reads chunks, from any thread. It keeps the last KEPT readers open until it is closed."""

    def __init__(self) -> None:
        self._open: list[_Open] = []  # the last one is the newest
        self._turns = threading.Condition()
        self._n_reading = 0
        self._kept_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, root: Path, columns: Columns, spans: Sequence[ShardSpan]) -> ChunkRows:
        """Return the rows of spans, one after the other; raises CorpusError when a shard changes, before or while it
        is read."""
        found = ChunkRows(sources=tuple(dict.fromkeys(each.source for each in spans)))
        kept: list[pa.Table] = []
        with self._reading():
            for each in spans:
                try:
                    rows = self._read(root, columns, each)
                except CorpusError as error:
                    error.source = each.source
                    raise
                found.add(each.source, rows)
                if rows.kept.num_columns:
                    kept.append(rows.kept)
        found.kept = joined(kept)
        return found

    def _read(self, root: Path, columns: Columns, wanted: ShardSpan) -> Rows:
        key, path = (root, wanted.shard), root / wanted.source
        check_unchanged(path, wanted.shard)
        reader = self._take(key, wanted.span.row_start) or reader_at(path, wanted.source)
        try:
            rows = reader.read(wanted.span, columns)
            check_unchanged(path, wanted.shard)
        except BaseException:
            reader.close()
            raise
        self._keep(_Open(key, wanted.span.row_stop, reader))
        return rows

    def _take(self, key: tuple[Path, Shard], row: int) -> Reader | None:
        """Return the reader that a row comes next for, or else the one that is farthest behind: of two chunks in flight
        the later one may be read first, and the other reader waits for the earlier one."""
        with self._turns:
            behind = [each for each in self._open if each.key == key and each.row <= row]
            if not behind:
                return None
            found = next((each for each in behind if each.row == row), min(behind, key=lambda each: each.row))
            self._open.remove(found)
        return found.reader

    def _keep(self, *readers: _Open) -> None:
        """Keep readers, and close the oldest above KEPT, or all others where there are none to keep."""
        with self._turns:
            found = [*self._open, *readers]
            n_closed = max(0, len(found) - KEPT) if readers else len(found)
            left, self._open = found[:n_closed], found[n_closed:]
        for each in left:
            each.reader.close()

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Keep every file closed meanwhile, as a volume needs it while it reloads: reads under way end first, and
        others wait."""
        with self._turns:
            self._turns.wait_for(lambda: not self._kept_closed)
            self._kept_closed = True
            self._turns.wait_for(lambda: not self._n_reading)
        try:
            self.close()
            yield
        finally:
            with self._turns:
                self._kept_closed = False
                self._turns.notify_all()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with self._turns:
            self._turns.wait_for(lambda: not self._kept_closed)
            self._n_reading += 1
        try:
            yield
        finally:
            with self._turns:
                self._n_reading -= 1
                self._turns.notify_all()

    def close(self) -> None:
        """Close the files that are open; a later read opens them again."""
        self._keep()
