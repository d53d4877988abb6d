"""Streams: the bytes of a file of lines, decompressed and in pieces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.chunk import Span
from pipeline.corpus import parked
from pipeline.errors import CorpusError

BLOCK_BYTES = 4 << 20
COMPRESSION = {".gz": "gzip", ".zst": "zstd"}


def read_blocks(path: Path, start: int, stop: int | None) -> Iterator[bytes]:
    """Yield the bytes [start, stop) of a file in pieces; without a stop all from `start` on."""
    with contextlib.closing(_Cursor(path)) as cursor:
        cursor.skip_to(start)
        while block := cursor.read(BLOCK_BYTES if stop is None else min(BLOCK_BYTES, stop - cursor.position)):
            yield block


class _Cursor:
    """A position in the decompressed bytes of a file, which moves forward only unless the file is plain."""

    def __init__(self, path: Path) -> None:
        self._path = path
        compression = COMPRESSION.get(path.suffix.lower())
        self.is_packed = compression is not None
        with self._translated():
            if compression is None:
                self._stream = path.open("rb")
            else:
                self._stream = pa.input_stream(str(path), compression=compression, buffer_size=1 << 20)
        self.position = 0

    def read(self, n_bytes: int) -> bytes:
        with self._translated():
            data: bytes = self._stream.read(n_bytes)
        self.position += len(data)
        return data

    def skip_to(self, position: int) -> None:
        if not self.is_packed:
            self._stream.seek(position)
            self.position = position
        while self.position < position and self.read(min(BLOCK_BYTES, position - self.position)):
            pass

    def close(self) -> None:
        self._stream.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise CorpusError(f"{self._path}: expected a readable file of lines, found: {error}") from error


def read_span(path: Path, span: Span) -> bytes:
    """Return the bytes of a span; raises CorpusError when the file has fewer."""
    try:
        stat = path.stat()
    except OSError as error:
        raise CorpusError(f"{path}: expected a file of the input, found: {error.strerror}") from error
    key = (path, stat.st_size, stat.st_mtime_ns)
    cursor: _Cursor | None = parked.take(key)
    if cursor is not None and cursor.position > span.byte_start:
        cursor.close()
        cursor = None
    cursor = cursor or _Cursor(path)
    with contextlib.ExitStack() as on_leaving:
        on_leaving.callback(cursor.close)
        cursor.skip_to(span.byte_start)
        data = cursor.read(span.byte_stop - span.byte_start)
        if len(data) < span.byte_stop - span.byte_start:
            raise CorpusError(
                f"{path}: expected {span.byte_stop:,} bytes of lines, found {cursor.position:,}; run again"
            )
        if cursor.is_packed:
            parked.park(key, cursor)
            on_leaving.pop_all()
    return data
